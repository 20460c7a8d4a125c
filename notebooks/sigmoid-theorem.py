# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The sigmoid theorem
#
# ## What you will see
#
# A network of logistic sigmoids can carry a signal through great depth only at enormous weights:
# the weight variance must exceed 103, where tanh needs 1. The paper states this as a theorem and
# reads the decisive number off a computation. This chapter turns that reading into a proof:
#
# - four short lemmas, each an argument of two or three lines, that reduce the theorem to a handful
#   of strict inequalities between Gaussian integrals;
# - those inequalities decided in *ball arithmetic*, where every number is an interval that is
#   certain to hold the true value, and collected in a certificate that can be checked again, at
#   another precision, from its text alone;
# - the paper's figure 5 drawn with the certified crossing in it, and the whole critical line;
# - the misprints of the printed proof, each shown by a computation, and a guess at the origin of one;
# - what the theorem says about training, and what it does not.

# %% tags=["parameters"]
seed: int = 0  # seed of the random settings below the bound [0, 1000000]
device: str = "cpu"  # every chapter takes one; nothing here runs on a GPU {auto, cpu, cuda}
scale: str = "quick"  # what the figures are called; both scales are exact here {quick, paper}
digits: int = 30  # significant decimals of the certified bounds [10, 60]
sigma_w2_max: float = 200.0  # largest weight variance drawn [110, 10000]
sigma_b2_max: float = 25.0  # largest bias variance drawn [0.1, 10000]
n_networks: int = 10000  # random settings tried below the bound [100, 1000000]

# %% tags=["hide-input"]
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np
from flint import arb, fmpq_series
from IPython.display import Markdown
from numpy.polynomial import Polynomial
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import expit

from mflib import report
from mflib.report import figures
from mflib.theory import mean_field, sigmoid

report.begin("sigmoid-theorem", seed=seed, device="cpu", scale=scale)
BLUE, ORANGE, GREEN, PURPLE = figures.CYCLE[:4]

# %% [markdown]
# ## What the paper claims
#
# The paper {cite}`pabari2024meanfield` asks whether the mean-field theory of signal propagation
# {cite}`poole2016exponential,schoenholz2017deep`, worked out for tanh, carries over to other
# activation functions. For the logistic sigmoid it answers no, and proves (its Theorem 1) that
# wherever a sigmoid network is critical, $\chi_1 = 1$, its weight variance satisfies
# $\sigma_w^2 \gtrsim 100$, whatever the bias variance $\sigma_b^2 \ge 0$. Its figure 5 shows
# $\chi_1$ against $\sigma_w^2$ without biases, crossing 1 near 103. From this it concludes that the
# resulting variances are "simply unfeasible for any neural network to learn from".
#
# The printed proof runs as follows. Criticality asks for a large $\mathbb E\,\varphi'(\sqrt q z)^2$;
# that integral falls with $q$, so the smallest $\sigma_w^2$ goes with the smallest fixed point
# $q^*$; the smallest $q^*$ goes with $\sigma_b^2 = 0$; and there a "numerical computation" gives the
# number. Two things are missing for a proof: a reason why $q^*$ is smallest at $\sigma_b^2 = 0$
# when $\sigma_w^2$ is not held fixed but tied to $q^*$ by $\chi_1 = 1$, and an error bound on the
# numerical computation.

# %% [markdown]
# ## Theory
#
# Let $\varphi(x) = 1/(1+e^{-x})$ and $z \sim \mathcal N(0, 1)$. In a wide random network with weight
# variance $\sigma_w^2$ and bias variance $\sigma_b^2$, the variance $q$ of the pre-activations
# settles at a fixed point of the length map, and small perturbations grow or shrink from layer to
# layer by the factor $\chi_1$:
#
# ```{math}
# :label: eq-sig-fixed-point
# q = \sigma_w^2\, V(q) + \sigma_b^2, \qquad V(q) = \mathbb E\,\varphi(\sqrt q\, z)^2,
# ```
#
# ```{math}
# :label: eq-sig-chi
# \chi_1 = \sigma_w^2\, X(q), \qquad X(q) = \mathbb E\,\varphi'(\sqrt q\, z)^2 .
# ```
#
# The sigmoid solves $\varphi' = \varphi - \varphi^2$, and $\mathbb E\,\varphi(\sqrt q z) = 1/2$ by
# symmetry, so the length integral follows from the mean slope,
#
# ```{math}
# :label: eq-sig-v
# V(q) = \tfrac12 - S(q), \qquad S(q) = \mathbb E\,\varphi'(\sqrt q\, z),
# \qquad \varphi'(x) = \tfrac14 \operatorname{sech}^2(x/2).
# ```
#
# Now solve {eq}`eq-sig-chi` with $\chi_1 = 1$ for $\sigma_w^2$ and put it into
# {eq}`eq-sig-fixed-point`. A network is critical with fixed point $q$ exactly when
#
# ```{math}
# :label: eq-sig-line
# \sigma_w^2 = \frac{1}{X(q)}, \qquad \sigma_b^2 = B(q) := q - \frac{V(q)}{X(q)} \ \ge\ 0 .
# ```
#
# So one number, $q$, runs along the whole critical line, and the theorem is a statement about two
# functions of it: how small can $1/X(q)$ be while $B(q) \ge 0$?

