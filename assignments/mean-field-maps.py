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
# # Mean-field maps: which random networks are ordered, and how deep may they be?
#
# You get an activation that no paper has tabulated, and three weight variances. At the end you will
# know which of the three networks are ordered and which are chaotic, over how many layers the angle
# between two inputs is forgotten, and how far a network of finite width follows the theory. You will
# then be able to
#
# - derive the length map from the definition of a random layer, and say what is exact at every width;
# - compute Gaussian averages to an accuracy that you can defend, and a critical line from them;
# - measure a depth scale from a map, without a formula for it;
# - compare a theory with sampled networks: which error bar is right, and from which layer on the
#   theory is only a limit.
#
# **Time**: about 90 minutes, for readers of the chapter *Fully connected networks: order, chaos and
# depth*, whose notation is used here. **Points**: 38, of which 26 are given automatically and 12 by
# hand.
#
# **Allowed**: the book, numpy, scipy, matplotlib. At your desk you may check yourself against
# `mflib.theory.mean_field`, which takes any activation made with `activations.from_callable`. The
# functions that you hand in are to be your own: when they are graded, a call into `mflib` is noticed
# and earns nothing. A slip is not paid again and again: hidden tests put right earlier functions beside
# the one they test. For that, let your functions call earlier ones by name, with the arguments of their
# signatures.

# %%
from mflib import classroom

classroom.token("")  # between the quotes: the token that your teacher gave you

# %% nbgrader="locked numbers"
import matplotlib.pyplot as plt
import numpy as np
from scipy import optimize

mine = classroom.begin(
    "mean-field-maps",
    slope=classroom.between(0.8, 1.6, step=0.1),
    leak=classroom.between(0.05, 0.25, step=0.05),
    sigma_b2=classroom.between(0.05, 0.15, step=0.01),
    gain_a=classroom.between(1.10, 1.30, step=0.05),
    gain_b=classroom.between(3.0, 4.0, step=0.1),
    gain_c=classroom.between(1.5, 2.5, step=0.1),
)
mine

# %% nbgrader="tests token 1" mflib="no help"
marks = classroom.Marks(1)
with marks.part(1, "The token is that of the id under which you hand in."):
    classroom.check_token()
### BEGIN HIDDEN TESTS
# What later test cells compare with, and right versions of what a later answer may call: once, in
# a cell that is graded before all answers and calls no code of the student's.
import functools as _functools

from mflib.theory import activations as _mflib_activations
from mflib.theory import gaussian as _mflib_gaussian
from mflib.theory import mean_field as _mflib_mean_field

_mine_graded = classroom.graded()
_activation_of = _functools.cache(_mflib_activations.from_callable)


def _phi_graded(x):
    return np.tanh(_mine_graded.slope * x) + _mine_graded.leak * x


def _shifted_graded(x):  # neither odd nor even
    return np.tanh(_mine_graded.slope * x + 0.7)


# with the arguments of the signatures below, as answers may pass them by name
def _right_mean(f, q):
    return _mflib_gaussian.expectation(f, q).value


def _right_length_map(q, sigma_w2, sigma_b2, phi):
    return sigma_w2 * _right_mean(lambda u: phi(u) ** 2, q) + sigma_b2


def _right_dphi(x):
    return _mine_graded.slope * (1 - np.tanh(_mine_graded.slope * x) ** 2) + _mine_graded.leak


def _right_chi_1(q, sigma_w2, dphi):
    return sigma_w2 * _right_mean(lambda u: dphi(u) ** 2, q)


def _right_fixed_point(sigma_w2, sigma_b2, phi):
    return float(_mflib_mean_field.fixed_point(_activation_of(phi), sigma_w2, sigma_b2).q)


def _right_correlation_map(c, q, sigma_w2, sigma_b2, phi):
    return _mflib_mean_field.correlation_map(_activation_of(phi), c, sigma_w2, sigma_b2, q_a=q)


_right_answers = {
    "gaussian_mean": _right_mean,
    "length_map": _right_length_map,
    "dphi": _right_dphi,
    "chi_1": _right_chi_1,
    "fixed_point": _right_fixed_point,
    "correlation_map": _right_correlation_map,
}


def _right_versions(*names):
    """Return right versions of the named answers, for classroom.beside."""
    return {name: _right_answers[name] for name in names}


### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## Your networks
#
# Your activation is a tanh with a leak, which bends but never goes flat:
#
# $$\varphi(x) = \tanh(\alpha x) + \beta x, \qquad \alpha = \texttt{slope},\quad \beta = \texttt{leak}.$$
#
# There are three networks, A, B and C. All have your bias variance $\sigma_b^2$. Their weight variances
# are given through the *gain* $g = \sigma_w^2\,\varphi'(0)^2$, which is what $\chi_1$ would be if
# signals had no length at all.


# %% nbgrader="locked networks"
def phi(x):
    """Return tanh(slope · x) + leak · x for an array of any shape."""
    return np.tanh(mine.slope * x) + mine.leak * x


# the slope of phi at 0 is slope + leak
sigma_w2_a, sigma_w2_b, sigma_w2_c = (
    gain / (mine.slope + mine.leak) ** 2 for gain in (mine.gain_a, mine.gain_b, mine.gain_c)
)
print(f"A: {sigma_w2_a:.6f}   B: {sigma_w2_b:.6f}   C: {sigma_w2_c:.6f}")

