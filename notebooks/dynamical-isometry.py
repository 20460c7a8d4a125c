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
# # Dynamical isometry: every singular value near one
#
# ## What you will see
#
# On the critical line a gradient keeps its length *on average*, whatever the depth. This chapter asks
# for more: that it keep its length in every direction. It computes the whole distribution of the
# squared singular values of a deep network's Jacobian, and then asks what that distribution does to
# learning. You will see
#
# - one equation that gives the distribution for any activation, Gaussian or orthogonal weights, and any
#   depth from 1 to 10,000; at moderate depths it is drawn over the singular values of sampled networks;
# - why Gaussian weights and ReLU can never have all singular values near one, why tanh and its
#   relatives can, and why the logistic sigmoid, which the paper counts among them, cannot;
# - how small the pre-activations must be for a given depth, and the two universal shapes that the
#   spectrum takes on the way to infinite depth;
# - learning curves of Gaussian against orthogonal networks, and the number of steps to a given accuracy
#   against depth: it grows steeply for Gaussian weights and hardly at all for orthogonal ones.

# %% tags=["parameters"]
seed: int = 0  # seed of every random draw of the chapter [0, 1000000]
device: str = "auto"  # where networks are sampled and trained {auto, cpu, cuda}
scale: str = "quick"  # what the figures are called; the profile sets the sizes {quick, paper}
q_star: float = 0.25  # variance of the pre-activations in the drawn spectra [0.000001, 4]
spectrum_depths: list[int] = [2, 8, 32]  # depths of the drawn spectra, rising, at least 1, each [1, 1000]
sample_width: int = 100  # width of the sampled networks [20, 4096]
sample_networks: int = 6  # how many are sampled for each spectrum [2, 10000]
fit_widths: list[int] = [20, 40, 80, 160]  # widths at which theory and sampling are compared, rising, at least 3, each [10, 4096]
dataset: str = "digits"  # data of the trained networks {digits, mnist, fashion-mnist, cifar10}
width: int = 100  # neurons per hidden layer of the trained networks [8, 4096]
curve_depth: int = 40  # depth of the learning curves [2, 1000]
curve_steps: int = 300  # training steps of the learning curves [10, 1000000]
curve_points: int = 25  # how often the learning curves are scored [4, 1000]
curve_window: int = 4  # scores in the moving average of the learning curves [1, 100]
curve_learning_rate: float = 1e-2  # step size of the learning curves (0, 10]
n_seeds: int = 5  # networks per learning curve, with seeds seed, seed + 1, … [2, 50]
growth_depths: list[int] = [5, 10, 20, 40]  # depths of the race to an accuracy, rising, at least 3, each [2, 10000]
growth_deeper: list[int] = [80, 160]  # further depths for orthogonal weights alone, rising, each [2, 10000]
growth_steps: int = 100  # training steps allowed in the race [10, 1000000]
growth_target: float = 0.7  # training accuracy to be reached (0, 1)
growth_rates: list[float] = [5e-3, 1e-2, 2e-2, 4e-2, 8e-2, 1.6e-1, 3.2e-1, 6.4e-1]  # learning rates tried at each depth, rising, at least 1, each [0.000001, 10]
growth_q_star: float = 0.015625  # variance of the pre-activations in the race [0.000001, 4]
batch_size: int = 32  # samples per step [1, 100000]
scored_samples: int = 400  # training and test samples behind each accuracy [50, 100000]

# %% tags=["hide-input"]
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

from mflib import report
from mflib.report import figures
from mflib.theory import activations, isometry, mean_field

report.begin("dynamical-isometry", seed=seed, device=device, scale=scale)
LOG10 = np.log(10)
SHOWN = ("tanh", "erf", "hard-tanh", "relu")
ENSEMBLES = ("orthogonal", "gaussian")
WORD = {"orthogonal": "orthogonal", "gaussian": "Gaussian"}


def plain(label):
    """Write a label without its formula signs."""
    return (
        label.replace("$", "")
        .replace("^*", "*")
        .replace(r"\propto D^{-1/2}", " falling as D^-1/2")
    )


# %% [markdown]
# ## What the paper claims
#
# The paper {cite}`pabari2024meanfield` takes this part from Pennington, Schoenholz and Ganguli
# {cite}`pennington2017resurrecting`. Its claims are:
#
# 1. $\chi_1^D$ is the mean squared singular value of the Jacobian of $D$ layers, and what matters beyond it is
#    how the singular values spread about the mean (its §3.2, eqs. 11 and 12).
# 2. Neither ReLU nor Gaussian weights can bring all singular values to 1; "sigmoidal activation functions (eg.
#    tanh and sigmoid) with orthogonal initialization can" (§3.2).
# 3. The nearer the spectrum is to that, the faster a network learns: at depth 40 orthogonal networks leave
#    Gaussian ones behind (§4.4, fig. 3).
# 4. With orthogonal weights, the number of epochs needed grows more slowly than the depth; with Gaussian
#    weights it grows in proportion to it (§2).
#
# ## Theory
#
# ### From a mean to a distribution
#
# Let $A^l$ be the diagonal matrix of the slopes $\varphi'(z_i^l)$. A small change of the input of $D$
# layers changes their output by
#
# ```{math}
# :label: eq-iso-jacobian
# J = A^D W^D \cdots A^2 W^2\, A^1 W^1 ,
# ```
#
# and the squared singular values $\lambda$ of $J$ tell by how much squared lengths are stretched. At the fixed
# point of the length map the entries of every $A^l$ have the same law, that of $\varphi'(\sqrt{q^*} z)$
# with $z$ standard Gaussian. Write $\mu_k = \int\mathcal Dz\,\varphi'(\sqrt{q^*}z)^{2k}$ for the moments of its
# square. One layer multiplies the mean of $\lambda$ by $\sigma_w^2\mu_1 = \chi_1$, and so
#
# ```{math}
# :label: eq-iso-mean
# \langle\lambda\rangle = \chi_1^D .
# ```
#
# On the critical line, $\chi_1=1$, the mean is 1 at every depth, for every activation and either kind of weights. But a
# mean of 1 says little: half of the $\lambda$ may be 0 and the others 2.
#
# ### Free probability
#
# A product of large independent random matrices, at least one factor in each pair turned in a uniformly random direction, has
# a spectrum that depends on the spectra of the factors alone. For a sum of independent random numbers the logarithms of the Fourier
# transforms add up; for such a product of matrices Voiculescu's *S-transforms* multiply. For a law with the moment
# series $M(\zeta) = \sum_{k\ge1} m_k \zeta^{-k}$ it is
#
# ```{math}
# :label: eq-iso-s
# \begin{aligned}
# S(x) &= \frac{1+x}{x\,M^{-1}(x)} , \qquad S_{JJ^{\mathsf T}} = \left( S_{WW^{\mathsf T}}\, S_{A^2} \right)^{D}, \\[6pt]
# S_{WW^{\mathsf T}}(x) &= \begin{cases} 1/\sigma_w^2 & \text{orthogonal,}\\[2pt]
#  1/\big(\sigma_w^2\,(1+x)\big) & \text{Gaussian.} \end{cases}
# \end{aligned}
# ```
#
# The first terms of its expansion, $S(x) = m_1^{-1}\big(1 - (m_2/m_1^2-1)\,x + \dots\big)$, show at once that relative
# variances add up over factors:
#
# ```{math}
# :label: eq-iso-variance
# \frac{\operatorname{Var}\lambda}{\langle\lambda\rangle^2} =
# D\left(\frac{\mu_2}{\mu_1^2} - 1\right) + \begin{cases} 0 & \text{orthogonal,}\\ D & \text{Gaussian.}\end{cases}
# ```
#
# Every Gaussian matrix costs 1, whatever the activation. Every activation costs $\mu_2/\mu_1^2-1$, the relative
# variance of its squared slope, whatever the weights. Only if both vanish is there isometry.
#
# For the whole distribution, let $s = \varphi'(\sqrt{q^*}z)^2$ be the random squared slope. The moment series of $A^2$ is
# $M_{A^2}(w) = \mathbb E\,[s/(w-s)]$; call its value $x$ and use $w$ as a coordinate. Taking the logarithm of {eq}`eq-iso-s` gives
#
# ```{math}
# :label: eq-iso-master
# \begin{aligned}
# \log \zeta &= D\,\log\big(\sigma_w^2\, t(w)\big) + \log\frac{1+x}{x}, \\[6pt]
# t(w) &= \begin{cases}
#   \mathbb E\left[\dfrac{s}{w-s}\right] \Big/\, \mathbb E\left[\dfrac{1}{w-s}\right] & \text{orthogonal,} \\[12pt]
#   \mathbb E\left[\dfrac{s}{1-s/w}\right] & \text{Gaussian.}
# \end{cases}
# \end{aligned}
# ```
#
# The density of $\log\lambda$ is $-\operatorname{Im} x/\pi$ where $\zeta$ reaches the real number $\lambda$ from above. So to draw it one
# walks through the upper half plane of $w$ along the curve on which the right-hand side is real. In polar
# coordinates that curve is a graph, one angle for each radius {cite}`belinschi2005partially,deng2017continuity`, so each of its points is
# found by a safeguarded root search, at depth 10,000 as easily as at depth 2. Nothing in {eq}`eq-iso-master` cancels when
# the depth is large: for orthogonal weights $t$ is a mean of the squared slopes with the complex weights $1/(w-s)$, for Gaussian ones a sum with $1/(1-s/w)$, and neither is a
# difference of nearly equal numbers. Where $\varphi'$ takes a value with finite probability,
# as for ReLU and hard-tanh, some of the mass may sit in atoms; it is counted apart.