# %% [markdown]
# ## The proof
#
# ### Four lemmas
#
# **Lemma 1 (monotone).** *$X$ and $S$ fall strictly with $q$, and $V$ rises strictly.*
# The slope $\varphi'(x)$ falls strictly with $|x|$, so $\varphi'(\sqrt q z)$ falls strictly with $q$
# for every $z \ne 0$. Hence the critical weight variance $1/X(q)$ rises strictly with $q$: **the
# smallest $\sigma_w^2$ belongs to the smallest $q$ with $B(q) \ge 0$.**
#
# **Lemma 2 (one fixed point).** *For every $\sigma_w^2 > 0$ and $\sigma_b^2 \ge 0$, the length map
# {eq}`eq-sig-fixed-point` has exactly one fixed point $q^*$; it attracts every start, and rises
# with $\sigma_w^2$ and with $\sigma_b^2$.* From $\varphi(x) = \frac12(1 + \tanh\frac x2)$,
#
# ```{math}
# :label: eq-sig-concave
# V(q) = \tfrac14 + \tfrac14\, \mathbb E\, h(q z^2), \qquad h(y) = \tanh^2 \frac{\sqrt y}{2}, \qquad
# h'(y) = \frac14\, \frac{\tanh u}{u}\, \operatorname{sech}^2 u, \quad u = \frac{\sqrt y}{2} .
# ```
#
# Both $\tanh u / u$ and $\operatorname{sech}^2 u$ are positive and fall strictly for $u > 0$, so
# $h'$ falls: $h$ is strictly concave, and so is $V$. The difference
# $\sigma_w^2 V(q) + \sigma_b^2 - q$ is then strictly concave too, positive at $q = 0$ (where
# $V = \frac14$) and negative for large $q$ (where $V < \frac12$); such a function has exactly one
# root, and crosses it downwards: $\sigma_w^2 V'(q^*) < 1$. Since the length map also rises
# with $q$, its iterates approach $q^*$ monotonically from either side. Raising $\sigma_w^2$ or
# $\sigma_b^2$ lifts the whole difference and moves the root up.
#
# **Lemma 3 (nothing spreads faster than its Gaussian).** *$\sqrt q\, X(q)$ and $\sqrt q\, S(q)$ rise
# strictly with $q$.* Substitute $x = \sqrt q z$:
#
# ```{math}
# :label: eq-sig-spread
# \sqrt q\, X(q) = \int \varphi'(x)^2\, e^{-x^2/2q}\, \frac{dx}{\sqrt{2\pi}},
# \qquad\text{hence}\qquad -X'(q) < \frac{X(q)}{2q}, \qquad V'(q) = -S'(q) < \frac{S(q)}{2q} .
# ```
#
# The integrand rises with $q$ at every $x \ne 0$; the same holds for $S$. The two inequalities are
# what "rises" means for a product with $\sqrt q$.
#
# **Lemma 4 (slope of $B$).** Put Lemma 3 into the derivative of $V/X$ and use $S + V = \frac12$:
#
# ```{math}
# :label: eq-sig-slope
# \Bigl(\frac VX\Bigr)' = \frac{V'}{X} - \frac{V X'}{X^2} < \frac{S + V}{2 q X} = \frac{1}{4 q X},
# \qquad\text{so}\qquad B'(q) > 1 - \frac{1}{4\, q X(q)} .
# ```
#
# *If $q_1 X(q_1) > \frac14$ at one point $q_1$, then $B$ rises strictly on all of $[q_1, \infty)$,*
# because $q X(q) = \sqrt q \cdot \sqrt q X(q)$ rises with $q$ by Lemma 3. **A single evaluation of
# one integral settles a half-line**; no asymptotic expansion is needed.
#
# The same two inequalities settle the shape of figure 5. At fixed $\sigma_b^2$ the network with
# fixed point $q$ has $\sigma_w^2 = (q - \sigma_b^2)/V(q)$, which rises with $q$ by Lemma 2, and
#
# ```{math}
# :label: eq-sig-crossing
# \chi_1 = \Bigl(1 - \frac{\sigma_b^2}{q}\Bigr) \frac{q X(q)}{V(q)}, \qquad
# \frac{d}{dq} \ln \frac{qX}{V} > \frac{V - S}{2 q V} = \frac{\mathbb E \tanh^2(\sqrt q z/2)}{4 q V} > 0 .
# ```
#
# So on every line of constant $\sigma_b^2$, $\chi_1$ rises strictly with $\sigma_w^2$, from 0 and
# without bound ($qX/V \ge 2\sqrt q\,X(1)$ for $q \ge 1$): it is 1 exactly once, and the critical line
# is the graph of a function of $\sigma_b^2$.

# %% [markdown]
# ### What the computer decides
#
# Three inequalities are left, each about the values of $V$ and $X$ at finitely many points. They are
# decided in ball arithmetic with Arb {cite}`johansson2017arb`: every number is a ball, midpoint
# plus or minus radius, and each operation returns a ball that holds every possible result, rounding
# included. Arb's integrator does the same for integrals of analytic functions; the two tails of the
# Gaussian beyond a cutoff $L$ lie between 0 and $f(\sqrt q L) \operatorname{erfc}(L/\sqrt2)$, since
# $f$ falls with $|x|$, and that ball is added. "$a < b$" is true only if the whole ball of $a$ lies
# below the whole ball of $b$.