# %% [markdown]
# ## 1. What is exact, and what needs a wide layer?
#
# *5 points by hand, about 12 minutes. In the book: the section "The length of a signal".*
#
# Layer $l$ computes $z^l = W^l y^l + b^l$, and hands on $y^{l+1} = \varphi(z^l)$; $y^1 = x$ is the input. The entries of
# $W^l$ are independent $\mathcal N(0, \sigma_w^2/N_l)$, where $N_l$ is the number of inputs of the layer, and those of $b^l$
# independent $\mathcal N(0, \sigma_b^2)$. Every layer has $N$ neurons, so that $N_l = N$ from the second layer on. Let
# $\hat q^{\,l} = \lVert z^l\rVert^2/N$ be the squared length per neuron in *one* network, and
# $q^1 = \sigma_w^2 \lVert x\rVert^2/N_1 + \sigma_b^2$.
#
# Derive the length map
#
# $$q^{l} = \sigma_w^2 \int \frac{dz}{\sqrt{2\pi}}\, e^{-z^2/2}\, \varphi\!\left(\sqrt{q^{l-1}}\, z\right)^2 + \sigma_b^2$$
#
# from this definition. Write down the law of $z^l$ *given* $y^l$ first. Say of each step whether it
# holds at every $N$ or only as $N\to\infty$, and where a law of large numbers is used and on which
# variables. Then answer: given the fixed input $x$ and finite $N$, for which $l$ is the mean of $\hat q^{\,l}$ over
# networks equal to $q^l$, and why? (The book says that the mean carries a bias of order $1/N$ for each layer passed. That is
# about correlations; here we ask about lengths.)

# %% [markdown] nbgrader="essay derivation 5"
# ### BEGIN SOLUTION
# **Given the layer before.** With $y = y^l$ fixed, $z^l_i = \sum_j W_{ij} y_j + b_i$ is a sum of independent
# Gaussians, hence Gaussian with mean 0 and variance
# $\sum_j (\sigma_w^2/N_l)\, y_j^2 + \sigma_b^2 = \sigma_w^2 \lVert y\rVert^2/N_l + \sigma_b^2 =: s^l$. Different $i$ use
# different rows and biases, so the components are independent. This is exact at every $N$.
#
# **The wide limit.** For $l\geq2$, $s^l = \sigma_w^2\, \frac1N \sum_j \varphi(z_j^{l-1})^2 + \sigma_b^2$ depends on the network through an
# average over $j$. Suppose $s^{l-1} \to q^{l-1}$. Given $s^{l-1}$ the $z_j^{l-1}$ are independent and $\mathcal N(0, s^{l-1})$,
# so by the law of large numbers (on the variables $\varphi(z_j^{l-1})^2$, which have finite variance) the average tends to
# $\int Dz\, \varphi(\sqrt{q^{l-1}} z)^2$. So $s^l \to q^l$, a number that is the same for every network. The induction starts at
# $s^1 = \sigma_w^2 \lVert x\rVert^2/N_1 + \sigma_b^2 = q^1$, which is not random. A second law of large numbers, on $(z_i^l)^2$,
# gives $\hat q^{\,l} \to q^l$. Infinite width is used in these two averages only.
#
# **Finite width.** Write $\mathcal V$ for the length map. Always $E\,\hat q^{\,l} = E\,s^l$.
# For $l=1$, $s^1 = q^1$ is a number, so the mean is exact. For $l=2$,
# $E\,s^2 = \sigma_w^2 E\,\varphi(z_1^1)^2 + \sigma_b^2 = \mathcal V(q^1) = q^2$, because each $z^1_j$ is exactly Gaussian with
# variance $q^1$: exact at every $N$. For $l=3$, $E\,s^3 = E\,\mathcal V(s^2)$, and $s^2$ fluctuates with a variance of order $1/N$.
# As $\mathcal V$ is not linear, $E\,\mathcal V(s^2) \approx \mathcal V(q^2) + \tfrac12 \mathcal V''(q^2) \operatorname{Var} s^2$: a bias of order $1/N$ that
# begins at the third layer and is there in all later ones.
#
# **Rubric** (5): 1 for the conditional law with its variance, the factor $1/N_l$ summed over $N_l$ inputs; 1 for saying that
# this, and the independence of neurons given the layer before, is exact at every $N$; 1 for the law of large numbers on $\varphi(z_j)^2$, with the
# induction or another argument for why the variance before may be taken as a number; 1 for $l=1$ and $l=2$ exact, with a reason; 1 for a bias from $l=3$ on, as a
# curved map acts on a fluctuating length. "By the central limit theorem $z$ is Gaussian" loses the second point: with Gaussian weights no limit is
# needed for that.
# ### END SOLUTION

# %% [markdown]
# ## 2. The length map, to six digits
#
# *4 points, about 8 minutes. In the book: the same section.*
#
# Write a quadrature of your own for $E[f(u)]$, $u \sim \mathcal N(0, q)$, and the length map with it. The relative error
# is to be at most $10^{-6}$ for every $q$ from 0 to 10, for smooth functions such as $\varphi^2$, of any symmetry.
#
# A textbook answer is a Gauss–Hermite rule of 20 points. Before you trust it, double the points at $q = 10$ and look at
# which digits stay. $\tanh(\alpha\sqrt q\, z)$ has poles at $z = \pm i\pi/(2\alpha\sqrt q)$, and the closer they come to the real axis, the more
# points a rule needs; compare with the plain trapezoidal rule on a long interval.


# %% nbgrader="solution length-map"
def gaussian_mean(f, q):
    """Return E[f(u)], u ~ N(0, q).

    f: takes and returns an array of any shape; q ≥ 0: a number or an array of any shape.
    Returns the shape of q.
    """
    ### BEGIN SOLUTION
    # the trapezoidal rule converges geometrically here: its error is about exp(−2π d/step), with d
    # the distance of the nearest pole from the axis, which is above 0.3 for q ≤ 10
    step = 0.05
    z = step * np.arange(-200, 201)
    weights = step * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return f(np.sqrt(q)[..., None] * z) @ weights
    ### END SOLUTION