# %%
def critical_at(name, q):
    """Return the weight and the bias variance of the critical point with q* = q."""
    point = mean_field.critical_at(name, q)
    return float(point.sigma_w2), float(point.sigma_b2)


# %%
points = {name: critical_at(name, q_star) for name in SHOWN}
spectra = {
    (name, ensemble, depth): isometry.spectrum(
        name, points[name][0], q_star, depth, ensemble=ensemble
    )
    for name, ensemble, depth in itertools.product(
        SHOWN, ENSEMBLES, spectrum_depths
    )
}

# %% [markdown]
# The histograms below are the squared singular values of sampled networks: real ones, with signals sent
# through them, so that the slopes and the weights depend on each other as they do in a network. Nothing is fitted.

# %% tags=["hide-input"]
from mflib.experiment import jacobian, scaling

sampled = {
    (name, ensemble, depth): jacobian.sample_spectrum(
        name,
        width=sample_width,
        depth=depth,
        sigma_w2=points[name][0],
        q=q_star,
        ensemble=ensemble,
        n_networks=sample_networks,
        seed=seed,
    )
    for name, ensemble, depth in spectra
}


def free_of_atoms(values, law):
    """Return the sampled log λ that are not on an atom of the law."""
    values = values[np.isfinite(values)]
    for place, _ in law.atoms:
        values = values[np.abs(values - place) > 1e-9]
    return values


def top_of(law):
    """Return the largest log λ of a law, be it on its curve or an atom."""
    return np.nanmax([law.log_lambda_max, *(place for place, _ in law.atoms)])


fig, axes = plt.subplots(len(SHOWN), 2, figsize=(10.5, 11.5))
for row, name in zip(axes, SHOWN, strict=True):
    for axis, ensemble in zip(row, ENSEMBLES, strict=True):
        tops, ends = [], []
        for k, depth in enumerate(spectrum_depths):
            law, values = (
                spectra[name, ensemble, depth],
                sampled[name, ensemble, depth],
            )
            rest = free_of_atoms(values, law) / LOG10
            if not law.log_lambda.size:  # atoms alone, as of a single layer of hard-tanh
                tops.append(1.0)
                ends += [
                    (place / LOG10 - 0.5, place / LOG10 + 0.5)
                    for place, _ in law.atoms
                    if np.isfinite(place)
                ]
                continue
            high = law.log_lambda_max / LOG10
            low = max(
                law.log_lambda_min / LOG10,
                np.quantile(rest, 0.1) if rest.size else high - 1,
            )
            margin = 0.02 * (high - low)
            bins = np.linspace(low - margin, high + margin, 41)
            counts, _ = np.histogram(rest, bins)
            share = counts / (values.size * np.diff(bins))
            axis.stairs(share, bins, fill=True, color=f"C{k}", alpha=0.3)
            axis.plot(
                law.log_lambda / LOG10,
                law.density * LOG10,
                color=f"C{k}",
                label=f"$D={depth}$",
            )
            tops.append(np.quantile(share, 0.95))
            ends.append((low - margin, high + margin))
        top = 1.3 * max(tops)
        for k, depth in enumerate(spectrum_depths):
            for place, mass in spectra[name, ensemble, depth].atoms:
                if np.isfinite(place) and mass > 0:
                    axis.plot(
                        [place / LOG10] * 2, [0, 0.8 * top], color=f"C{k}", lw=3
                    )
                    axis.annotate(
                        f"{mass:.2f}",
                        (place / LOG10, (0.83 + 0.06 * k) * top),
                        color=f"C{k}",
                        fontsize="small",
                    )
        left, right = np.min(ends), np.max(ends)
        axis.set(
            xlim=(left, right + 0.03 * (right - left)),
            ylim=(0, top),
            title=f"{name}, {WORD[ensemble]}",
        )
        axis.axvline(0, color="0.5", lw=1, ls=":")
    row[0].set_ylabel(r"density of $\log_{10}\lambda$")
for axis in axes[-1]:
    axis.set_xlabel(r"$\log_{10}\lambda$")
axes[0, 1].legend()
spread_text = "; ".join(
    f"{name} {ensemble}: largest λ at depth {spectrum_depths[-1]} is "
    f"{np.exp(top_of(spectra[name, ensemble, spectrum_depths[-1]])):.3g}"
    for name, ensemble in itertools.product(SHOWN, ENSEMBLES)
)
report.figure(
    fig,
    "iso-spectra",
    caption=r"Density of the squared singular values $\lambda$ of the Jacobian of $D$ layers, on a logarithmic axis, at the "
    rf"critical point with $q^*={q_star:g}$: theory (lines) over {sample_networks} sampled networks of width {sample_width} for each "
    "spectrum (filled). Left column orthogonal weights, right column Gaussian; mind the different axes. A bar with a number is an atom with its "
    "mass; the share of singular values that are 0 is not drawn, and long left tails are cut. The dotted line is isometry.",
    alt=f"Eight panels of histograms with theory curves. {spread_text}.",
)

# %% [markdown]
# How good is the agreement? The distance between the sampled and the predicted distribution function, at its
# largest (Kolmogorov and Smirnov), is measured at several widths, once for each network by itself and once for all networks of a
# width together. A single network has $N$ neurons in a layer, whose slopes are a sample of $N$: their mean
# alone is off by order $N^{-1/2}$, and the whole spectrum moves with it. Averaging over networks reduces that fluctuation; the bias of
# finite width and the rest of it are left. ReLU keeps a larger one: $J$ has as many zero singular values as the layer with the
# *fewest* active neurons leaves, and the least of $D$ binomial numbers lies below their mean by order $N^{1/2}$.