# %%
certificate = sigmoid.minimum_critical_sigma_w2(digits=digits)

# %% [markdown]
# **(a) No critical network below $q_1$.** Evaluating $B$ on a wide ball of $q$ would give a useless
# answer, because the two terms of $B$ grow together and ball arithmetic does not know it.
# Monotony does better: $V/X$ rises (Lemma 1), so on $a \le q \le b$
#
# ```{math}
# :label: eq-sig-box
# B(q) \ \le\ b - \frac{V(a)}{X(a)},
# ```
#
# which needs $V$ and $X$ at the single point $a$. Starting from $a = 0$, where
# $V/X = \frac14 / \frac1{16} = 4$, every box may reach almost to $V(a)/X(a)$, and a few of them are
# enough.
#
# **(b) Beyond $q_1$, $B$ rises.** By Lemma 4 this is $q_1 X(q_1) > \frac14$.
#
# **(c) The root is bracketed.** $B < 0$ at one decimal number and $B > 0$ at another, very close.
#
# Together: $B < 0$ on $[0, q_1]$ by (a), and on $[q_1, \infty)$ it rises by (b), from negative to
# positive by (c). So $B$ has exactly one root $q^*$, it lies in the bracket, and
# $B(q) \ge 0$ means $q \ge q^*$. Here is every inequality that was decided, with the lemmas each
# step rests on.

# %% tags=["hide-input"]


def short(decimal: str, places: int = 12, tail: int = 0) -> str:
    """Cut a long decimal for display; the certificate holds all of it."""
    whole, _, part = decimal.partition(".")
    end = part[len(part) - tail :]
    return decimal if len(part) <= places + tail else f"{whole}.{part[:places]}…{end}"


def both_ends(decimal: str) -> str:
    """Keep the last decimals, where the two sides of a narrow bracket differ."""
    return short(decimal, places=6, tail=4)


# the lemma of this page that holds each of the certificate's
LEMMA = {"monotone": 1, "concave": 2, "spread": 3, "slope": 4, "crossing": 4}
rows = ["| step | quantity | relation | on | lemmas |", "| --- | --- | --- | --- | --- |"]
for claim in certificate.claims:
    for box in claim.boxes:
        end = "∞)" if box.hi == "inf" else f"{both_ends(box.hi)}]"
        interval = f"[{both_ends(box.lo)}, {end}" if box.lo != box.hi else both_ends(box.lo)
        rows.append(
            f"| {claim.name} | {box.quantity} | {box.relation} {both_ends(box.bound)} "
            f"| {interval} | {', '.join(str(LEMMA[name]) for name in claim.lemmas)} |"
        )
Markdown("\n".join(rows))

# %% tags=["hide-input"]
q_1 = float(next(box.lo for box in certificate.boxes if box.quantity == "q X(q)"))
cover = [box for box in certificate.boxes if box.quantity == "B(q)" and box.lo != box.hi]
q = np.linspace(0, 70, 141)
b = np.array([float(sigmoid.bias_variance(x, bits=64)) for x in q])
q_turn, b_least = q[b.argmin()], b.min()

fig, ax = plt.subplots(figsize=(7.2, 4.2))
ax.axhline(0, color="0.45", lw=1)
ax.axvspan(q_1, q[-1], color=GREEN, alpha=0.10, lw=0)
for index, box in enumerate(cover):
    lo, hi, bound = float(box.lo), float(box.hi), float(box.bound)
    ax.fill_between([lo, hi], b.min() - 2, bound, color=ORANGE, alpha=0.22, lw=0)
    ax.plot(
        [lo, hi],
        [bound, bound],
        color=ORANGE,
        lw=2.5,
        solid_capstyle="butt",
        label="proved bound on each box" if index == 0 else None,
    )
ax.plot(q, b, color=BLUE, lw=2.2, label=r"$B(q) = q - V(q)/X(q)$")
ax.plot([certificate.q], [0], "o", ms=8, color="black", zorder=5)
ax.annotate(
    rf"$q^* = {certificate.q:.4f}$",
    (certificate.q, 0),
    xytext=(-12, 12),
    textcoords="offset points",
    ha="right",
)
ax.text(q_1 + 1, b.min() - 1.5, r"$q X(q) > \frac{1}{4}$: $B$ rises", color="#00553D", va="bottom")
ax.set(
    xlim=(0, q[-1]),
    ylim=(b.min() - 2, b.max() + 1),
    xlabel=r"pre-activation variance $q$",
    ylabel=r"critical bias variance $\sigma_b^2 = B(q)$",
)
ax.legend(loc="upper left")
report.figure(
    fig,
    "sig-boxes",
    caption=(
        "The bias variance $B(q)$ that a sigmoid network with fixed point $q$ needs to be "
        f"critical. The orange boxes prove $B < 0$ up to $q_1 = {q_1:g}$; beyond it, in the green "
        f"part, $B$ rises; so its only root is $q^* \\approx {certificate.q:.4f}$. "
        f"$B$ is not monotone: it falls from $-4$ to about ${b_least:.2f}$ near "
        f"$q = {q_turn:g}$."
    ),
    alt=(
        f"Curve of B(q) for q from 0 to {q[-1]:g}: it starts at -4, falls to {b_least:.2f} near "
        f"q = {q_turn:g} and then rises through zero at q = {certificate.q:.4f}. "
        f"{len(cover)} boxes with bounds below zero cover 0 to {q_1:g}."
    ),
)