def length_map(q, sigma_w2, sigma_b2, phi):
    """Return the next layer's length, the shape of q.

    q ≥ 0: a number or an array; sigma_w2, sigma_b2 ≥ 0: numbers; phi: any activation.
    """
    ### BEGIN SOLUTION
    return sigma_w2 * gaussian_mean(lambda u: phi(u) ** 2, q) + sigma_b2
    ### END SOLUTION


# %% nbgrader="tests length-map-tests 4" mflib="noticed"
marks = classroom.Marks(4)
with marks.part(
    1,
    "E[u²] is q, for a number and for an array, and without bends the map is a straight line.",
    hint="Do the weights of your rule add up to 1? For phi(u) = u, which slope and offset?",
    by_hand=True,
):
    classroom.close(gaussian_mean(np.square, 2.0), 2.0, rtol=1e-6)
    classroom.close(gaussian_mean(np.square, np.array([0.5, 1.0, 3.0])), [0.5, 1.0, 3.0], rtol=1e-6)
    classroom.close(length_map(2.0, 1.5, 0.3, lambda u: u), 1.5 * 2.0 + 0.3, rtol=1e-6)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng([2, *(round(1000 * value) for value in _mine_graded.values())])
_q = np.array([[0.0, 0.01, _rng.uniform(0.1, 1.0)], [_rng.uniform(1.0, 5.0), 9.0, 10.0]])
_mean_of_square = _mflib_gaussian.expectation(lambda u: _phi_graded(u) ** 2, _q).value
_mean_of_shifted = _mflib_gaussian.expectation(_shifted_graded, _q).value
with marks.part(
    1,
    "gaussian_mean has a relative error of at most 1e-6 from q = 0 to q = 10, for any symmetry.",
    hint="Double the number of points at q = 10: do the first six digits stay? Try q = 0 too.",
    by_hand=True,
):
    classroom.close(
        gaussian_mean(lambda u: _phi_graded(u) ** 2, _q), _mean_of_square, rtol=1e-6, atol=1e-15
    )
    classroom.close(gaussian_mean(_shifted_graded, _q), _mean_of_shifted, rtol=1e-6)
_w, _b = _rng.uniform(1.2, 3.0), _rng.uniform(0.1, 0.5)
_next_q = {
    f: _mflib_mean_field.length_map(_activation_of(f), _q, _w, _b)
    for f in (_phi_graded, _shifted_graded)
}
with marks.part(
    1,
    "length_map is right for your activation.",
    hint="Try phi(u) = u**2 by hand: E[u⁴] is 3 q².",
    by_hand=True,
):
    classroom.beside(
        lambda: classroom.close(
            length_map(_q, _w, _b, _phi_graded), _next_q[_phi_graded], rtol=1e-6
        ),
        **_right_versions("gaussian_mean"),
    )
with marks.part(
    1,
    "length_map is right for an activation that is not odd.",
    hint="Does it use the phi that it is given? Nothing in the map assumes a symmetry.",
    by_hand=True,
):
    classroom.beside(
        lambda: classroom.close(
            length_map(_q, _w, _b, _shifted_graded), _next_q[_shifted_graded], rtol=1e-6
        ),
        **_right_versions("gaussian_mean"),
    )
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 3. The fixed point, and a guess that fails
#
# *5 points, about 12 minutes. In the book: the sections "The length of a signal" and "The angle between
# two signals".*
#
# All three of your gains are above 1: very short signals grow from layer to layer, and any two of them come apart. So
# are all three networks chaotic? The length that signals settle at, $q^*$, decides, through
# $\chi_1 = \sigma_w^2\, E[\varphi'(u)^2]$ with $u\sim\mathcal N(0, q^*)$. Guess first, then compute.
#
# `fixed_point` is to have a relative error of at most $10^{-6}$ for $\sigma_b^2$ from $10^{-4}$ to 1, wherever your
# activation has a fixed point. It has none at all weight variances: far out $\varphi$ grows like $\beta x$, so lengths settle
# only where $\sigma_w^2\beta^2 < 1$. Iterating the map is a fine method. But mind how you stop it: each step takes the distance
# to $q^*$ down by the factor $\mathcal V'(q^*)$, so a small step means a small distance only if that slope is not close to 1.
# Look at gain 1 and $\sigma_b^2 = 10^{-4}$.
#
# C may lie very near the line between the phases: how large is the error of your $\chi_1$, and how far is $\chi_1$ from 1?


# %% nbgrader="solution fixed-point"
def dphi(x):
    """Return the derivative of your activation, the shape of x."""
    ### BEGIN SOLUTION
    return mine.slope * (1 - np.tanh(mine.slope * x) ** 2) + mine.leak
    ### END SOLUTION


def chi_1(q, sigma_w2, dphi):
    """Return chi_1 at the length q, for the activation with the derivative dphi; the shape of q."""
    ### BEGIN SOLUTION
    return sigma_w2 * gaussian_mean(lambda u: dphi(u) ** 2, q)
    ### END SOLUTION


def fixed_point(sigma_w2, sigma_b2, phi):
    """Return the stable fixed point q_star > 0 of the length map, a number, for sigma_b2 > 0."""
    ### BEGIN SOLUTION
    # the step is (1 − slope) times the distance: 1e-12 of q leaves 1e-10 at a slope of 0.99
    q = 1.0
    for _ in range(100_000):
        step = length_map(q, sigma_w2, sigma_b2, phi) - q
        q += step
        if abs(step) < 1e-12 * q:
            return q
    raise ValueError("the length map has not settled")
    ### END SOLUTION