# %%
fit_cases = [("tanh", "orthogonal"), ("tanh", "gaussian"), ("relu", "gaussian")]
fit_depth = spectrum_depths[len(spectrum_depths) // 2]
rows, together = [], []
for (name, ensemble), n in itertools.product(fit_cases, fit_widths):
    drawn = jacobian.sample_spectrum(
        name,
        width=n,
        depth=fit_depth,
        sigma_w2=points[name][0],
        q=q_star,
        ensemble=ensemble,
        n_networks=max(10, 1600 // n),
        seed=seed + 1,
    )
    found = jacobian.fit(drawn, spectra[name, ensemble, fit_depth])
    rows += [
        {"activation": name, "ensemble": ensemble, "width": n, "distance": ks}
        for ks in found.ks_each
    ]
    together.append(
        {"activation": name, "ensemble": ensemble, "width": n, "distance": found.ks}
    )
distances, pooled = pd.DataFrame(rows), pd.DataFrame(together)


# %% tags=["hide-input"]
def at_case(table, name, ensemble):
    """Return the distances of one case."""
    return table[(table.activation == name) & (table.ensemble == ensemble)]


fig, axis = plt.subplots(figsize=(7.2, 4.4))
fit_slopes = {}
for k, case in enumerate(fit_cases):
    by_width = at_case(distances, *case).groupby("width").distance
    mean, error = by_width.mean(), by_width.sem()
    fit_slopes[case] = scaling.log_slope(
        mean.index.to_numpy(float), mean.to_numpy(), error.to_numpy()
    )
    label = f"{case[0]}, {WORD[case[1]]}: slope {fit_slopes[case][0]:.2f}"
    axis.errorbar(
        mean.index,
        mean,
        2 * error,
        fmt="osD"[k] + "-",
        color=f"C{k}",
        capsize=3,
        label=label,
    )
    whole = at_case(pooled, *case)
    axis.plot(
        whole.width,
        whole.distance,
        "osD"[k] + "--",
        color=f"C{k}",
        fillstyle="none",
        lw=1,
    )
axis.set(
    xscale="log",
    yscale="log",
    xlabel="width $N$",
    ylabel="Kolmogorov–Smirnov distance",
)
axis.set_xticks(fit_widths, fit_widths)
axis.minorticks_off()
axis.legend()
report.figure(
    fig,
    "iso-fit",
    caption=rf"Distance between sampled spectra of depth {fit_depth} and the theory for infinite width, against width. Solid: one network, mean "
    r"over networks with two standard errors and its slope; dashed: all networks of a width taken together.",
    alt="Distances of single networks fall with width with slopes "
    + ", ".join(f"{s[0]:.2f} ({n}, {e})" for (n, e), s in fit_slopes.items())
    + f"; at width {fit_widths[-1]} the distances of all networks together are "
    + ", ".join(
        f"{at_case(pooled, *case).distance.iloc[-1]:.4f}" for case in fit_cases
    )
    + ".",
)

# %% [markdown]
# ### Who can reach isometry?
#
# By {eq}`eq-iso-variance` the question is about one number, the *slope ratio* $\mu_2/\mu_1^2$, as a function of
# $q^*$. It is at least 1, and equal to 1 only if the squared slope is a constant. For tanh, erf and arctan the slope is nearly constant
# near 0, so small $q^*$ does it: the excess $\mu_2/\mu_1^2-1$ falls as $q^{*2}$. For hard-tanh, which is exactly linear up to
# $\pm1$, the excess falls faster than any power. Softsign has a kink in its slope at 0 and pays for it: its excess falls only in
# proportion to $q^*$. ReLU's squared slope is 0 or 1 with equal probability at every $q^*$: the ratio is 2, always. And the logistic
# sigmoid, although it is a tanh in other units, must sit on *its* critical line, where $q^*\ge45$
# ({doc}`sigmoid-theorem`) and most of its neurons are saturated.

# %%
least_sigmoid = isometry.least_slope_ratio("sigmoid")
q_axis = np.geomspace(1e-4, 10, 121)
odd_names = ("tanh", "erf", "arctan", "hard-tanh", "softsign")
excess = {
    name: isometry.slope_ratio(name, q_axis) - 1 for name in (*odd_names, "relu")
}

# %% tags=["hide-input"]
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
for k, name in enumerate((*odd_names, "relu")):
    shown = excess[name] > 1e-12
    left.loglog(q_axis[shown], excess[name][shown], color=f"C{k}", label=name)
left.axhline(
    least_sigmoid.ratio - 1,
    color="0.3",
    lw=1.5,
    ls="--",
    label="sigmoid, at its best",
)
left.set(
    xlabel="$q^*$",
    ylabel=r"$\mu_2/\mu_1^2-1$",
    ylim=(1e-8, 30),
    title="what one layer adds to the relative variance",
)
left.legend(fontsize="small", loc="lower right")

depth_axis = np.unique(np.geomspace(1, 10_000, 30).round().astype(int))
fixed_w2 = critical_at("tanh", q_star)[0]
scaled = [
    isometry.critical_point("tanh", int(d), variance=0.25) for d in depth_axis
]
growth_lines = {
    rf"tanh, orthogonal, $q^*={q_star:g}$": isometry.largest(
        "tanh", fixed_w2, q_star, depth_axis
    ),
    r"tanh, orthogonal, $q^*\propto D^{-1/2}$": [
        float(isometry.largest("tanh", p.sigma_w2, p.q, int(d)))
        for d, p in zip(depth_axis, scaled, strict=True)
    ],
    rf"tanh, Gaussian, $q^*={q_star:g}$": isometry.largest(
        "tanh", fixed_w2, q_star, depth_axis, ensemble="gaussian"
    ),
    "ReLU, orthogonal": isometry.largest("relu", 2.0, 1.0, depth_axis),
    "ReLU, Gaussian": isometry.largest(
        "relu", 2.0, 1.0, depth_axis, ensemble="gaussian"
    ),
}
for style, (label, values) in zip(
    ("-", "-", "--", "-.", ":"), growth_lines.items(), strict=True
):
    right.loglog(depth_axis, np.exp(values), style, label=label)
right.axhline(1, color="0.5", lw=1, ls=":")
right.set(
    xlabel="depth $D$",
    ylabel=r"largest $\lambda$",
    title="the most stretched direction",
)
right.legend(fontsize="small")
report.figure(
    fig,
    "iso-reach",
    caption=r"Left: relative variance that one layer of an activation adds, on its critical line; the dashed line is the least the "
    r"logistic sigmoid can have on the whole of its line. Right: edge of the spectrum against depth. Only the second curve stays: "
    r"$q^*$ is lowered with the depth so that the relative variance remains $\frac14$.",
    alt=f"Excess at q* = 0.01: tanh {float(isometry.slope_ratio('tanh', 0.01)) - 1:.2g}, softsign "
    f"{float(isometry.slope_ratio('softsign', 0.01)) - 1:.2g}, ReLU 1; sigmoid at least {least_sigmoid.ratio - 1:.3f}. Largest λ at depth "
    f"10,000: "
    + ", ".join(
        f"{plain(label)}: {np.exp(v[-1]):.3g}" for label, v in growth_lines.items()
    )
    + ".",
    scale="exact",
    device="CPU",
)

# %% [markdown]
# Two practical readings. For tanh, erf and arctan, $\mu_2/\mu_1^2-1\approx 8q^{*2}$, so a network of depth $D$ whose
# spectrum is to have the relative variance $v$ needs $q^* \approx \sqrt{v/8D}$: small signals, but only as the square root
# of the depth. And the largest $\lambda$ of every other curve grows in proportion to the depth, by {eq}`eq-iso-master` with a
# factor that tends to $e$ times the relative variance that one layer adds.

# %%
for_depth = {
    d: isometry.critical_point("tanh", d, variance=0.25)
    for d in (10, 100, 1000, 10_000)
}
pd.DataFrame(
    [
        {
            "depth": d,
            "q*": p.q,
            "√(v/8D)": np.sqrt(0.25 / 8 / d),
            "σ_w²": p.sigma_w2,
            "σ_b²": p.sigma_b2,
        }
        for d, p in for_depth.items()
    ]
).style.hide(axis="index").format(
    {"q*": "{:.5f}", "√(v/8D)": "{:.5f}", "σ_w²": "{:.6f}", "σ_b²": "{:.2e}"}
)

# %% [markdown]
# ### Two universal shapes
#
# Let the depth grow and $q^*$ fall so that the relative variance $v$ stays. Then {eq}`eq-iso-master` has a limit, and
# it depends on the activation only through one of two classes {cite}`pennington2018emergence`: *smooth* ones, whose
# slope varies a little in every neuron, and *Bernoulli* ones, such as hard-tanh, whose slope is exactly 1
# in all but a few neurons and 0 in those. The two limits are
#
# ```{math}
# :label: eq-iso-limits
# S_{\rm smooth}(x) = e^{-vx}, \qquad S_{\rm Bernoulli}(x) = e^{-vx/(1+x)},
# ```
#
# each the limit of $(1+O(1/D))^D$. They agree to first order in $x$, that is, in mean and variance, and in nothing else: a
# Bernoulli spectrum has, while $v<1$, an atom of mass $1-v$ at $\lambda=e^v$, the directions that no layer has cut, and below
# it a tail that reaches down to 0; a smooth one is a single hump between two positive edges. The slopes of a smooth activation differ by the square of a Gaussian,
# not by something Gaussian, so its spectra come near their limit only as $D^{-1/2}$; those of hard-tanh do as $D^{-1}$.

# %% tags=["hide-input"]
limit_variance = 0.25
limits = {
    kind: isometry.limit(kind, limit_variance) for kind in ("smooth", "bernoulli")
}
members = {"smooth": ("tanh", "erf", "arctan"), "bernoulli": ("hard-tanh",)}
limit_depths = [4, 16, 64, 256, 1024]
finite = {}
for name, depth in itertools.product(
    itertools.chain(*members.values()), limit_depths
):
    point = isometry.critical_point(name, depth, variance=limit_variance)
    finite[name, depth] = isometry.spectrum(name, point.sigma_w2, point.q, depth)


def in_lambda(axis, law, **style):
    """Draw the density of λ itself."""
    seen = law.log_lambda > np.log(0.02)
    lam = np.exp(law.log_lambda[seen])
    axis.plot(lam, law.density[seen] / lam, **style)


fig, axes = plt.subplots(
    1, 3, figsize=(12, 4.2), gridspec_kw={"width_ratios": [1, 1, 1.1]}
)
gaps = {}
grid = np.linspace(-6, 1.2, 241)
for axis, (kind, names) in zip(axes, members.items(), strict=False):
    bound = limits[kind]
    for k, depth in enumerate(limit_depths[:2]):
        in_lambda(
            axis,
            finite[names[0], depth],
            color=f"C{k + 1}",
            ls="--",
            label=f"{names[0]}, $D={depth}$",
        )
    in_lambda(axis, bound, color="C0", lw=2, label=r"$D\to\infty$")
    top = axis.get_ylim()[1]
    for place, mass in bound.atoms:
        axis.vlines(np.exp(place), 0, 0.6 * top, color="C0", lw=3)
        axis.annotate(
            f"atom {mass:.3f}", (np.exp(place), 0.63 * top), ha="center", color="C0"
        )
    axis.set(
        xlabel=r"$\lambda$",
        ylabel=r"density of $\lambda$",
        ylim=(0, top),
        title=f"{kind} class",
    )
    axis.legend(
        fontsize="small", loc="upper left" if kind == "bernoulli" else "upper right"
    )
    for name, depth in itertools.product(names, limit_depths):
        gaps[name, depth] = float(
            np.max(np.abs(finite[name, depth].cdf(grid) - bound.cdf(grid)))
        )
for k, name in enumerate(itertools.chain(*members.values())):
    axes[-1].loglog(
        limit_depths,
        [gaps[name, d] for d in limit_depths],
        "osD^"[k] + "-",
        label=name,
    )
axes[-1].set(
    xlabel="depth $D$", ylabel="largest difference of distribution functions"
)
axes[-1].legend(fontsize="small")
report.figure(
    fig,
    "iso-universal",
    caption=rf"Spectra of orthogonal networks whose relative variance is held at {limit_variance:g} while the depth grows. Left and middle: the "
    "two limits (solid) and spectra of finite depth (dashed); a vertical bar is an atom, with its mass. Right: distance of "
    "spectra of finite depth from their limit.",
    alt="Distances from the limit at depth "
    + f"{limit_depths[-1]}: "
    + ", ".join(
        f"{name} {gaps[name, limit_depths[-1]]:.2g}"
        for name in itertools.chain(*members.values())
    )
    + "; atoms of the Bernoulli limit: "
    + ", ".join(
        f"mass {mass:.3f} at λ = {np.exp(log):.3g}"
        for log, mass in limits["bernoulli"].atoms
    )
    + ".",
    scale="exact",
    device="CPU",
)

# %% [markdown]
# ## Experiment: does isometry speed up learning?
#
# ### Gaussian against orthogonal
#
# The paper's fig. 3 trains networks of depth 40 at $(\sigma_w^2, \sigma_b^2) = (2, 0.05)$ and calls the point ordered. For
# tanh it is chaotic, if only weakly ({ref}`fc-errata`). So the race is run three times: there; at the critical point with
# the same biases, which is what the text means; and at a critical point with small $q^*$, where the orthogonal network
# is close to isometry.

# %% tags=["hide-input"]
from mflib import recorded
from mflib.experiment import curves

COLOURS = {"orthogonal": "C0", "gaussian": "C1"}


def draw_race(axis, frames, window):
    """Draw learning curves of both kinds of weights; return the leads of the first."""
    found = {kind: curves.smoothed(frame, window) for kind, frame in frames.items()}
    figures.learning_curves(axis, found, labels=WORD, colours=COLOURS)
    return curves.leads(found["orthogonal"], found["gaussian"])


def point_title(point):
    """Write a point and how far 4.5 ξ_c reaches there."""
    limit = 4.5 * float(mean_field.fixed_point("tanh", *point).xi_c)
    reach = rf"4.5\,\xi_c={limit:.0f}" if limit < 1e6 else r"\xi_c=\infty"
    return f"$\\sigma_w^2={point[0]:.4g}$, $\\sigma_b^2={figures.power_of_ten(point[1])}$\n${reach}$"


line = float(mean_field.critical_sigma_w2("tanh", 0.05).sigma_w2)
races = {
    "as printed": (2.0, 0.05),
    "critical, same biases": (line, 0.05),
    f"critical, $q^*={growth_q_star:g}$": critical_at("tanh", growth_q_star),
}

# %%
from mflib.experiment import store, training

shards = (
    store.Store()
)  # trained networks are kept: an interrupted run goes on where it was


def train(point, *, depths, rates, at, ensemble, seeds, name="tanh"):
    """Train fully connected networks from one point and score them at the given steps."""
    grid = training.Grid(
        activation=name,
        sigma_w2=(point[0],),
        sigma_b2=point[1],
        depths=tuple(depths),
        seeds=seeds,
        width=width,
        dataset=dataset,
        learning_rate=tuple(rates),
        batch_size=batch_size,
        steps=max(at),
        initialisation=ensemble,
        evaluation_samples=scored_samples,
    )
    return training.learning_curves(grid, at=at, store=shards, device=device)


scored_at = tuple(
    int(s) for s in np.unique(np.linspace(0, curve_steps, curve_points + 1).round())
)
curve_seeds = tuple(range(seed, seed + n_seeds))
raced = {
    (label, ensemble): train(
        point,
        depths=[curve_depth],
        rates=[curve_learning_rate],
        at=scored_at,
        ensemble=ensemble,
        seeds=curve_seeds,
    )
    for label, point in races.items()
    for ensemble in ENSEMBLES
}

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 3, figsize=(12, 4.2), sharey=True)
lead = {}
for axis, label in zip(axes, races, strict=True):
    found_here = draw_race(
        axis,
        {ensemble: raced[label, ensemble] for ensemble in ENSEMBLES},
        curve_window,
    )
    for measure, found in found_here.items():
        lead[label, measure] = found
    axis.set(
        xlabel="training steps",
        title=f"{label}\n{point_title(races[label])}",
    )
    axis.set_ylim(0, 1.02)
axes[0].set_ylabel("accuracy")
axes[-1].legend(fontsize="small", loc="lower right")
report.figure(
    fig,
    "iso-curves",
    caption=rf"Learning curves of tanh networks of depth {curve_depth} and width {width} on {dataset} (stochastic gradient descent, learning rate "
    rf"{curve_learning_rate:g}, batches of {batch_size}): mean over {n_seeds} seeds, band of one standard deviation for the training accuracy, "
    rf"moving average over {curve_window} scores ({curve_window * curve_steps // curve_points} steps).",
    alt="Mean lead of orthogonal over Gaussian weights, averaged over the curve: "
    + "; ".join(
        f"{plain(label)}: training {lead[label, 'train_accuracy'].value:.3f} ± {2 * lead[label, 'train_accuracy'].error:.3f}, "
        f"test {lead[label, 'test_accuracy'].value:.3f} ± {2 * lead[label, 'test_accuracy'].error:.3f}"
        for label in races
    )
    + ".",
)

# %% [markdown]
# Orthogonal weights win everywhere, at the chaotic point too. The label of the phase matters little here: $4.5\,\xi_c$, in the titles, is beyond the
# depth of these networks at every point.
#
# ### At the paper's size
#
# The left half of the paper's fig. 3 with its own numbers: a hundred epochs on CIFAR-10, width 300. (Its right half, of convolutional networks, is in
# {doc}`cnn-delta-orthogonal`.)

# %% tags=["hide-input", "full-scale"]
full = recorded.computation("mft-fig3")
full_rows, full_of = None, {}
if full is not None:
    full_rows = full.table.join(
        full.table["part"].str.extract(
            r"^(?P<kind>fc|cnn)-(?P<point>[a-z]+)-(?P<weights>.+)-seed\d+$"
        )
    )
    for point, frame in full_rows[full_rows.kind == "fc"].groupby("point"):
        frames = curves.at_common_seeds(
            {e: frame[frame.weights == e] for e in ENSEMBLES}
        )
        if frames:
            full_of[point] = frames
if not full_of:
    display(Markdown(recorded.absent("mft-fig3")))
else:
    full_labels = dict(
        zip(("printed", "critical", "small"), races, strict=True)
    )
    full_points = [point for point in full_labels if point in full_of]
    full_fig, full_axes = plt.subplots(
        1,
        len(full_points),
        figsize=(4 * len(full_points) + 0.5, 4.2),
        sharey=True,
        squeeze=False,
    )
    full_leads = {}
    for axis, point in zip(full_axes[0], full_points, strict=True):
        frame = full_of[point]["orthogonal"]
        window = max(1, frame.step.nunique() // 10)
        full_leads[point] = draw_race(axis, full_of[point], window)
        at = (float(frame.sigma_w2.iloc[0]), float(frame.sigma_b2.iloc[0]))
        axis.set(
            xlabel="training steps",
            title=f"{plain(full_labels[point]).split(', q*')[0]}\n{point_title(at)}",
        )
    full_axes[0, 0].set_ylim(bottom=0)  # shared, so only now
    full_axes[0, 0].set_ylabel("accuracy")
    full_axes[0, -1].legend(fontsize="small", loc="lower right")
    full_settings = full.record["settings"][f"fc-{full_points[0]}-orthogonal"]
    of_these = full.only(lambda part: part.startswith("fc-"))
    full_n = {p: full_of[p]["orthogonal"].seed.nunique() for p in full_points}
    report.figure(
        full_fig,
        "iso-curves-full",
        caption=rf"Learning curves of tanh networks of depth {full_settings['depths'][0]} and width {full_settings['width']} on {full_settings['dataset']} (learning rate "
        rf"{np.ravel(full_settings['learning_rate'])[0]:g}, batches of {full_settings['batch_size']}; {full_settings['steps']:,} steps), orthogonal weights against Gaussian ones; seeds: "
        + ", ".join(f"{n} {plain(full_labels[p])}" for p, n in full_n.items())
        + "; mean, band of one standard deviation for the training accuracy, moving average over a tenth of the scores. "
        + of_these.sentence(),
        alt="Mean lead of orthogonal over Gaussian weights, averaged over the curve: "
        + "; ".join(
            f"{point}: training {found['train_accuracy'].value:.3f}, test {found['test_accuracy'].value:.3f}"
            for point, found in full_leads.items()
        )
        + ".",
        origin=of_these.record,
    )

    display(
        pd.DataFrame(
            [
                {
                    "point": plain(full_labels[point]),
                    "accuracy": word,
                    "lead here": str(lead[full_labels[point], measure]),
                    "lead at the paper's size": str(full_leads[point][measure]),
                    "same sign": np.sign(lead[full_labels[point], measure].value)
                    == np.sign(full_leads[point][measure].value),
                }
                for point in full_points
                for measure, word in (
                    ("train_accuracy", "training"),
                    ("test_accuracy", "test"),
                )
            ]
        ).style.hide(axis="index")
    )

# %% [markdown]
# ### Steps against depth
#
# How many steps does a network need to reach a given training accuracy, each depth at the best of its
# learning rates? The rate must be free: the deeper a network is, the more layers move its output at every step, and a rate that
# suits ten layers is too large for eighty.

# %%
race_at = tuple(range(0, growth_steps + 1, 5))
race_seeds = curve_seeds[:3]
small = critical_at("tanh", growth_q_star)
race_depths = {
    "gaussian": growth_depths,
    "orthogonal": [*growth_depths, *growth_deeper],
}
race = {}
for ensemble, depths in race_depths.items():
    frame = train(
        small,
        depths=depths,
        rates=growth_rates,
        at=race_at,
        ensemble=ensemble,
        seeds=race_seeds,
    )
    race[ensemble] = curves.at_best_rate(curves.steps_to(frame, growth_target))
best_rates = {
    ensemble: table.groupby("depth").learning_rate.first() for ensemble, table in race.items()
}

# %% tags=["hide-input"]
fig, axis = plt.subplots(figsize=(7.2, 4.4))
exponents, race_text, stuck = {}, {}, False
for (ensemble, table), mark in zip(race.items(), "so", strict=True):
    by_depth = table.groupby("depth").steps
    mean, spread = by_depth.mean(), by_depth.std(ddof=1)
    arrived = np.isfinite(mean)
    stuck |= bool((~arrived).any())
    axis.errorbar(
        mean.index[arrived],
        mean[arrived],
        spread[arrived],
        fmt=mark + "-",
        color=COLOURS[ensemble],
        capsize=4,
        label=WORD[ensemble],
    )
    axis.plot(
        mean.index[~arrived],
        np.full((~arrived).sum(), growth_steps),
        "^",
        color=COLOURS[ensemble],
        ms=9,
        fillstyle="none",
    )
    race_text[ensemble] = ", ".join(
        f"{d}: {m:.0f}" if np.isfinite(m) else f"{d}: not within {growth_steps}"
        for d, m in mean.items()
    )
    try:
        exponents[ensemble] = curves.growth(table)
    except ValueError:
        exponents[ensemble] = None  # too few depths arrived; the text says so
reference = np.array([min(growth_depths), max(growth_depths)])
start = race["gaussian"].groupby("depth").steps.mean().iloc[0]
axis.plot(
    reference,
    start * reference / reference[0],
    color="0.5",
    lw=1,
    ls=":",
    label="proportional to depth",
)
axis.set(
    xscale="log",
    yscale="log",
    xlabel="depth $D$",
    ylabel=f"steps to {growth_target:.0%} training accuracy",
)
every_depth = sorted({*growth_depths, *growth_deeper})
axis.set_xticks(every_depth, every_depth)
lowest, highest = axis.get_ylim()
step_ticks = [d * 10**k for k in range(7) for d in (1, 2, 5) if lowest <= d * 10**k <= highest]
if len(step_ticks) > 1:  # else the usual ones, few and far between
    axis.set_yticks(step_ticks, [f"{steps:,}" for steps in step_ticks])
    axis.minorticks_off()
axis.legend()


def exponent_text(found):
    """Write an exponent with its interval, and what it leaves out."""
    if found is None:
        return "no exponent: too few depths reached the target"
    text = f"{found.exponent:.2f} [{found.lower:.2f}, {found.upper:.2f}] over depths {found.depths[0]} to {found.depths[-1]}"
    return text + (
        f", not reached at {', '.join(map(str, found.missed))}"
        if found.missed
        else ""
    )


report.figure(
    fig,
    "iso-growth",
    caption=rf"Steps to {growth_target:.0%} training accuracy against depth, at the best of {len(growth_rates)} learning rates for each depth: mean "
    rf"and standard deviation over {len(race_seeds)} seeds (tanh, critical, $q^*={growth_q_star:g}$, width {width}, {dataset})."
    + (
        f" Open triangles at the top: depths at which at least one seed did not arrive within {growth_steps} steps."
        if stuck
        else ""
    ),
    alt=". ".join(
        f"{ensemble}: steps by depth {race_text[ensemble]}; best rates from {best_rates[ensemble].max():g} to {best_rates[ensemble].min():g}; "
        f"exponent {exponent_text(exponents[ensemble])}"
        for ensemble in race
    )
    + ".",
)

# %% tags=["hide-input"]
slowest = race["gaussian"].groupby("depth").steps.mean()
Markdown(
    f"From {slowest.index[0]} to {slowest.index[-1]} layers the steps of Gaussian networks grow from {slowest.iloc[0]:.0f} to "
    + (f"{slowest.iloc[-1]:.0f}" if np.isfinite(slowest.iloc[-1]) else f"more than {growth_steps}")
    + f"; those of orthogonal ones stay between {race['orthogonal'].groupby('depth').steps.mean().min():.0f} and "
    f"{race['orthogonal'].groupby('depth').steps.mean().max():.0f} up to depth {race['orthogonal'].depth.max()}, while their best learning rate falls from "
    f"{best_rates['orthogonal'].iloc[0]:g} to {best_rates['orthogonal'].iloc[-1]:g}."
)

# %% [markdown]
# ### Is it isometry that makes the difference?
#
# Orthogonal weights and isometry are two things: an orthogonal ReLU network is no isometry. So networks of one depth are
# raced from points whose predicted relative variance {eq}`eq-iso-variance` spans three orders of magnitude.

# %%
contestants = [("tanh", "orthogonal", q) for q in (growth_q_star, 0.1, 0.4, 1.6)]
contestants += [
    ("erf", "orthogonal", 0.1),
    ("softsign", "orthogonal", 0.1),
    ("relu", "orthogonal", 1.0),
]
contestants += [
    ("tanh", "gaussian", growth_q_star),
    ("tanh", "gaussian", 0.4),
    ("relu", "gaussian", 1.0),
]
race_rows = []
for name, ensemble, q in contestants:
    frame = train(
        critical_at(name, q),
        depths=[curve_depth],
        rates=growth_rates[1::2],
        at=race_at,
        ensemble=ensemble,
        seeds=race_seeds,
        name=name,
    )
    table = curves.at_best_rate(curves.steps_to(frame, growth_target))
    variance = float(
        isometry.relative_variance(name, q, curve_depth, ensemble=ensemble)
    )
    race_rows += [
        {
            "activation": name,
            "ensemble": ensemble,
            "q": q,
            "variance": variance,
            "steps": steps,
        }
        for steps in table.steps
    ]
contest = pd.DataFrame(race_rows)

# %% tags=["hide-input"]
fig, axis = plt.subplots(figsize=(7.2, 4.4))
marks = dict(zip(("tanh", "erf", "softsign", "relu"), "osD^", strict=True))
capped = contest.assign(steps=contest.steps.clip(upper=1.25 * growth_steps))
for (name, ensemble), rows in capped.groupby(
    ["activation", "ensemble"], sort=False
):
    by_point = rows.groupby("variance").steps
    axis.errorbar(
        by_point.mean().index,
        by_point.mean(),
        by_point.std(ddof=1),
        fmt=marks[name],
        color=COLOURS[ensemble],
        capsize=3,
        ms=7,
        label=f"{name}, {WORD[ensemble]}",
    )
axis.axhline(growth_steps, color="0.5", lw=1, ls=":")
axis.set(
    xscale="log",
    xlabel=r"predicted relative variance of $\lambda$",
    ylabel=f"steps to {growth_target:.0%} training accuracy",
)
axis.legend(fontsize="small", loc="upper left")
by_contestant = contest.groupby(["activation", "ensemble", "q"])
order = by_contestant.agg(variance=("variance", "first"), steps=("steps", "median"))
rank = float(order.variance.corr(order.steps.clip(upper=1e9), method="spearman"))
generator = np.random.default_rng(seed)
shuffled = [
    order.variance.corr(
        pd.Series(
            generator.permutation(order.steps.clip(upper=1e9)), index=order.index
        ),
        method="spearman",
    )
    for _ in range(5000)
]
rank_p = (1 + int(np.sum(np.array(shuffled) >= rank))) / (1 + len(shuffled))
report.figure(
    fig,
    "iso-speed",
    caption=rf"Steps to {growth_target:.0%} training accuracy of critical networks of depth {curve_depth} against the relative variance of $\lambda$ "
    rf"that theory predicts for them, at the best of {len(growth_rates[1::2])} rates; mean and standard deviation over {len(race_seeds)} seeds. Points above the dotted line "
    f"did not arrive within {growth_steps} steps.",
    alt=f"Rank correlation {rank:.2f} over {len(order)} kinds of networks, between variance and median steps. "
    + "; ".join(
        f"{n} {e} q* = {q:g}: variance {row.variance:.2g}, "
        + (
            f"median {row.steps:.0f} steps"
            if np.isfinite(row.steps)
            else f"not within {growth_steps} steps"
        )
        for (n, e, q), row in order.iterrows()
    )
    + ".",
)

# %% [markdown]
# It is the variance that counts, not the kind of weights: orthogonal tanh networks at $q^*=1.6$, with a variance close to that of Gaussian ones, are about as
# slow. Below a relative variance of about 2 nothing more is gained. ReLU does worse than its variance alone would have it: on its critical line the
# correlation of any two inputs tends to 1 as well, so that there is less and less to tell apart.
#
# ## Where theory and experiment part
#
# **The spectrum is that of infinite width.** How far a single network is off falls between $N^{-1/2}$ and $N^{-1}$ ({numref}`iso-fit`), at a
# *fixed* depth. Gaussian networks much deeper than they are wide are another matter: the logarithms of
# their singular values make a random walk of $D$ steps, each of variance of order $1/N$, so that their variance grows as $D/N$. Free
# probability, with $N\to\infty$ first, does not know of it.
#
# **Isometry at initialisation is a statement about the first step.** Nothing keeps the weights orthogonal while they learn. That the
# head start lasts is an observation, not a consequence.
#
# **The smallest $q^*$ is not the best.** The table compares the orthogonal networks of {numref}`iso-curves` early and late: the one closest to
# isometry ends last. It is nearer to a linear network, which cannot learn what a deep one can, and its logits, of the order of $\sqrt{q^*}$, start
# small, which slows learning too ({numref}`cnn-recipe`); these runs cannot tell the two apart.

# %% tags=["hide-input"]
early = scored_at[max(1, len(scored_at) // 10)]
rows = {}
for label, point in races.items():
    by_step = raced[label, "orthogonal"].groupby("step").train_accuracy
    per_layer = (
        float(
            isometry.slope_ratio(
                "tanh", float(mean_field.fixed_point("tanh", *point).q)
            )
        )
        - 1
    )
    rows[plain(label)] = {
        "relative variance of λ": curve_depth * per_layer,
        f"accuracy after {early} steps": by_step.mean()[early],
        "its standard error": by_step.sem()[early],
        f"after {scored_at[-1]} steps": by_step.mean()[scored_at[-1]],
        "standard error": by_step.sem()[scored_at[-1]],
    }
pd.DataFrame(rows).T.style.format("{:.3f}").format(
    "{:.2g}", subset=["relative variance of λ"]
)

# %% [markdown]
# ## Verdicts
#
# What the paper claims, against the numbers of this page. The same records make the {doc}`scorecard <scorecard>`.

# %% tags=["hide-input"]
off_line = {"ordered": (1.5, 0.05), "critical": critical_at("tanh", q_star), "chaotic": (2.5, 0.05)}
growth_rows = []
for (phase, point), ensemble, depth in itertools.product(off_line.items(), ENSEMBLES, (2, 8)):
    here = mean_field.fixed_point("tanh", *point)
    drawn = jacobian.sample_spectrum(
        "tanh",
        width=sample_width,
        depth=depth,
        sigma_w2=point[0],
        q=float(here.q),
        ensemble=ensemble,
        n_networks=40,
        seed=seed + 2,
    )
    per_network = np.exp(drawn).mean(axis=1) / float(here.chi_1) ** depth
    growth_rows.append(
        {
            "phase": phase,
            "ensemble": ensemble,
            "depth": depth,
            "chi": float(here.chi_1) ** depth,
            "ratio": per_network.mean(),
            "error": per_network.std(ddof=1) / np.sqrt(len(per_network)),
        }
    )
growth_of_mean = pd.DataFrame(growth_rows)
deepest = growth_of_mean[growth_of_mean.depth == 8]
report.claim(
    "mft-eq11-12-mean",
    statement="χ₁^D is the mean squared singular value of the Jacobian of D layers.",
    source="eqs. 11, 12",
    paper="χ₁^D",
    ours="mean over χ₁^8: "
    + ", ".join(f"{r.ratio:.3f} ± {2 * r.error:.3f} ({r.phase}, {r.ensemble}, χ₁^8 = {r.chi:.3f})" for r in deepest.itertuples()),
    checks={
        f"{phase}: within three standard errors and D/N": bool(
            (np.abs(rows.ratio - 1) < 3 * rows.error + rows.depth / sample_width).all()
        )
        for phase, rows in growth_of_mean.groupby("phase")
    },
    note=f"tanh, depths 2 and 8, 40 networks of width {sample_width}; at finite width the mean is off by a bias of order D/N.",
)
last_distance = {
    case: float(at_case(pooled, *case).distance.iloc[-1]) for case in fit_cases
}
report.claim(
    "mft-eq11-12-density",
    statement="The spectral density of the Jacobian follows from those of its factors.",
    source="§3.2",
    ours=f"at width {fit_widths[-1]} the distributions differ by "
    + ", ".join(f"{d:.4f} ({n}, {e})" for (n, e), d in last_distance.items())
    + "; single networks by N^p, p = "
    + ", ".join(f"{s[0]:.2f} ± {2 * s[1]:.2f}" for s in fit_slopes.values()),
    checks={
        "tanh: all networks together within 0.025 at the largest width": max(
            d for (n, _), d in last_distance.items() if n == "tanh"
        )
        < 0.025,
        "ReLU, with its share of zeros: nearer at every larger width": bool(
            (np.diff(at_case(pooled, "relu", "gaussian").distance) < 0).all()
        ),
        "single networks approach the theory at least as N^-0.4": all(
            s[0] < -0.4 for s in fit_slopes.values()
        ),
    },
    note=f"Depth {fit_depth}, largest difference of the distribution functions. For ReLU it is the share of λ = 0 that lags behind, as N^-1/2: the layer with the fewest "
    "active neurons sets it.",
)
exponent_q2 = {
    name: np.diff(np.log(isometry.slope_ratio(name, np.array([1e-4, 1e-3])) - 1))[0]
    / np.log(10)
    for name in ("tanh", "erf")
}
relu_excess = isometry.slope_ratio("relu", q_axis) - 1
report.claim(
    "mft-isometry",
    statement="ReLU and Gaussian weights cannot reach isometry; sigmoidal activations (tanh and sigmoid) with orthogonal weights can.",
    source="§3.2",
    ours=f"relative variance per layer: ReLU {relu_excess.min():.6g} at every q*, Gaussian at least 1, tanh and erf falling as q*^"
    f"{exponent_q2['tanh']:.3f} and q*^{exponent_q2['erf']:.3f}, sigmoid at least {least_sigmoid.ratio - 1:.4f}",
    checks={
        "ReLU adds at least 1 per layer": bool(relu_excess.min() > 1 - 1e-9),
        "Gaussian weights add at least 1 per layer": all(
            float(isometry.relative_variance(n, 1e-6, 10, ensemble="gaussian"))
            >= 10
            for n in odd_names
        ),
        "tanh and erf with orthogonal weights: as little as one likes": all(
            p > 1.9 for p in exponent_q2.values()
        ),
        "the logistic sigmoid with orthogonal weights: as little as one likes": least_sigmoid.ratio
        < 1.01,
    },
    scale="exact",
    note="The relative variance of λ must vanish for isometry; see erratum 6 for the sigmoid.",
)
for measure, word in (("train_accuracy", "training"), ("test_accuracy", "test")):
    report.claim(
        f"mft-fig3-fc-{word}",
        statement=f"At depth 40 the {word} accuracy of orthogonal fully connected networks leaves that of Gaussian ones behind.",
        source="fig. 3, §4.4",
        ours="; ".join(
            f"{plain(label)}: lead {lead[label, measure].value:.3f} ± {2 * lead[label, measure].error:.3f}"
            for label in races
        ),
        checks={
            plain(label): lead[label, measure].value > 2 * lead[label, measure].error
            for label in races
        },
        note=f"Lead in accuracy, averaged over {curve_steps} steps, with two standard errors over {n_seeds} seeds; {dataset}, width {width}.",
    )
found_o, found_g = exponents["orthogonal"], exponents["gaussian"]
report.claim(
    "mft-text-epochs",
    statement="With orthogonal weights the epochs to convergence grow sub-linearly with depth, with Gaussian weights linearly.",
    source="§2",
    paper="below 1; 1",
    ours=f"exponents: orthogonal {exponent_text(found_o)}; Gaussian {exponent_text(found_g)}",
    checks={
        "orthogonal: exponent below 1": found_o is not None and found_o.upper < 1,
        "Gaussian: exponent within 0.2 of 1": found_g is not None
        and abs(found_g.exponent - 1) < 0.2,
        "no best rate of an orthogonal network at the end of the range tried": bool(
            (best_rates["orthogonal"] < growth_rates[-1]).all()
            and (best_rates["orthogonal"] > growth_rates[0]).all()
        ),
    },
    note=f"Steps to {growth_target:.0%} training accuracy at the best of {len(growth_rates)} rates; tanh, q* = {growth_q_star:g}, width {width}.",
)
report.claim(
    "mft-text-isometry-speed",
    statement="The nearer a network is to dynamical isometry, the faster it learns.",
    source="§4.4",
    ours=f"rank correlation of steps with predicted relative variance {rank:.2f} (chance: p = {rank_p:.4f})",
    checks={
        "positive, and by chance in fewer than 1 of 100 shuffles": rank > 0
        and rank_p < 0.01
    },
    note=f"{len(order)} kinds of critical networks of depth {curve_depth}: four activations, both ensembles, relative variances from "
    f"{order.variance.min():.2g} to {order.variance.max():.2g}.",
)

# %% [markdown]
# (iso-errata)=
# ## Slips in the printed formulas and statements
#
# **The logistic sigmoid cannot reach isometry.** Its slope ratio is computed along its whole critical line. The line begins at
# $\sigma_b^2=0$ and has no point with small $q^*$: the sigmoid's mean output of $\frac12$ keeps feeding the length map.

# %%
sigmoid_biases = np.array([0.0, 1.0, 10.0, 100.0, 1000.0])
sigmoid_line = mean_field.critical_sigma_w2("sigmoid", sigmoid_biases)
along_line = isometry.slope_ratio("sigmoid", sigmoid_line.q)
display(
    pd.DataFrame(
        {
            "σ_b²": sigmoid_biases,
            "σ_w²": sigmoid_line.sigma_w2,
            "q*": sigmoid_line.q,
            "μ₂/μ₁²": along_line,
        }
    )
    .style.hide(axis="index")
    .format("{:.4g}")
)
report.erratum(
    "mft-6",
    source="§3.2",
    statement="The logistic sigmoid is named among the activations that reach isometry with orthogonal weights.",
    paper="relative variance 0",
    ours=f"at least {least_sigmoid.ratio - 1:.4f} per layer, at σ_w² = {least_sigmoid.sigma_w2:.2f}, σ_b² = {max(0.0, round(float(least_sigmoid.sigma_b2), 9)):.4g}",
    shown=bool(
        least_sigmoid.ratio > 2
        and np.all(along_line >= least_sigmoid.ratio * (1 - 1e-9))
    ),
    note="Least slope ratio on the whole critical line, minus 1; ReLU, which the paper excludes, has 1.",
)

# %% [markdown]
# **It is the pre-activations that have variance $q^*$.** After eq. 12, $A$ and $W$ are said to be those "for when the weight
# variance is set to the fixed point $q^*$". With weights of variance $q^*/N$ the trace is not $\chi_1$.

# %%
printed_point = (1.5, 0.05)
fixed = mean_field.fixed_point("tanh", *printed_point)
generator = np.random.default_rng(seed)
n_trace = 2000
slopes = activations.get("tanh").d1(
    np.sqrt(float(fixed.q)) * generator.standard_normal(n_trace)
)
unit = generator.standard_normal((n_trace, n_trace)) / np.sqrt(n_trace)
per_unit_variance = float(np.sum((slopes[:, None] * unit) ** 2) / n_trace)
print(
    f"chi_1 = {fixed.chi_1:.4f};  (1/N) tr (AW)'(AW) = {printed_point[0] * per_unit_variance:.4f} with weight variance sigma_w2, "
    f"{fixed.q * per_unit_variance:.4f} with weight variance q*"
)
report.erratum(
    "mft-9",
    source="after eq. 12",
    statement="A and W are taken with the weight variance set to the fixed point q*.",
    paper=float(fixed.q * per_unit_variance),
    ours=float(printed_point[0] * per_unit_variance),
    shown=bool(
        abs(printed_point[0] * per_unit_variance / fixed.chi_1 - 1) < 0.02
        and abs(fixed.q * per_unit_variance / fixed.chi_1 - 1) > 0.2
    ),
    scale="quick",
    note=f"(1/N) tr (AW)ᵀAW of one matrix, N = {n_trace}, against χ₁ = {float(fixed.chi_1):.4f}: it is the pre-activation variance that is q* "
    "(tanh, σ_w² = 1.5, σ_b² = 0.05).",
)

# %% [markdown]
# **The indices of eq. 11 do not fit those of eq. 1.** With $z^l=W^ly^l+b^l$ and $y^{l+1}=\varphi(z^l)$, the derivative
# $\partial y^D/\partial z^0$ begins with the slopes of layer 0 and contains $D-1$ weight matrices, not $D$. The product
# {eq}`eq-iso-jacobian` is $\partial y^{D+1}/\partial y^1$ in that notation. A network of three layers tells them apart.

# %%
n_small, layers = 6, 3
draw = torch.Generator().manual_seed(seed)
weights = (
    torch.randn(layers + 1, n_small, n_small, dtype=torch.float64, generator=draw)
    / n_small**0.5
)
y_0 = torch.randn(n_small, dtype=torch.float64, generator=draw)


def forward(z_0):
    """Return every z^l of the paper's eq. 1, from z^0 on, and y^D."""
    z = [z_0]
    for weight in weights[1:layers]:
        z.append(weight @ torch.tanh(z[-1]))
    return z, torch.tanh(z[-1])


z_0 = weights[0] @ y_0
as_defined = torch.autograd.functional.jacobian(lambda z: forward(z)[1], z_0)
z_all = forward(z_0)[0]
z_all.append(weights[layers] @ torch.tanh(z_all[-1]))
product = torch.eye(n_small, dtype=torch.float64)
for weight, z in zip(
    weights[1:], z_all[1:], strict=True
):  # layers 1 … D, as eq. 11 has them
    product = torch.diag(1 - torch.tanh(z) ** 2) @ weight @ product
eq11_difference = float((as_defined - product).norm() / product.norm())
report.erratum(
    "mft-16",
    source="eq. 11",
    statement="The product of A^l W^l over l = 1 … D is printed as the derivative of y^D with respect to z^0.",
    paper="equal",
    ours=f"they differ by {eq11_difference:.2f} of the product's norm",
    shown=eq11_difference > 0.1,
    note="Layers counted as in eq. 1, where y^D = φ(z^(D-1)); the product is the derivative of y^(D+1) with respect to y^1. The indices are those of the text of the paper that we hold.",
)

# %% [markdown]
# ## Exercises
#
# 1. *(warm-up)* Show from {eq}`eq-iso-s` that a single Gaussian layer with $\varphi(x)=x$ has the spectrum of Marchenko and
#    Pastur, and compare `isometry.spectrum("linear", 1.0, 1.0, 1, ensemble="gaussian")` with its formula.
# 2. Expand $\varphi'(x)^2$ of tanh to second order and derive $\mu_2/\mu_1^2-1\approx8q^{*2}$. Why does erf, with another
#    slope and another third derivative at 0, have the same 8? Which ratio of derivatives decides?
# 3. For ReLU and hard-tanh $s$ is 0 or 1. Write {eq}`eq-iso-master` as a polynomial equation for $x$ at depth 2 and compare its
#    roots with `isometry.spectrum`.
# 4. Show from {eq}`eq-iso-master` that the largest $\lambda$ of a critical network grows as $e\,D\,(\mu_2/\mu_1^2-1)$ for large $D$ with
#    orthogonal weights and as $e\,D\,\mu_2/\mu_1^2$ with Gaussian ones. Where in {numref}`iso-reach` does that law set in?
# 5. Run `mflib run dynamical-isometry -p growth_q_star=0.4 -o isometry.ipynb`. What becomes of the race in
#    {numref}`iso-growth`, and what does {eq}`eq-iso-variance` say about it?
# 6. How wide must a Gaussian network of depth 80 be to reach 70 % within 150 steps? Set `growth_depths=5,10,20,40,80`
#    and `growth_steps=150`, vary `width`, and compare with the guess that depth over width decides.
# 7. *(open)* Follow the relative variance of $\lambda$ during training. Does the network stay near isometry, and does it matter?