# %% [markdown]
# ### The theorem, as proved
#
# By Lemma 1, every critical network has $\sigma_w^2 = 1/X(q) \ge 1/X(q^*)$, with equality only at
# $q = q^*$, that is at $\sigma_b^2 = 0$; and $1/X$ at the two ends of the bracket encloses the value.

# %% tags=["hide-input"]
width = Fraction(certificate.upper) - Fraction(certificate.lower)
Markdown(
    "**Theorem.** *Let the logistic sigmoid network have $\\sigma_w^2 > 0$, $\\sigma_b^2 \\ge 0$ and "
    "$\\chi_1 = 1$ at its fixed point $q^*$, which is unique. Then*\n\n"
    f"$$\\sigma_w^2 \\ \\ge\\ m, \\qquad {certificate.lower} < m < {certificate.upper},$$\n\n"
    "*with equality exactly when $\\sigma_b^2 = 0$, where*\n\n"
    f"$${certificate.q_lower} < q^* < {certificate.q_upper} .$$\n\n"
    f"The bounds on $m$ lie {float(width):.0e} apart. {len(certificate.boxes)} inequalities were "
    f"decided at {certificate.bits} bits in {certificate.seconds:.2f} s."
)

# %% [markdown]
# A certificate is worth what its check is worth. `verify` trusts nothing but the text: it rebuilds
# the list of claims that the bounds must follow from, compares, checks that the boxes join without a
# gap, and decides each inequality afresh at another precision. A bound that claims one unit more
# in its last decimal does not pass.

# %%
verified = {bits: certificate.verify(bits=bits) for bits in (certificate.bits + 32, 512)}
last_unit = Fraction(1, 10 ** (digits - 3))
too_high = sigmoid.Box(
    certificate.q_lower, "inf", "1/X(q)", ">", str(Fraction(certificate.lower) + last_unit)
)
verified, too_high.holds(bits=512)

# %% [markdown]
# What has to be trusted: the lemmas above, which are short enough to check by hand; Arb's
# arithmetic and integrator, the compiler and the machine. What need not be: any quadrature rule,
# any root finder (a bad root would only fail to be bracketed), any figure.

# %% [markdown]
# ## Experiment: the same numbers by other routes
#
# The rest of the book computes in double precision, with `mflib.theory.mean_field`, which shares no
# line with the proof. The paper's figure 5 first: the curve is computed point by point from the
# length map's fixed point, the crossing is the certified one.

# %% tags=["hide-input"]
sigma_w2 = np.linspace(1.0, sigma_w2_max, 400)
without_bias = mean_field.fixed_point("sigmoid", sigma_w2, 0.0)
printed = 103.05
chi_printed = float(mean_field.fixed_point("sigmoid", printed, 0.0).chi_1)
near = np.linspace(102.95, 103.10, 31)
chi_near = mean_field.fixed_point("sigmoid", near, 0.0).chi_1

fig, ax = plt.subplots(figsize=(7.2, 4.4))
ax.axhline(1, color="0.55", lw=1.2)
ax.plot(sigma_w2, without_bias.chi_1, color=BLUE, lw=2.2)
ax.plot([certificate.sigma_w2], [1], "o", ms=7, color="black", zorder=5)
ax.annotate(
    rf"$\sigma_w^2 = {certificate.sigma_w2:.4f}$",
    (certificate.sigma_w2, 1),
    xytext=(-10, 10),
    textcoords="offset points",
    ha="right",
)
ax.text(sigma_w2_max * 0.99, 1.015, r"chaotic, $\chi_1 > 1$", ha="right", va="bottom", color="0.3")
ax.text(sigma_w2_max * 0.01, 0.985, r"ordered, $\chi_1 < 1$", ha="left", va="top", color="0.3")
ax.set(
    xlim=(0, sigma_w2_max),
    ylim=(0, None),
    xlabel=r"weight variance $\sigma_w^2$",
    ylabel=r"susceptibility $\chi_1$",
)
inset = ax.inset_axes((0.56, 0.13, 0.41, 0.42))
inset.axhline(1, color="0.55", lw=1.2)
inset.plot(near, chi_near, color=BLUE, lw=2)
inset.plot([certificate.sigma_w2], [1], "o", ms=6, color="black")
inset.axvline(printed, color=ORANGE, ls="--", lw=1.6)
inset.text(
    printed + 0.004, chi_near.min(), "printed\n103.05", color="#9C4500", fontsize=9, va="bottom"
)
inset.set_xlim(near[0], near[-1])
inset.set_xticks([102.95, 103.0, 103.05, 103.1])
inset.ticklabel_format(useOffset=False)
inset.tick_params(labelsize=9)
inset.set_title("near the crossing", fontsize=10)
report.figure(
    fig,
    "sig-susceptibility",
    scale="exact",
    caption=(
        "The susceptibility $\\chi_1$ of a sigmoid network without biases, $\\sigma_b^2 = 0$, "
        "against its weight variance (the paper's figure 5). It rises strictly and crosses 1 once, "
        f"at the certified $\\sigma_w^2 = {certificate.sigma_w2:.4f}$; at the printed 103.05 it is "
        f"already {chi_printed:.6f}."
    ),
    alt=(
        "Rising concave curve of the susceptibility against weight variance from 1 to "
        f"{sigma_w2_max:g}; it crosses 1 at {certificate.sigma_w2:.4f}. An inset around the "
        "crossing shows the printed value 103.05 to the right of it."
    ),
)