# %% nbgrader="solution phases"
def phase(sigma_w2, sigma_b2):
    """Return "ordered" or "chaotic", the phase of your activation at these two numbers."""
    ### BEGIN SOLUTION
    chi = chi_1(fixed_point(sigma_w2, sigma_b2, phi), sigma_w2, dphi)
    return "ordered" if chi < 1 else "chaotic"
    ### END SOLUTION


for name, sigma_w2 in {"A": sigma_w2_a, "B": sigma_w2_b, "C": sigma_w2_c}.items():
    print(name, phase(sigma_w2, mine.sigma_b2))

# %% nbgrader="tests fixed-point-tests 5" mflib="noticed"
marks = classroom.Marks(5)
with marks.part(
    1,
    "Without weights q* is the bias variance, and for phi(x) = x χ₁ is the weight variance.",
    hint="Which of σ_w² and σ_b² is left in each of these two cases?",
    by_hand=True,
):
    classroom.close(fixed_point(0.0, 0.3, np.tanh), 0.3, rtol=1e-6)
    classroom.close(chi_1(0.7, 1.5, np.ones_like), 1.5, rtol=1e-6)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng([3, *(round(1000 * value) for value in _mine_graded.values())])
_act = _activation_of(_phi_graded)
_unit = 1 / (_mine_graded.slope + _mine_graded.leak) ** 2  # the weight variance of gain 1
_w = _unit * np.array([_rng.uniform(1.0, 1.4), _rng.uniform(2.5, 4.0)])
_b = _rng.uniform(0.03, 0.5, size=2)
_q = np.array([0.01, _rng.uniform(0.2, 1.0), _rng.uniform(1.0, 5.0)])
_x = _rng.uniform(-2.0, 2.0, size=(2, 3))
_chi_1_there = _mflib_mean_field.chi_1(_act, _q, _w[0])
with marks.part(
    1,
    "dphi is the derivative of your activation, and χ₁ is right at given lengths.",
    hint="Compare dphi with a difference quotient of phi. Does a power apply before or after the mean?",
    by_hand=True,
):
    classroom.close(dphi(_x), _right_dphi(_x), rtol=1e-6)
    classroom.beside(
        lambda: classroom.close(chi_1(_q, _w[0], _right_dphi), _chi_1_there, rtol=1e-5),
        **_right_versions("gaussian_mean"),
    )
_right_q = _mflib_mean_field.fixed_point(_act, _w, _b).q
with marks.part(
    1,
    "fixed_point is right at moderate variances.",
    hint="Put your q* into your length map: does it come back?",
    by_hand=True,
):
    classroom.beside(
        lambda: classroom.close(
            [float(fixed_point(*point, _phi_graded)) for point in zip(_w, _b, strict=True)],
            _right_q,
            rtol=1e-5,
        ),
        **_right_versions("gaussian_mean", "length_map"),
    )
_slow_q = _mflib_mean_field.fixed_point(_act, _unit, 1e-4).q
with marks.part(
    1,
    "fixed_point keeps six digits where the map approaches it slowly.",
    hint="Gain 1 and a small bias variance: how far is q* when a step has become small?",
    by_hand=True,
):
    classroom.beside(
        lambda: classroom.close(fixed_point(_unit, 1e-4, _phi_graded), _slow_q, rtol=1e-6),
        **_right_versions("gaussian_mean", "length_map"),
    )
_gains = np.array([_mine_graded.gain_a, _mine_graded.gain_b, _mine_graded.gain_c])
_chi_1 = _mflib_mean_field.fixed_point(_act, _unit * _gains, _mine_graded.sigma_b2).chi_1
with marks.part(
    1,
    "The phases of A, B and C.",
    hint="Take χ₁ at each network's own fixed point, with the bias variance that is given.",
    by_hand=True,
):

    def _check_phases():
        for _w_k, _chi in zip(_unit * _gains, _chi_1, strict=True):
            _answer = phase(float(_w_k), _mine_graded.sigma_b2)
            classroom.same(str(_answer).strip().casefold() in ("ordered", "chaotic"), True)
            if abs(_chi - 1) > 1e-4:  # nearer to the line than that, either word will do
                classroom.same(_answer, "ordered" if _chi < 1 else "chaotic")

    classroom.beside(
        _check_phases,
        **_right_versions("dphi", "gaussian_mean", "length_map", "chi_1", "fixed_point"),
    )
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 4. The critical line
#
# *4 points, about 10 minutes. In the book: the section "The angle between two signals".*
#
# Between order and chaos lies the line $\chi_1 = 1$. First, without a computer: which weight variance is
# critical in the limit $\sigma_b^2\to0$? Then write a function that finds the critical $\sigma_w^2$ at any $\sigma_b^2$ from
# 0.005 to 1, with a relative error of at most $10^{-5}$.
#
# Two roots are nested here: $q^*$ depends on $\sigma_w^2$. You may nest two solvers. You may also
# turn the question round: take $q^*$ as the unknown. Which $\sigma_w^2$ makes $\chi_1 = 1$ at that length, and
# which $\sigma_b^2$ then makes it a fixed point? Whichever you take, a search that doubles its upper end must stop where
# lengths no longer settle.


# %% nbgrader="solution critical-line"
def critical_without_bias(slope, leak):
    """Return the critical weight variance of tanh(slope · x) + leak · x as sigma_b2 tends to 0."""
    ### BEGIN SOLUTION
    # q* tends to 0 there, and χ₁ to σ_w² φ′(0)²
    return 1 / (slope + leak) ** 2
    ### END SOLUTION