# %% [markdown]
# The critical line in the plane of both variances, once from the proof's parametrisation
# {eq}`eq-sig-line` and once from `critical_sigma_w2`, which searches for $\chi_1 = 1$ at given
# $\sigma_b^2$:

# %% tags=["hide-input"]
q_line = np.geomspace(certificate.q, certificate.q + 2.5 * sigma_b2_max + 10, 60)
b_line = np.array([float(sigmoid.bias_variance(x, bits=64)) for x in q_line])
w_line = np.array([float(1 / sigmoid.mean_square_slope(x, bits=64)) for x in q_line])
b_line[0] = 0.0
searched = mean_field.critical_sigma_w2("sigmoid", np.linspace(0, sigma_b2_max, 9))
difference = abs(float(searched.sigma_w2[0]) / certificate.sigma_w2 - 1)
top = 1.15 * np.interp(sigma_b2_max, b_line, w_line)

fig, ax = plt.subplots(figsize=(7.2, 4.4))
ax.fill_between(b_line, 0, w_line, color=BLUE, alpha=0.12, lw=0)
ax.fill_between(b_line, w_line, 2 * top, color=ORANGE, alpha=0.12, lw=0)
ax.plot(b_line, w_line, color="black", lw=2, label=r"$(B(q),\,1/X(q))$, $q \geq q^*$")
ax.plot(
    searched.sigma_b2,
    searched.sigma_w2,
    "o",
    ms=7,
    mfc="white",
    mec=PURPLE,
    mew=1.8,
    label="critical_sigma_w2, double precision",
)
ax.axhline(
    certificate.sigma_w2,
    color=GREEN,
    ls="--",
    lw=1.6,
    label=rf"certified minimum ${certificate.sigma_w2:.4f}$",
)
ax.axhspan(1, 4, color=PURPLE, alpha=0.45, lw=0)
ax.text(
    sigma_b2_max * 0.98,
    5,
    "where the paper trains: 1 to 4",
    ha="right",
    va="bottom",
    color="#7A3B5E",
)
ax.text(sigma_b2_max * 0.03, top * 0.93, "chaotic", va="top", fontsize=13, color="#9C4500")
ax.text(sigma_b2_max * 0.03, top * 0.35, "ordered", va="top", fontsize=13, color="#00507D")
ax.set(
    xlim=(0, sigma_b2_max),
    ylim=(0, top),
    xlabel=r"bias variance $\sigma_b^2$",
    ylabel=r"weight variance $\sigma_w^2$",
)
ax.legend(loc="center right", bbox_to_anchor=(1, 0.4))
report.figure(
    fig,
    "sig-critical-line",
    scale="exact",
    caption=(
        "The phase plane of the sigmoid. The critical line starts at $\\sigma_b^2 = 0$ at the "
        f"certified minimum $\\sigma_w^2 = {certificate.sigma_w2:.4f}$ and rises from there; the "
        f"line from the proof and a search in double precision differ by {difference:.0e} "
        "(relative) at its start. The narrow band at the bottom is where the paper's figure 1 "
        "trains sigmoid networks."
    ),
    alt=(
        f"Phase plane: the critical line rises from {certificate.sigma_w2:.1f} at bias variance 0 "
        f"to {np.interp(sigma_b2_max, b_line, w_line):.0f} at {sigma_b2_max:g}, ordered below and "
        "chaotic above it; the weight variances 1 to 4 of the paper's experiment are a thin band "
        "far below."
    ),
)

# %% [markdown]
# And the theorem as a prediction: at random weight variances below the bound, with bias variances
# spread over eight decades, every network must be ordered.

# %%
rng = np.random.default_rng(seed)
below = rng.uniform(0.1, float(certificate.lower), n_networks)
biases = 10.0 ** rng.uniform(-4, 4, n_networks)
chi_below = mean_field.fixed_point("sigmoid", below, biases).chi_1
largest_chi_below = float(chi_below.max())
largest_chi_below

# %% [markdown]
# ### Where the paper's numbers slip
#
# **Equation 27 and the final number.** At $q = 0$ the slope is $\varphi'(0) = \frac14$, so
# $X(0) = \frac1{16}$ and by eq. 25 the preliminary bound is $\sigma_w^2 = 16$; eq. 27 loses the
# square and prints $\sigma_w = 16$. The last line prints $\sigma_w \approx 103.05$ where the *variance* is meant; and
# the variance is $103.0076$.

# %%
sigma_w = arb(certificate.lower).sqrt().union(arb(certificate.upper).sqrt())
preliminary = 1 / sigmoid.mean_square_slope(0)
bounds = [Fraction(certificate.lower), Fraction(certificate.upper)]
printed_is_excluded = not bounds[0] <= Fraction("103.05") <= bounds[1]
preliminary, sigma_w, printed_is_excluded

# %% [markdown]
# Where may $103.05$ come from? The integrand has poles at $z = \pm i\pi/\sqrt q$, only
# $0.465$ from the real axis at $q^*$. A Gauss–Hermite rule, the usual choice for Gaussian
# expectations, converges slowly then, while the plain trapezoidal rule on the whole line converges
# geometrically.

# %% tags=["hide-input"]


def crossing(z: np.ndarray, weights: np.ndarray) -> float:
    """Bisect B(q) = 0 on [30, 70] with a quadrature rule in place of the integrals; give 1/X(q)."""

    def residual(q: float) -> tuple[float, float]:
        phi = expit(np.sqrt(q) * z)
        x = weights @ (phi * (1 - phi)) ** 2
        return float(q * x - weights @ phi**2), float(x)

    lo, hi = 30.0, 70.0
    if residual(lo)[0] >= 0 or residual(hi)[0] <= 0:
        return np.nan
    while hi - lo > 1e-13 * hi:
        middle = (lo + hi) / 2
        lo, hi = (middle, hi) if residual(middle)[0] < 0 else (lo, middle)
    return 1 / residual(lo)[1]


def gauss_hermite(n: int) -> tuple[np.ndarray, np.ndarray]:
    z, weights = hermegauss(n)
    return z, weights / weights.sum()


def trapezoidal(n: int) -> tuple[np.ndarray, np.ndarray]:
    z = np.linspace(-9, 9, n)
    weights = np.exp(-(z**2) / 2)
    return z, weights / weights.sum()


nodes = np.unique(np.geomspace(15, 340, 60).astype(int))
slow = np.array([crossing(*gauss_hermite(int(n))) for n in nodes])
fast = np.array([crossing(*trapezoidal(int(n))) for n in nodes])
at_300 = crossing(*gauss_hermite(300))
beside_300 = [crossing(*gauss_hermite(n)) for n in (299, 301)]

fig, ax = plt.subplots(figsize=(7.2, 4.2))
ax.semilogy(
    nodes, abs(slow - certificate.sigma_w2), "o-", ms=4, color=ORANGE, label="Gauss–Hermite"
)
ax.semilogy(
    nodes,
    np.maximum(abs(fast - certificate.sigma_w2), 1e-14),
    "s-",
    ms=4,
    color=BLUE,
    label="trapezoidal on $[-9, 9]$",
)
ax.axhline(printed - certificate.sigma_w2, color="0.4", ls="--", lw=1.4)
ax.text(
    0.8 * nodes[-1],
    (printed - certificate.sigma_w2) * 0.6,
    "error of the printed 103.05",
    color="0.3",
    ha="right",
    va="top",
)
ax.set(xlabel="nodes of the quadrature rule", ylabel=r"error of the crossing $\sigma_w^2$")
ax.legend(loc="center right")
report.figure(
    fig,
    "sig-quadrature",
    scale="exact",
    caption=(
        "Error of the bias-free crossing when the two integrals are replaced by a quadrature rule, "
        "against the certified value. Gaps are rules with no crossing between $q = 30$ and 70. "
        f"With 300 Gauss–Hermite nodes the crossing is {at_300:.4f}, with 299 and 301 it is "
        f"{beside_300[0]:.4f} and {beside_300[1]:.4f}."
    ),
    alt=(
        "Error of the crossing against the number of nodes, logarithmic: Gauss-Hermite still errs "
        f"by {abs(at_300 - certificate.sigma_w2):.2g} with 300 nodes, the trapezoidal rule by "
        f"{abs(crossing(*trapezoidal(300)) - certificate.sigma_w2):.0e}."
    ),
)

# %% [markdown]
# So an unconverged rule is off by as much as the printed $103.05$, and one rule happens to hit it; the paper does
# not say which it used, so this stays a guess. The theorem survives, because it only claims "about 100 or more".
#
# **The derivative in the proof** is one in $\varphi$, not in $x$. The paper writes
# $\Phi'(x) = 2\varphi - 6\varphi^2 + 4\varphi^3$, which is $d\Phi/d\varphi$; by the chain rule
# $\Phi'(x)$ carries another factor $\varphi'(x) > 0$. Signs are the same, so the argument stands, but
# the second derivative at 0 is $-\frac1{16}$, not $-1$. Exact arithmetic on the power series shows
# it:

# %%
in_phi = Polynomial([0, 0, 1, -2, 1])  # Φ as a polynomial in φ: φ² − 2φ³ + φ⁴
second_in_phi = in_phi.deriv(2)(0.5)
x = fmpq_series([0, 1])
phi_series = 1 / (1 + (-x).exp())
big_phi = (phi_series * (1 - phi_series)) ** 2
second_in_x = 2 * big_phi[2]
second_in_phi, second_in_x