def critical_sigma_w2(sigma_b2):
    """Return the weight variance with chi_1 = 1 for your activation; sigma_b2 > 0: a number."""

    ### BEGIN SOLUTION
    def excess(log_q):
        # at a length q, χ₁ = 1 fixes σ_w², and then the bias variance that the fixed point needs
        q = np.exp(log_q)
        sigma_w2 = 1 / chi_1(q, 1.0, dphi)
        return q - length_map(q, sigma_w2, 0.0, phi) - sigma_b2

    # q* is above σ_b²; the other end is raised until it brackets the root
    low = high = np.log(sigma_b2)
    while excess(high) < 0:
        high += 0.5
    q = np.exp(optimize.brentq(excess, low, high, xtol=1e-12))
    return float(1 / chi_1(q, 1.0, dphi))
    ### END SOLUTION


# %% nbgrader="tests critical-line-tests 4" mflib="noticed"
marks = classroom.Marks(4)
with marks.part(
    1,
    "On your line, at your bias variance, your own χ₁ is 1.",
    hint="Where the fixed point moves with σ_w², so does χ₁: are both taken at the same σ_w²?",
    by_hand=True,
):
    _line = critical_sigma_w2(mine.sigma_b2)
    classroom.close(chi_1(fixed_point(_line, mine.sigma_b2, phi), _line, dphi), 1.0, atol=1e-4)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng([4, *(round(1000 * value) for value in _mine_graded.values())])
_earlier = _right_versions("dphi", "gaussian_mean", "length_map", "chi_1", "fixed_point")
_act = _activation_of(_phi_graded)
with marks.part(
    1,
    "The critical weight variance as the bias variance tends to 0.",
    hint="What becomes of q* there, and so of the mean in χ₁?",
    by_hand=True,
):
    classroom.close(
        critical_without_bias(_mine_graded.slope, _mine_graded.leak),
        1 / (_mine_graded.slope + _mine_graded.leak) ** 2,
        rtol=1e-6,
    )
    classroom.close(critical_without_bias(0.7, 0.4), 1 / (0.7 + 0.4) ** 2, rtol=1e-6)
_b = np.array([_mine_graded.sigma_b2, _rng.uniform(0.005, 0.05), _rng.uniform(0.2, 1.0)])
_lines = _mflib_mean_field.critical_sigma_w2(_act, _b).sigma_w2
with marks.part(
    1,
    "The critical weight variance at your bias variance.",
    hint="With a bias q* is above 0 and tanh bends: must weights be larger or smaller to make up?",
    by_hand=True,
):
    classroom.beside(
        lambda: classroom.close(critical_sigma_w2(_b[0]), _lines[0], rtol=1e-5),
        **_earlier,
    )
with marks.part(
    1,
    "The critical weight variance at other bias variances.",
    hint="Does the function use its argument, and does your bracket hold from 0.005 to 1?",
    by_hand=True,
):
    classroom.beside(
        lambda: classroom.close(
            [float(critical_sigma_w2(value)) for value in _b[1:]], _lines[1:], rtol=1e-5
        ),
        **_earlier,
    )
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 5. Two inputs, and a depth scale that you measure
#
# *6 points, about 20 minutes. In the book: the sections "The angle between two signals" and "Two depth
# scales".*
#
# Two inputs of the same length $q$ and correlation $c$ pass a layer. Write the map of the correlation,
# for any $q$ and any activation, with a relative error of at most $10^{-4}$ for $q$ up to 10. The pair is
# $u_1 = \sqrt q\,z_1$ and $u_2 = \sqrt q\,(c z_1 + \sqrt{1-c^2}\,z_2)$ with independent standard Gaussians $z_1$ and $z_2$, so a rule
# for one Gaussian, used twice, will do. Take mean square and mean product from rules that agree to all digits at $c = 1$, or 1 is not
# quite a fixed point.
#
# Then measure. At $q^*$ the map has an attracting fixed point $c^*$ in $[0, 1]$, and its slope there, $\chi_c$, gives
# $\xi_c = -1/\log\chi_c$. Find both from *your map alone*: no $\varphi'$ is needed. `depth_scale` is to be right within
# 0.001 in $c^*$ and 2 % in $\xi_c$. In the ordered phase $c^* = 1$ is the end of the interval: from which side
# can a slope be measured there?
# (By the rule of thumb of Schoenholz et al., 2017, networks train down to a depth of about $6\,\xi_c$.)


# %% nbgrader="solution correlation-map"
def correlation_map(c, q, sigma_w2, sigma_b2, phi):
    """Return the correlation after one layer of two inputs of length q and correlation c.

    c in [0, 1]: a number or an array; q > 0: a number, not necessarily a fixed point of the length
    map. Returns the shape of c.
    """
    ### BEGIN SOLUTION
    # at c = 1 the product is a mean over one Gaussian, so the step is chosen for that: see question 2
    step = 0.1
    z = step * np.arange(-80, 81)
    weights = step * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    c = np.asarray(c, dtype=float)[..., None, None]
    u_1 = np.sqrt(q) * z[:, None]
    u_2 = np.sqrt(q) * (c * z[:, None] + np.sqrt(1 - c**2) * z)
    product = ((phi(u_1) * phi(u_2)) @ weights) @ weights
    square = phi(u_1[:, 0]) ** 2 @ weights
    return (sigma_w2 * product + sigma_b2) / (sigma_w2 * square + sigma_b2)
    ### END SOLUTION