# %% [markdown]
# **The step to $\sigma_b^2 = 0$.** The paper argues that the integral of the length map is not
# negative, "meaning that $q^*$ increases with respect to $\sigma_b^2$", and sets $\sigma_b^2 = 0$.
# At fixed $\sigma_w^2$ the conclusion is right (Lemma 2), though not for that reason. Along the
# critical line $\sigma_w^2$ is not fixed, and what is needed is that $B$ rises wherever
# it is not negative. That is true, by (a) and (b), but it does need a proof: $B$ itself is not
# monotone.

# %%
falls = bool(sigmoid.bias_variance(10) < sigmoid.bias_variance(0))
sigmoid.bias_variance(0), sigmoid.bias_variance(10), falls

# %% [markdown]
# ## Where theory and experiment part
#
# The theorem is right, and yet the paper's conclusion, that "the mean-field framework does not
# extend" to the sigmoid, does not follow from it. The framework never says that every activation
# function has a critical line at a convenient place. It says how deep a network may be: about
# $4.5\,\xi_c$ layers, wherever $\xi_c$ comes out. For the variances at which the paper
# trained sigmoid networks, it comes out below one layer.

# %% tags=["hide-input"]
sigma_b2_paper = 0.09
axis = np.geomspace(0.5, sigma_w2_max, 500)
depth_scale = mean_field.fixed_point("sigmoid", axis, sigma_b2_paper).xi_c
paper_range = mean_field.fixed_point("sigmoid", np.array([1.0, 4.0]), sigma_b2_paper).xi_c
critical_paper = float(mean_field.critical_sigma_w2("sigmoid", sigma_b2_paper).sigma_w2)

fig, ax = plt.subplots(figsize=(7.2, 4.2))
ax.axvspan(1, 4, color=PURPLE, alpha=0.25, lw=0, label="trained in the paper")
ax.axvline(
    critical_paper, color="0.4", ls="--", lw=1.4, label=rf"$\chi_1 = 1$ at ${critical_paper:.2f}$"
)
ax.loglog(axis, 4.5 * depth_scale, color=BLUE, lw=2.2, label=r"$4.5\,\xi_c$")
ax.axhline(10, color=ORANGE, ls=":", lw=1.8, label="shallowest network of figure 1")
ax.set(
    xlim=(axis[0], axis[-1]),
    ylim=(0.5, 3e3),
    xlabel=r"weight variance $\sigma_w^2$",
    ylabel="predicted trainable depth (layers)",
)
ax.legend(loc="upper left")
report.figure(
    fig,
    "sig-depth",
    scale="exact",
    caption=(
        "The depth up to which the theory expects sigmoid networks to train, $4.5\\,\\xi_c$, at the "
        f"paper's $\\sigma_b^2 = {sigma_b2_paper}$. Over the paper's range it is at most "
        f"{4.5 * paper_range.max():.2f} layers, far below the depths that were tried; it diverges "
        f"at $\\sigma_w^2 = {critical_paper:.2f}$."
    ),
    alt=(
        f"Predicted trainable depth against weight variance, logarithmic: {4.5 * paper_range[0]:.2f} "
        f"layers at weight variance 1, {4.5 * paper_range[1]:.2f} at 4, 10 layers only far to the "
        f"right, and a divergence at {critical_paper:.2f}."
    ),
)

# %% [markdown]
# The failure that the paper saw is what the theory predicts. Chapter {doc}`fc-theory` trains sigmoid
# networks in both places, at $\sigma_w^2 \le 4$ and near the line at 103, and measures it.
#
# Is the critical point "unfeasible"? It is uncomfortable. There the pre-activations have standard
# deviation $\sqrt{q^*} \approx 6.75$: a good part of the units is saturated, and the others carry all
# of the gradient. The average squared gradient survives, but as the average of a broad
# distribution. The culprit is the mean $\mathbb E \varphi = \frac12$: it adds
# $\sigma_w^2/4$ to the pre-activation variance, and so feeds saturation with every increase of
# $\sigma_w^2$. Exercise 3 takes it away.

# %% tags=["hide-input"]
spread = np.sqrt(certificate.q)
grid = np.linspace(-9, 9, 4001)
density = np.exp(-(grid**2) / 2) / np.exp(-(grid**2) / 2).sum()
active = expit(spread * grid) * expit(-spread * grid)
share = float(density[active > 0.1 * 0.25].sum())
carried = float((density * active**2)[active > 0.1 * 0.25].sum() / (density @ active**2))
Markdown(
    f"At the certified critical point {100 * share:.0f} % of the units have more than a tenth of the "
    f"largest slope, and they carry {100 * carried:.1f} % of $\\chi_1$."
)

# %% [markdown]
# ## Verdicts