def depth_scale(sigma_w2, sigma_b2):
    """Return (c_star, xi_c), two numbers, for your activation."""

    ### BEGIN SOLUTION
    q = fixed_point(sigma_w2, sigma_b2, phi)
    c = 0.5
    for _ in range(10_000):
        before, c = c, float(correlation_map(c, q, sigma_w2, sigma_b2, phi))
        if abs(c - before) < 1e-10:
            break
    # a one-sided slope of second order: nothing lies to the right of c = 1
    h = 1e-3
    at = correlation_map(np.array([c, c - h, c - 2 * h]), q, sigma_w2, sigma_b2, phi)
    slope = (3 * at[0] - 4 * at[1] + at[2]) / (2 * h)
    return c, float(-1 / np.log(slope))
    ### END SOLUTION


# %% nbgrader="tests correlation-map-tests 6" mflib="noticed"
marks = classroom.Marks(6)
with marks.part(
    1,
    "Identical inputs stay identical, at any length.",
    hint="At c = 1 numerator and denominator are the same mean. Has each rule enough points at q = 8?",
    by_hand=True,
):
    for _length in (0.3, 8.0):
        classroom.close(correlation_map(1.0, _length, 1.5, 0.1, np.tanh), 1.0, rtol=1e-4)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng([5, *(round(1000 * value) for value in _mine_graded.values())])
_act = _activation_of(_phi_graded)
_unit = 1 / (_mine_graded.slope + _mine_graded.leak) ** 2  # the weight variance of gain 1
_c = np.array([0.0, _rng.uniform(0.1, 0.5), _rng.uniform(0.5, 0.9), 0.99])
_q, _w, _b = _rng.uniform(1.0, 9.0), _unit * _rng.uniform(1.2, 3.0), _rng.uniform(0.05, 0.3)
_right_c = {
    f: _mflib_mean_field.correlation_map(_activation_of(f), _c, _w, _b, q_a=_q)
    for f in (_phi_graded, _shifted_graded)
}
with marks.part(
    1,
    "The correlation map is right for your activation.",
    hint="Does phi(x) = x without bias leave c alone? Do more points change your result?",
    by_hand=True,
):
    classroom.beside(
        lambda: classroom.close(
            correlation_map(_c, _q, _w, _b, _phi_graded), _right_c[_phi_graded], rtol=1e-4
        ),
        **_right_versions("gaussian_mean", "length_map"),
    )
with marks.part(
    1,
    "The correlation map is right for an activation that is not odd.",
    hint="At c = 0 two inputs of such an activation still share its mean. Is the given phi used?",
    by_hand=True,
):
    classroom.beside(
        lambda: classroom.close(
            correlation_map(_c, _q, _w, _b, _shifted_graded), _right_c[_shifted_graded], rtol=1e-4
        ),
        **_right_versions("gaussian_mean", "length_map"),
    )
_earlier = _right_versions("gaussian_mean", "length_map", "fixed_point", "correlation_map")
_gains = np.array(
    [_mine_graded.gain_a, _rng.uniform(0.9, 1.1), _mine_graded.gain_b, _rng.uniform(3.3, 4.0)]
)
_w = _unit * _gains
_b = np.array(
    [
        _mine_graded.sigma_b2,
        _rng.uniform(0.05, 0.2),
        _mine_graded.sigma_b2,
        _rng.uniform(0.05, 0.15),
    ]
)
_points = _mflib_mean_field.fixed_point(_act, _w, _b)


def _close_at(rows, column, tolerance):
    answers = [float(depth_scale(float(_w[k]), float(_b[k]))[column]) for k in rows]
    classroom.close(answers, (_points.c, _points.xi_c)[column][rows], **tolerance)


with marks.part(
    1,
    "The fixed point c* of chaotic networks.",
    hint="Is the map taken at q*? Start the iteration below 1: from 1 it cannot leave.",
    by_hand=True,
):
    classroom.beside(lambda: _close_at([2, 3], 0, {"atol": 1e-3}), **_earlier)
with marks.part(
    1,
    "The depth scale of chaotic networks.",
    hint="A slope belongs to a point: at which c is yours measured?",
    by_hand=True,
):
    classroom.beside(lambda: _close_at([2, 3], 1, {"rtol": 0.02}), **_earlier)
with marks.part(
    1,
    "The fixed point and the depth scale of ordered networks.",
    hint="At c = 1 use points on the left only, and halve the step to see whether the slope stays.",
    by_hand=True,
):
    classroom.beside(lambda: _close_at([0, 1], 0, {"atol": 1e-3}), **_earlier)
    classroom.beside(lambda: _close_at([0, 1], 1, {"rtol": 0.02}), **_earlier)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 6. Do networks of 20 neurons follow the map?
#
# *6 points, about 12 minutes. In the book: the section "Do real networks follow the maps?".*
#
# Now sample. The network is the one of question 1: every layer has `width` neurons, and the first reads the input `x`. Draw
# `n_networks` networks, independent of each other in all weights and biases, measure
# $\hat q^{\,l} = \lVert z^l\rVert^2/N$ in each, and return the mean over networks with its standard error. No infinite-width
# map may be used, as what it misses is the question.
#
# The error bar is graded too. Neurons of one network share everything that went before them. Networks share nothing.
#
# At last, in which layer does the mean of $\hat q^{\,l}$ over networks begin to differ from the map's $q^l$ at finite width? Your
# answer to question 1 says it. Sampling shows it: take network B, an input with $\lVert x\rVert^2/N_1 = 0.1$, a width of 3 and
# $10^5$ networks.


# %% nbgrader="solution sampling"
def sample_length(x, layer, width, n_networks, sigma_w2, sigma_b2, phi, rng):
    """Return (mean, standard_error) of |z^layer|²/width over random networks, two numbers.

    x: (n_inputs,), the input, the same for all networks; layer ≥ 1; phi: any activation;
    rng: a numpy.random.Generator, from which everything random is drawn.
    """
    ### BEGIN SOLUTION
    y = np.broadcast_to(x, (n_networks, len(x)))
    for _ in range(layer):
        n_in = y.shape[1]
        weights = rng.normal(0, np.sqrt(sigma_w2 / n_in), size=(n_networks, width, n_in))
        biases = rng.normal(0, np.sqrt(sigma_b2), size=(n_networks, width))
        z = (weights @ y[..., None])[..., 0] + biases
        y = phi(z)
    lengths = (z**2).mean(axis=1)
    return float(lengths.mean()), float(lengths.std(ddof=1) / np.sqrt(n_networks))
    ### END SOLUTION


# %% nbgrader="solution first-biased-layer"
# Define first_biased_layer: the first layer whose mean length is not the map's at finite width.
### BEGIN SOLUTION
# layer 1 has a fixed variance; layer 2 averages over exact Gaussians; layer 3 sees layer 2 fluctuate
first_biased_layer = 3
### END SOLUTION

# %% nbgrader="tests sampling-tests 6" mflib="noticed"
marks = classroom.Marks(6)
with marks.part(
    1,
    "The first layer has the length that the input gives it, within five error bars of your own.",
    hint="How many inputs has the first layer, and which variance have its weights then?",
    by_hand=True,
):
    _mean, _error = sample_length(
        np.full(7, 2.0), 1, 40, 500, 1.5, 0.1, np.tanh, np.random.default_rng(1)
    )
    assert _error > 0
    classroom.close(_mean, 1.5 * 2.0**2 + 0.1, standard_error=min(_error, 0.2))
### BEGIN HIDDEN TESTS
_seed = [6, *(round(1000 * value) for value in _mine_graded.values())]
_w = _mine_graded.gain_b / (_mine_graded.slope + _mine_graded.leak) ** 2
_x = np.random.default_rng([0, *_seed]).uniform(0.1, 0.4, size=12)


def _lengths(layer, width, sigma_b2, n_networks):
    """Return |z^layer|²/width in networks from their law: given a layer, the next is Gaussian."""
    rng = np.random.default_rng([1, *_seed])
    variance = np.full((n_networks, 1), _w * np.mean(_x**2) + sigma_b2)
    for _ in range(layer):
        z = np.sqrt(variance) * rng.standard_normal((n_networks, width))
        variance = _w * np.mean(_phi_graded(z) ** 2, axis=1, keepdims=True) + sigma_b2
    return np.mean(z**2, axis=1)


def _sampled(layer, width, n_networks, sigma_w2, sigma_b2, phi):
    rng = np.random.default_rng([2, n_networks, *_seed])
    mean, error = sample_length(_x, layer, width, n_networks, sigma_w2, sigma_b2, phi, rng)
    return float(mean), float(error)


def _check_mean(layer, width, sigma_b2, n_networks):
    """Compare means of two samples: the difference has the errors of both."""
    right = _lengths(layer, width, sigma_b2, 4 * n_networks)
    classroom.close(
        _sampled(layer, width, n_networks, _w, sigma_b2, _phi_graded)[0],
        right.mean(),
        standard_error=right.std() * np.sqrt(1 / n_networks + 1 / right.size),
    )


with marks.part(
    1,
    "The mean length in the second layer of networks of 20 neurons.",
    hint="How many inputs has the second layer? Is z measured, or phi(z)?",
    by_hand=True,
):
    _check_mean(2, 20, _mine_graded.sigma_b2, 4000)
with marks.part(
    1,
    "The mean length in the fifth layer of networks of 3 neurons, which are far from wide.",
    hint="Is the layer counted from 1, with new weights and biases in each layer and network?",
    by_hand=True,
):
    # with little bias variance the finite-width bias of the mean is many error bars
    _check_mean(5, 3, 0.01, 20_000)
    # without weights only the biases differ between networks, so no spread: they were shared
    assert _sampled(1, 3, 100, 0.0, 1.0, _phi_graded)[1] > 1e-6
# Without bends or biases |z^l|²/N is |x|²/n_inputs times l independent factors χ²_N/N: its k-th
# moment is known, and how far the spread of a sample strays follows from the fourth.
_layer, _width, _n = 3, 20, 2000
_second, _third, _fourth = (
    np.prod([1 + 2 * j / _width for j in range(k)]) ** _layer for k in (2, 3, 4)
)
_variance = _second - 1
_kurtosis = (_fourth - 4 * _third + 6 * _second - 3) / _variance**2
_right_error = np.mean(_x**2) * np.sqrt(_variance / _n)
with marks.part(
    1,
    "Four times the networks halve the error bar.",
    hint="Is it the error of the mean, or the spread of single networks?",
    by_hand=True,
):
    _few, _many = (_sampled(_layer, _width, n, 1.0, 0.0, lambda u: u)[1] for n in (_n, 4 * _n))
    # the squares of lengths have heavy tails, and 5 errors are passed more often than for a Gaussian
    classroom.close(
        _few / _many,
        2.0,
        standard_error=2.0 * np.sqrt((_kurtosis - 1) / 4 * (1 / _n + 1 / (4 * _n))),
        sigmas=7,
    )
with marks.part(
    1,
    "The error bar has the right size.",
    hint="How many independent numbers are averaged? And has each neuron a bias of its own?",
    by_hand=True,
):
    classroom.close(
        _sampled(_layer, _width, _n, 1.0, 0.0, lambda u: u)[1],
        _right_error,
        standard_error=_right_error * np.sqrt((_kurtosis - 1) / 4 / _n),
        sigmas=7,
    )
    # Without weights the length is the mean of N squared biases, χ²_N/N, whose kurtosis is
    # 3 + 12/N. One bias for a whole layer has the same mean, and √N times the spread.
    _right_error = np.sqrt(2 / _width / _n)
    classroom.close(
        _sampled(1, _width, _n, 0.0, 1.0, _phi_graded)[1],
        _right_error,
        standard_error=_right_error * np.sqrt((2 + 12 / _width) / 4 / _n),
        sigmas=7,
    )