# %% tags=["hide-input"]
report.claim(
    "mft-thm1",
    statement="For the sigmoid, χ₁ = 1 implies σ_w² ≳ 100 for every σ_b² ≥ 0.",
    paper="σ_w² ≳ 100",
    ours=f"σ_w² ≥ {short(certificate.lower)}, attained at σ_b² = 0",
    source="Theorem 1",
    scale="exact",
    checks={
        "certificate holds at other precisions": all(verified.values()),
        "lower bound is at least 100": Fraction(certificate.lower) >= 100,
        f"{n_networks} random settings below the bound are ordered": largest_chi_below < 1,
    },
    note="Proved in ball arithmetic; the bounds enclose the minimum over all σ_b² ≥ 0.",
)

# %% tags=["hide-input"]
report.claim(
    "mft-fig5",
    statement="Without biases, χ₁ of the sigmoid crosses 1 at σ_w² ≈ 103.",
    paper=103.0,
    ours=certificate.sigma_w2,
    tolerance=0.1,
    source="Fig. 5",
    scale="exact",
    checks={
        "χ₁ rises with σ_w²": bool(np.all(np.diff(without_bias.chi_1) > 0)),
        "double precision agrees with the certificate": difference < 1e-10,
    },
    note="The tolerance is what can be read from a figure; one crossing is proved.",
)

# %% tags=["hide-input"]
report.erratum(
    "mft-4",
    statement=(
        "Eq. 27 writes 1/σ_w = 1/16, hence σ_w = 16, where eq. 25 has 1/σ_w²; "
        "the end of the proof prints σ_w ≈ 103.05."
    ),
    paper="σ_w = 16; σ_w ≈ 103.05",
    ours=(
        f"σ_w² = 16; σ_w² = {certificate.sigma_w2:.4f}, that is σ_w = {float(sigma_w.mid()):.4f} "
        f"at q* = {certificate.q:.4f}. The theorem holds."
    ),
    shown=bool(preliminary.overlaps(arb(16))) and bool(sigma_w < 11) and printed_is_excluded,
    source="Appendix, eq. 27 and the last paragraph of the proof",
    note=f"The certified bounds exclude 103.05; there χ₁ = {chi_printed:.6f}.",
)

# %% tags=["hide-input"]
report.erratum(
    "mft-5",
    statement="The printed Φ′(x) is the derivative in φ, and Φ″(0) = −1 is one in φ too.",
    paper="Φ″(0) = −1",
    ours=f"Φ″(0) = {second_in_x} in x; the conclusion stands.",
    shown=second_in_phi == -1 and second_in_x * 16 == -1,
    source="Appendix, below eq. 26",
    note="By exact arithmetic on the power series of the sigmoid.",
)

# %% tags=["hide-input"]
report.erratum(
    "mft-15",
    statement=(
        "The proof infers from a non-negative integral that q* rises with σ_b², and uses it along "
        "χ₁ = 1, where σ_w² changes as well."
    ),
    paper="q* increases with σ_b², hence σ_b² = 0 is best",
    ours=(
        "The conclusion is right, the reason is not: σ_b² = B(q) rises wherever it is not negative, "
        "but B is not monotone, so this needs the proof given here."
    ),
    shown=falls and certificate.verify(),
    source="Appendix, last paragraph of the proof",
    note=f"B falls from −4 at q = 0 to {b_least:.2f} near q = {q_turn:g}.",
)

# %% [markdown]
# ## Exercises
#
# 1. **Without boxes.** Show that $B(q) \ge 0$ implies $q X(q) \ge V(q) > \frac14$, and conclude from
#    Lemma 4 that $B$ crosses zero only upwards. So step (a) can be dropped altogether. Which two
#    evaluations remain? Write the certificate that this proof needs.
# 2. **A mixture of Gaussians.** From $\cosh x = \prod_k \bigl(1 + 4x^2/((2k-1)^2\pi^2)\bigr)$ show that
#    $\operatorname{sech}^2(\sqrt y/2)$ is completely monotone in $y$: its derivatives alternate in
#    sign. What follows for the signs of all derivatives of $S$ and $X$, and how does it give Lemma 2
#    again?
# 3. **The centred sigmoid.** Make an activation from $\varphi(x) - \frac12$ with
#    `activations.from_callable` and find its critical line. Show that its $\sigma_w^2$ is smallest,
#    and equal to 16, in the limit $\sigma_b^2 \to 0$, $q^* \to 0$: the paper's preliminary bound is
#    the exact answer for the sigmoid without its mean. Can a bias of non-zero mean do the
#    same for the plain sigmoid?
# 4. **Far along the line.** Show that $X(q) \approx 1/(6\sqrt{2\pi q})$ for large $q$, so
#    $\sigma_w^2 \approx 6\sqrt{2\pi q}$ and $\sigma_b^2 \approx q - 3\sqrt{2\pi q}$ on the critical
#    line, and compare with `sigmoid.mean_square_slope` at $q = 10^4$ and $10^6$.
# 5. **Forge a certificate.** Change one box or one bound with `dataclasses.replace` and read what
#    `failures()` says. Can you change two things so that the text is consistent and only the
#    arithmetic objects?
# 6. **Poles and quadrature.** The trapezoidal rule with step $h$ errs by about
#    $e^{-2\pi d/h}$ for an integrand analytic up to the distance $d$ from the real line. Check the
#    slope of the blue curve above against $d = \pi/\sqrt{q^*}$, and predict the number of nodes that
#    30 digits need.