with marks.part(
    1,
    "The first layer with a bias.",
    hint="Sample networks of width 3 and compare each layer with the map, or look at question 1.",
):
    classroom.same(first_biased_layer, 3)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 7. Show it
#
# *3 points by hand, about 6 minutes. In the book: the section "Two depth scales".*
#
# Draw one panel from which a reader who has not computed anything sees how fast two inputs of correlation 0 come to their end, for
# your networks A and B and for one on your critical line at your bias variance. Draw your $\xi_c$ as a rate where
# there is one, and write each $c^*$ in the legend. Start at $q^*$, so that only the correlation moves. Choose the axes so that a rate
# is a straight line.

# %% nbgrader="essay figure 3"
### BEGIN SOLUTION
# Rubric (3): 1 for |c − c*| against the layer for all three networks, axes labelled, each c* written
# down (1 for A and on the line, below 1 for B); 1 for a logarithmic axis on which exp(−l/ξ_c) is
# straight and parallel to the late layers of A and B; 1 for the critical network: slower than every
# exponential, and no ξ_c drawn for it.
fig, ax = plt.subplots(figsize=(6.5, 4.2), constrained_layout=True)
line = critical_sigma_w2(mine.sigma_b2)
layer = np.arange(61)
for k, (name, sigma_w2) in enumerate({"A": sigma_w2_a, "critical": line, "B": sigma_w2_b}.items()):
    q_star = fixed_point(sigma_w2, mine.sigma_b2, phi)
    c = [0.0]
    for _ in layer[1:]:
        c.append(float(correlation_map(c[-1], q_star, sigma_w2, mine.sigma_b2, phi)))
    c_star, xi_c = (1.0, np.inf) if name == "critical" else depth_scale(sigma_w2, mine.sigma_b2)
    gap = np.abs(np.array(c) - c_star)
    ax.semilogy(layer, gap, color=f"C{k}", label=rf"{name}: $c^*={c_star:.3f}$")
    if np.isfinite(xi_c):
        rate = 2 * gap[5] * np.exp(-(layer - 5) / xi_c)
        ax.semilogy(layer, rate, ":", color=f"C{k}", label=rf"$e^{{-l/\xi_c}}$, $\xi_c={xi_c:.1f}$")
ax.set(xlabel="layer $l$", ylabel="$|c^l - c^*|$, from $c^0 = 0$", ylim=(1e-7, 3))
ax.legend()
plt.show()
### END SOLUTION

# %% [markdown]
# ## 8. Say what it means
#
# *4 points by hand, about 10 minutes. Three short paragraphs in your own words, with your own numbers.*
#
# 1. (1 point) All three gains are above 1 and yet network A is what it is. Why, in terms of what the bias does to $q^*$ and
#    what that does to $\varphi'$?
# 2. (2 points) What does a classifier that is read off a deep layer lose in the ordered phase, and what in the chaotic one? Use
#    your $c^*$ of A and of B. A reader who sees only that two inputs of correlation 0.5 end at 0.98 cannot yet tell
#    the phase: which second measurement decides?
# 3. (1 point) The networks of question 6 had 20 neurons. Take their mean length at layer 5. Give the order in $1/N$ of the spread
#    over single networks and of the bias of the mean. What do more networks change: the error bar of the mean, the spread of
#    single networks, the bias?

# %% [markdown] nbgrader="essay interpretation 4"
# ### BEGIN SOLUTION
# 1. $\chi_1$ is the mean of $\sigma_w^2\varphi'^2$ over signals of length $q^*$, and the gain is its value at length 0. The bias keeps
#    $q^*$ above $\sigma_b^2 > 0$ at any weight variance. Signals of that length reach the bend of tanh, where $\varphi' < \varphi'(0)$, so
#    $\chi_1$ falls below the gain, and in A below 1: ordered. A bias pushes the critical line to larger weights.
# 2. Order: $c^* = 1$, all inputs end at the same point, the output is a constant, and what told the classes apart is gone: $1-c^l$ falls as
#    $e^{-l/\xi_c}$. Chaos: every two inputs, however close, end at the same correlation $c^* < 1$. Neighbours are torn apart, so that what inputs of a class had in common is lost.
#    To tell the phases, start two inputs close together, at a correlation of 0.999 or so: they approach each other in order and part in
#    chaos. (Equivalently: the slope of the map at 1, or the same two inputs in deeper layers, where $c$ goes on to 1 or stays.)
# 3. Spread over networks: $N^{-1/2}$. Bias of the mean: $N^{-1}$, and it begins at layer 3. More networks shrink the error bar of the mean, as
#    $1/\sqrt{n}$. They change neither the spread of single networks nor the bias: averaging takes the spread out of the *mean*, and what it
#    leaves there is the bias. For B with 20 neurons and $\lVert x\rVert^2/N_1 = 0.1$, the
#    mean at layer 5 lies about one percent (0.6 to 2, by the numbers) below $q^5$, and single networks scatter by more than a third of it.
#
# **Rubric** (4): 1 for paragraph 1: both steps, length up and slope down. 2 for paragraph 2: one for both losses, with $c^*$ of A and of B; one
# for a second start near $c=1$, the slope there, or deeper layers. 1 for paragraph 3: both orders, and of the three only the error bar changes
# (half a point without one of these). "More networks average the spread away but not the bias" is right where it speaks of the mean.
# ### END SOLUTION
