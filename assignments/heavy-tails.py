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
# # Heavy tails: what a few large weights do to a network
#
# It follows the chapter *Heavy tails: an extended critical regime*. After it you will be able to
#
# - derive the length map of a heavy-tailed layer from a characteristic function, and say which steps are exact;
# - draw stable variables, and check a sampler whose variance does not exist;
# - estimate the index of a tail with an honest error bar, and tell a stable law from two others that look like it;
# - say why a heavy-tailed network has no ordered phase at infinite width and one at every finite width.
#
# **Time:** about 90 minutes. **Points:** 33, of which 24 are given automatically and 9 by hand.
#
# **Allowed:** the book, papers, numpy and scipy without `scipy.stats.levy_stable`. Where a question says *your own code*, calls into `mflib` inside your functions are noticed and earn nothing;
# at your desk you may check yourself against it (`mflib.theory.stable` and `mflib.theory.levy`). A slip is paid once: where an answer rests on an earlier one, it is judged beside a right one or beside your own.
#
# **Convention**, as in the chapter: $X\sim S_\alpha(\sigma)$ means $\mathbb E\,e^{iuX}=e^{-|\sigma u|^\alpha}$. At $\alpha=2$ that is a Gaussian of variance $2\sigma^2$, not $\sigma^2$.
# Weights are $W_{ij}\sim S_\alpha\big((D_w/2N)^{1/\alpha}\big)$, biases $b_i\sim S_\alpha\big((D_b/2)^{1/\alpha}\big)$, and the weight scale is $g=D_w^{1/\alpha}$.
# Every random draw of yours takes a `numpy.random.Generator`.

# %%
from mflib import classroom

classroom.token("")  # between the quotes: the token that your teacher gave you

# %% nbgrader="locked numbers"
import math

import matplotlib.pyplot as plt
import numpy as np

from mflib.theory import levy, stable

mine = classroom.begin(
    "heavy-tails",
    alpha=classroom.between(1.2, 1.7, step=0.05),
    gain=classroom.between(1.2, 2.0, step=0.1),
    D_b=classroom.between(0.05, 0.2, step=0.01),
    slope=classroom.between(0.5, 2.0, step=0.1),
    width=classroom.one_of(30, 50, 100, 200),
    seed=classroom.between(1, 9999, step=1),
)
mine

# %% nbgrader="tests token 1" mflib="no help"
marks = classroom.Marks(1)
with marks.part(1, "The token is that of the id under which you hand in."):
    classroom.check_token()
marks.total()

# %% [markdown]
# ## 1. From a characteristic function to a length map (6 points, 20 minutes)
#
# *Chapter: "The stable law" and "A length map for heavy tails".*
#
# **(a)** (4 points by hand) The inputs $x_1,\dots,x_N$ of a layer with $N$ inputs are given numbers. Use nothing but characteristic functions.
#
# 1. Show that $aX$ is stable for $X\sim S_\alpha(\sigma)$, that the sum of independent $S_\alpha(\sigma_1)$ and $S_\alpha(\sigma_2)$ is stable, and give both scales.
# 2. Conclude that $h_i=\sum_jW_{ij}x_j+b_i$ is $S_\alpha\big((q/2)^{1/\alpha}\big)$, and find $q$.
# 3. Derive the length map $q\mapsto D_w\,\mathbb E|\varphi((q/2)^{1/\alpha}Z)|^\alpha+D_b$ for the next layer. Which steps are exact at any width, which one is not?
# 4. Now let the weights only have the *tail* of the stable law, not the law. Which step changes, and how? What must be asked of the $x_j$?

# %% [markdown] nbgrader="essay derivation 4"
# ### BEGIN SOLUTION
# 1. $\mathbb E e^{iuaX}=e^{-|\sigma au|^\alpha}$, so $aX\sim S_\alpha(|a|\sigma)$. For independent variables the characteristic functions multiply:
# $e^{-|\sigma_1u|^\alpha}e^{-|\sigma_2u|^\alpha}=e^{-(\sigma_1^\alpha+\sigma_2^\alpha)|u|^\alpha}$, so the sum is $S_\alpha\big((\sigma_1^\alpha+\sigma_2^\alpha)^{1/\alpha}\big)$. What adds is $\sigma^\alpha$.
#
# 2. $\sigma(h)^\alpha=\sum_j|x_j|^\alpha\frac{D_w}{2N}+\frac{D_b}2=\frac q2$ with $q=\frac{D_w}N\sum_j|x_j|^\alpha+D_b$. The $h_i$ of different rows are independent given the $x_j$.
#
# 3. With $x_j=\varphi(h_j)$ and $h_j=(q/2)^{1/\alpha}Z_j$, the next $q'=\frac{D_w}N\sum_j|\varphi(h_j)|^\alpha+D_b$. The law of $h$ given $q$ is exact at any width. Only the replacement of the
# average over $j$ by its mean needs $N\to\infty$ (law of large numbers; the mean must exist, as it does for bounded $\varphi$ and not for ReLU, $\mathbb E|Z|^\alpha=\infty$).
#
# 4. For weights $w=N^{-1/\alpha}v$ with that tail, $1-\mathbb E e^{iuv}\simeq|\sigma u|^\alpha$ for small $u$ only (the tail decides it, since $\alpha<2$). Then $\prod_j\big(1-|\sigma ux_j|^\alpha/N+o(1/N)\big)\to
# \exp\big(-|\sigma u|^\alpha\frac1N\sum_j|x_j|^\alpha\big)$: the law of $h$, exact before, now is a limit too. No single $x_j$ may carry the sum: $\max_j|x_j|^\alpha/N\to0$, which bounded activities satisfy.
#
# *Rubric.* 1 point for each item. 1: both scales. 2: $q$ with the bias; half a point if a factor 2 is wrong. 3: the exact steps and the limit are told apart; half a point for the map alone.
# 4: small-$u$ behaviour from the tail and the limit of the product; half a point for "a generalised central limit theorem" without reason. The condition on $x_j$ may be stated for bounded activities.
# ### END SOLUTION

# %% [markdown]
# **(b)** (2 points, your own code) Two consequences.
#
# - `preactivation_scale` gives the $\sigma$ of $h\sim S_\alpha(\sigma)$ for given inputs.
# - Dropout keeps every activity with probability $p$, multiplies it by a factor $f$, and sets it to 0 otherwise. `keep_factor` gives the $f$ that leaves the length map of a wide network unchanged.
#   (Common code uses $f=1/p$, whatever the weights are.)


# %% nbgrader="solution scales"
def preactivation_scale(x, alpha, D_w, D_b):
    """Return sigma of h ~ S_alpha(sigma), a number; x: (N,) the inputs of the layer."""
    ### BEGIN SOLUTION
    q = D_w * np.mean(np.abs(x) ** alpha) + D_b
    return (q / 2) ** (1 / alpha)
    ### END SOLUTION


def keep_factor(p, alpha):
    """Return the factor f of kept activities, a number; p in (0, 1]."""
    ### BEGIN SOLUTION
    return p ** (-1 / alpha)
    ### END SOLUTION


# %% nbgrader="tests scales-tests 2" mflib="noticed"
marks = classroom.Marks(2)
with marks.part(0.5, "At index 2, with one input and no bias, 2σ² is D_w x².", by_hand=True):
    classroom.close(2 * preactivation_scale(np.array([3.0]), 2.0, 1.5, 0.0) ** 2, 13.5, rtol=1e-9)
with marks.part(0.5, "Without dropout the factor is 1.", by_hand=True):
    classroom.close(keep_factor(1.0, 1.5), 1.0, rtol=1e-9)
    assert abs(keep_factor(0.5, 1.5) - 1) > 0.1, "With dropout it is another number."
### BEGIN HIDDEN TESTS
mine_graded = classroom.graded()
_rng = np.random.default_rng([mine_graded.seed, 1])
_alphas = np.array([mine_graded.alpha, *_rng.uniform(1.05, 1.95, 3)])
_inputs = _rng.standard_normal((4, 17))
with marks.part(
    0.5,
    "The scale is right for several inputs and a bias.",
    hint="What adds up over inputs and bias is σ^α. Is the 2 under D_w and D_b there, and the power at the end?",
    by_hand=True,
):
    for _a, _x in zip(_alphas, _inputs, strict=True):
        _sum = sum(0.8 / (2 * 17) * abs(_one) ** _a for _one in _x) + 0.3 / 2
        classroom.close(preactivation_scale(_x, _a, 0.8, 0.3), _sum ** (1 / _a), rtol=1e-6)
with marks.part(
    0.5,
    "The factor leaves the length map unchanged.",
    hint="Put a dropped-out activity into the mean of |x|^α. At index 2 you know the answer.",
    by_hand=True,
):
    for _a in _alphas:
        for _p in (0.3, 0.8):
            classroom.close(_p * keep_factor(_p, _a) ** _a, 1.0, rtol=1e-6)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 2. Draw what has no variance (4 points, 10 minutes, your own code)
#
# *Chapter: "The stable law".* With $U$ uniform on $(-\pi/2,\pi/2)$ and $W$ exponential of mean 1, independent,
#
# $$X=\frac{\sin\alpha U}{(\cos U)^{1/\alpha}}\left(\frac{\cos\big((1-\alpha)U\big)}{W}\right)^{(1-\alpha)/\alpha}\sim S_\alpha(1)$$
#
# (Chambers, Mallows and Stuck 1976). Before you code, see what is left of it at $\alpha=1$ and at $\alpha=2$: two samplers that you know, and a check of the convention.
#
# How do you test such a sampler? The variance of the draws says nothing for $\alpha<2$, and their mean has no ordinary standard error. The empirical characteristic function does: $\cos uX$ is bounded, so its mean
# has an ordinary standard error, $\sqrt{\big(\tfrac12(1+e^{-|2u|^\alpha})-e^{-2|u|^\alpha}\big)/n}$. That is what the test uses, at several $u$, at five standard errors.


# %% nbgrader="solution sampler"
def draw(alpha, shape, rng):
    """Return independent draws from S_alpha(1), an array of the given shape.

    alpha in [0.7, 2], a number; shape: a tuple; rng: numpy.random.Generator.
    """
    ### BEGIN SOLUTION
    u = np.pi * (rng.random(shape) - 0.5)
    w = rng.standard_exponential(shape)
    tilt = (np.cos((1 - alpha) * u) / w) ** ((1 - alpha) / alpha)
    return np.sin(alpha * u) / np.cos(u) ** (1 / alpha) * tilt
    ### END SOLUTION


# %% nbgrader="tests sampler-tests 4" mflib="noticed"
from unittest import mock as _mock

import scipy.stats as _stats


def _refuse(*_given, **_named):
    raise AssertionError("The draws are to come from the formula, not from scipy's own sampler.")


def _own_draws(alpha, shape, rng):
    """Return draw(alpha, shape, rng), while scipy's own sampler is refused."""
    law = type(_stats.levy_stable)
    with _mock.patch.object(law, "rvs", _refuse), _mock.patch.object(law, "_rvs", _refuse):
        return np.asarray(draw(alpha, shape, rng), dtype=float)


marks = classroom.Marks(4)
with marks.part(0.5, "The draws have the shape asked for and follow from rng.", by_hand=True):
    _first = _own_draws(1.5, (20, 30), np.random.default_rng(1))
    _again = _own_draws(1.5, (20, 30), np.random.default_rng(1))
    assert _first.shape == (20, 30), "The shape is another."
    assert np.array_equal(_first, _again), "The same seed gives other draws: draw with rng only."
    assert np.unique(_first).size > 590, "Many draws are equal."
with marks.part(0.5, "At index 2 the variance is 2.", by_hand=True):
    _squares = _own_draws(2.0, (20_000,), np.random.default_rng(2)) ** 2
    # Var(X²) = 2·2² for a Gaussian of variance 2
    classroom.close(_squares.mean(), 2.0, standard_error=np.sqrt(8 / 20_000))
### BEGIN HIDDEN TESTS
mine_graded = classroom.graded()
_rng = np.random.default_rng([mine_graded.seed, 2])
_frequencies = np.array([0.1, 0.4, 1.0, 2.0])
_many = 40_000


def _check_characteristic(alpha):
    """Hold the mean of cos(uX) and sin(uX) against exp(−|u|^α) and 0."""
    x = _own_draws(alpha, (_many,), _rng)
    assert x.shape == (_many,)
    assert np.isfinite(x).all()
    exact = np.exp(-(_frequencies**alpha))
    even = (1 + np.exp(-((2 * _frequencies) ** alpha))) / 2 - exact**2
    odd = (1 - np.exp(-((2 * _frequencies) ** alpha))) / 2
    angles = _frequencies[:, None] * x
    classroom.close(np.cos(angles).mean(1), exact, standard_error=np.sqrt(even / _many))
    classroom.close(np.sin(angles).mean(1), 0 * exact, standard_error=np.sqrt(odd / _many))


_others = _rng.uniform(0.75, 1.95, 2)
_tail_alpha = float(_rng.uniform(1.2, 1.6))
_beyond = float(2 * stable.sf(30.0, _tail_alpha))
with marks.part(
    1,
    "The characteristic function is right at index 1 and at your own.",
    hint="Put α = 1 into the formula: the second factor is 1, and what is left is Cauchy's law of half-width 1. Write the formula out: scipy's sampler is refused.",
    by_hand=True,
):
    _check_characteristic(1.0)
    _check_characteristic(mine_graded.alpha)
with marks.part(
    1,
    "It is right at other indices, below 1 too.",
    hint="Look at the exponents, and at their signs, on both sides of α = 1.",
    by_hand=True,
):
    for _other in _others:
        _check_characteristic(float(_other))
with marks.part(
    1,
    "The tail holds as many draws as it should.",
    hint="Count draws beyond 30 and compare with the tail of the chapter. Are draws cut off or left out?",
    by_hand=True,
):
    _far = np.abs(_own_draws(_tail_alpha, (_many,), _rng)) > 30
    assert _far.shape == (_many,)
    classroom.close(_far.mean(), _beyond, standard_error=np.sqrt(_beyond * (1 - _beyond) / _many))
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# From here on draw with `stable.sample(alpha, shape, rng=rng)`, so that a slip in question 2 is not paid for again (or with `draw`, once you trust it).
#
# ## 3. The index of a tail, with an error bar (5 points, 15 minutes, your own code)
#
# *Chapter: "The weights of trained networks".* `weights` below has your own index $\alpha$; pretend that you do not know it. Write an estimator of $\alpha$ for data from $S_\alpha(\sigma)$ with $\alpha$ between 1.1 and 1.8
# and any $\sigma$, together with its standard error. Two ways that work, in a few lines each:
#
# - $\operatorname{Var}\log|X|=\frac{\pi^2}6\big(\frac1{\alpha^2}+\frac12\big)$ at any $\sigma$: all moments of $\log|X|$ exist, whatever the tail;
# - $\log\big(-\log\mathbb E\cos uX\big)=\alpha\log u+\alpha\log\sigma$, at two values of $u$ chosen by the size of the data.
#
# The slope of $\log P(|X|>x)$ over the largest values (Hill's estimator) tempts, but it is biased here: for $\alpha$ near 2 the power law begins where hardly any draw lies.
#
# Your estimator is called some two hundred times with 4000 values; let a call take at most 50 ms. For the same data it gives the same two numbers (if you bootstrap, fix the seed). What is asked for:
#
# - it is right, at any scale, and its error is at most $6/\sqrt n$ for $n$ values;
# - **its error bar is true**: over 100 independent data sets (estimate − truth)/error has a root mean square between 0.7 and 1.4, at a small index and at a large one. An honest error gives $1\pm0.07$; one that is wrong by a factor of 2 does not pass;
# - `alpha_hat`, `alpha_error`: what your `tail_index` says of all your own `weights`. They are held against *these* weights, so the index that generated them is not the answer.

# %% nbgrader="locked weights"
weights = stable.sample(
    mine.alpha,
    (200, 400),
    scale=(mine.gain**mine.alpha / (2 * 400)) ** (1 / mine.alpha),
    rng=np.random.default_rng([mine.seed, 100]),
)


# %% nbgrader="solution tail-index"
def tail_index(x):
    """Return (alpha, standard_error), two numbers, for draws x of any shape from S_alpha(sigma)."""
    ### BEGIN SOLUTION
    y = np.log(np.abs(x)).ravel()
    variance = y.var()
    # the standard error of a sample variance, from the fourth moment
    error = np.sqrt((np.mean((y - y.mean()) ** 4) - variance**2) / y.size)
    alpha = max(6 * variance / np.pi**2 - 0.5, 0.1) ** -0.5
    # dα/dV = −3α³/π²
    return alpha, 3 * alpha**3 / np.pi**2 * error
    ### END SOLUTION


# %% nbgrader="solution own-index"
# alpha_hat, alpha_error: the index of your weights and its standard error
### BEGIN SOLUTION
alpha_hat, alpha_error = tail_index(weights)
### END SOLUTION

# %% nbgrader="tests tail-index-tests 5" mflib="noticed"
marks = classroom.Marks(5)
with marks.part(0.5, "Draws from Cauchy's law give an index near 1.", by_hand=True):
    _cauchy = np.random.default_rng(3).standard_cauchy(4000)
    _found, _stated = tail_index(_cauchy)
    classroom.close(_found, 1.0, atol=0.2)
    assert 0 < _stated < 0.2, "The standard error is not between 0 and 0.2."
    assert tuple(tail_index(_cauchy)) == (_found, _stated), "The same data give other numbers."
### BEGIN HIDDEN TESTS
mine_graded = classroom.graded()
_rng = np.random.default_rng([mine_graded.seed, 3])
_size, _repeats = 4000, 100
# two indices far apart: a factor of α^3 in the error, forgotten, is near 1 in between
_true_alphas = [float(_rng.uniform(1.15, 1.25)), float(_rng.uniform(1.65, 1.75))]
_samples = [stable.sample(_a, (_repeats, _size), rng=_rng) for _a in _true_alphas]
_one = stable.sample(float(_rng.uniform(1.2, 1.7)), (_size,), rng=_rng)
_own_weights = stable.sample(
    mine_graded.alpha,
    (200, 400),
    scale=(mine_graded.gain**mine_graded.alpha / (2 * 400)) ** (1 / mine_graded.alpha),
    rng=np.random.default_rng([mine_graded.seed, 100]),
)
_results = []
with marks.part(
    1.5,
    "The estimate is right at other indices, with an error of at most 6/√n.",
    hint="Draw data of a known index, many times: does the average agree with it? A bias does not fall with the number of draws.",
    by_hand=True,
):
    for _rows in _samples:
        _pairs = np.array([tail_index(_row) for _row in _rows], dtype=float)
        assert _pairs.shape == (_repeats, 2)
        assert np.isfinite(_pairs).all()
        _results.append(_pairs)
    for _pairs, _a in zip(_results, _true_alphas, strict=True):
        # of the mean of 100 estimates; any consistent estimate has a bias of order 1/n
        _scatter = _pairs[:, 0].std(ddof=1)
        classroom.close(
            _pairs[:, 0].mean(), _a, atol=0.01, standard_error=_scatter / np.sqrt(_repeats)
        )
        # a scatter of 100 is itself known to 7 %
        assert _scatter < 1.4 * 6 / np.sqrt(_size)
with marks.part(
    0.5,
    "Data of another scale give the same index.",
    hint="Multiply your data by 1000: nothing may change. Choose frequencies in units of the data's own size, such as its median of |x|.",
    by_hand=True,
):
    _middle = float(tail_index(_one)[0])
    for _scale in (1e-3, 30.0):
        # room for frequencies taken from a list
        classroom.close(tail_index(_scale * _one)[0], _middle, atol=0.03)
with marks.part(
    1.5,
    "The error bar is true: it is what the estimate scatters by.",
    hint="Draw 100 data sets and compare the scatter of the estimates with the errors that you state. Did you carry the error through to α, and divide by √n once?",
    by_hand=True,
):
    assert len(_results) == 2
    tail_index(_one)  # the results are those of the part above: notice here too whose code it is
    for _pairs in _results:
        _estimates, _errors = _pairs.T
        assert (_errors > 0).all()
        # around their own mean: a bias was paid for above. With true errors the sum of squares is
        # chi-square of 99 degrees of freedom: outside of these bounds 5 times in a million
        _pull = (_estimates - _estimates.mean()) / _errors
        assert 0.7 < _pull.std(ddof=1) < 1.4
with marks.part(
    1,
    "The index of your own weights follows from them, and so does its error bar.",
    hint="Call tail_index once, with all the weights of your own token. The index they were drawn from is not what these draws say.",
    by_hand=True,
):
    # by the student's own estimator: a bias and a wrong error bar were paid for above
    classroom.close(alpha_hat, tail_index(_own_weights)[0], rtol=1e-6)
    classroom.close(alpha_error, tail_index(_own_weights)[1], rtol=1e-6)
    assert alpha_error > 0
    # but it must look at its data, and come near the index of each
    classroom.close(tail_index(_cauchy)[0], 1.0, atol=0.2)
    classroom.close(alpha_hat, mine_graded.alpha, atol=0.2)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 4. Heavy-tailed, but stable? (3 points, 10 minutes, your own code)
#
# *Chapter: "The weights of trained networks".* Any data have a fitted $\alpha$. Below are three matrices, and an estimator finds nearly the same index in each, well below 2. Only one of them is stable:
#
# - `"stable"`: independent entries from $S_\alpha(\sigma)$, $\alpha$ between 1.45 and 1.6;
# - `"student"`: independent entries from Student's $t$ with 2.3 to 3 degrees of freedom, so of finite variance;
# - `"rows"`: Gaussian entries, $w_{ij}=s_i\,x_{ij}$: every row has a size of its own, $\log s_i$ has a standard deviation between 0.45 and 0.65.
#
# Write `verdict(W, index)`, which names the law of a $500\times500$ matrix. `index(x)` returns an estimate of $\alpha$ and its standard error for data of any shape: try `quantile_index`, and your own `tail_index`; the test
# brings one of its own, whose error is below $6/\sqrt n$ for $\alpha\le1.8$ and below $8/\sqrt n$ at 2, so that a slip in question 3 is not paid for again. Ask what each law, and only it, keeps under some operation: adding entries, dividing rows. The test shows it
# fresh matrices, four of each kind, of any overall scale, and wants at least three right.

# %% nbgrader="locked practice"
laws = np.random.default_rng([mine.seed, 200])
practice = {
    "stable": stable.sample(1.52, (500, 500), rng=laws),
    "student": laws.standard_t(2.6, (500, 500)),
    "rows": np.exp(0.55 * laws.standard_normal((500, 1))) * laws.standard_normal((500, 500)),
}


def quantile_index(x):
    """Return McCulloch's estimate of alpha and its standard error."""
    fit = stable.fit(x, method="quantiles")
    error = fit.standard_errors["alpha"]
    # at alpha = 2, the end of its range, the fit states no error: this is one to compare with
    return fit.alpha, error if np.isfinite(error) else 8 / np.sqrt(np.size(x))


# %% nbgrader="solution verdict"
def verdict(W, index):
    """Return "stable", "student" or "rows" for a matrix W: (500, 500); index(x): (alpha, error)."""
    ### BEGIN SOLUTION
    # the median, not the root mean square: for a stable law the latter is ruled by one entry
    balanced = W / np.median(np.abs(W), axis=1, keepdims=True)
    if index(balanced)[0] > 1.85:
        return "rows"
    # sums of 8: a stable law keeps its index, one of finite variance goes towards 2
    alone, error = index(W)
    summed, error_summed = index(W.reshape(-1, 8).sum(axis=1))
    return "student" if summed - alone > 3.5 * np.hypot(error, error_summed) else "stable"
    ### END SOLUTION


# %% nbgrader="tests verdict-tests 3" mflib="noticed"
marks = classroom.Marks(3)
with marks.part(0.5, "The three practice matrices get their right names."):
    for _name, _matrix in practice.items():
        classroom.same(verdict(_matrix.copy(), quantile_index), _name)
### BEGIN HIDDEN TESTS
mine_graded = classroom.graded()
_rng = np.random.default_rng([mine_graded.seed, 4])


def _index_by_logarithms(x):
    """Return alpha from Var log|X| = π²/6 (1/α² + 1/2), and its standard error."""
    y = np.log(np.abs(np.asarray(x, dtype=float))).ravel()
    v = y.var()
    estimate = max(6 * v / np.pi**2 - 0.5, 0.1) ** -0.5
    of_v = np.sqrt((((y - y.mean()) ** 4).mean() - v**2) / y.size)
    return estimate, 3 * estimate**3 / np.pi**2 * of_v


_fresh = {"stable": [], "student": [], "rows": []}
for _turn in range(4):
    _size = 10 ** _rng.uniform(-2, 1)
    # low and high indices in turn for both laws: no threshold on the index tells them apart
    _a = _rng.uniform(1.45, 1.5) if _turn % 2 else _rng.uniform(1.56, 1.6)
    _freedom = _rng.uniform(2.3, 2.45) if _turn % 2 else _rng.uniform(2.8, 3.0)
    _spread = np.exp(_rng.uniform(0.45, 0.65) * _rng.standard_normal((500, 1)))
    _fresh["stable"].append(_size * stable.sample(_a, (500, 500), rng=_rng))
    _fresh["student"].append(_size * _rng.standard_t(_freedom, (500, 500)))
    _fresh["rows"].append(_size * _spread * _rng.standard_normal((500, 500)))
with marks.part(
    1,
    "It tells the matrix of Gaussian rows from the two others.",
    hint="What is left of this matrix when every row is divided by its own size?",
    by_hand=True,
):
    _said = {k: [verdict(W.copy(), _index_by_logarithms) for W in _fresh[k]] for k in _fresh}
    assert _said["rows"].count("rows") >= 3
    assert _said["stable"].count("rows") <= 1
    assert _said["student"].count("rows") <= 1
with marks.part(
    1.5,
    "It tells the stable law from Student's t.",
    hint="Sums of a few entries: which law keeps its index? Compare the change with its error bar.",
    by_hand=True,
):
    for _name in ("stable", "student"):
        _names = [verdict(W.copy(), _index_by_logarithms) for W in _fresh[_name]]
        assert _names.count(_name) >= 3
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 5. The length map of a heavy-tailed network (5 points, 15 minutes, your own code)
#
# *Chapter: "A length map for heavy tails".* Given draws `z` from $S_\alpha(1)$, the map $q\mapsto D_w\,\mathbb E|\tanh((q/2)^{1/\alpha}Z)|^\alpha+D_b$ can be estimated by a mean over `z`, with an ordinary standard error: tanh is bounded.
# Keep `z` fixed while you iterate, and the fixed point of the estimated map is a definite number. Its error is *not* the error of the map there: an error of the map at $q^*$ is fed back through the slope of the map, again and again.
#
# - `layer_length` returns the next $q$ and its standard error. Accuracy: 1e-6 (relative) for the value, given `z`; 2 % for the error.
# - `fixed_point` returns $q^*$ of the estimated map and its standard error over the choice of `z`. Accuracy: 1e-5 (relative) for the value, 20 % for the error (the slope may come from a difference quotient, or the error from a bootstrap).
# - `q_star`, `q_star_error`: for your own `alpha`, `gain` ($D_w=g^\alpha$) and `D_b`, and the draws `z_lengths` below; the same accuracies. The exact $q^*$ is another number: it lies about `q_star_error` away.

# %% nbgrader="locked lengths-draws"
z_lengths = stable.sample(mine.alpha, (200_000,), rng=np.random.default_rng([mine.seed, 300]))


# %% nbgrader="solution length-map"
def layer_length(q, z, alpha, D_w, D_b):
    """Return (next_q, standard_error), two numbers, for tanh; q > 0; z: (n,) draws of S_alpha(1)."""
    ### BEGIN SOLUTION
    terms = D_w * np.abs(np.tanh((q / 2) ** (1 / alpha) * z)) ** alpha
    return terms.mean() + D_b, terms.std(ddof=1) / np.sqrt(z.size)
    ### END SOLUTION


def fixed_point(z, alpha, D_w, D_b):
    """Return (q_star, standard_error), two numbers; z: (n,) draws of S_alpha(1)."""
    ### BEGIN SOLUTION
    q = 1.0
    for _ in range(200):
        before, (q, error) = q, layer_length(q, z, alpha, D_w, D_b)
        if abs(q - before) < 1e-8 * q:
            break
    step = 1e-3 * q
    up, down = (layer_length(q + s * step, z, alpha, D_w, D_b)[0] for s in (1, -1))
    return q, error / (1 - (up - down) / (2 * step))
    ### END SOLUTION


# %% nbgrader="solution own-length"
# q_star, q_star_error: with your own alpha, gain and D_b, from z_lengths
### BEGIN SOLUTION
q_star, q_star_error = fixed_point(z_lengths, mine.alpha, mine.gain**mine.alpha, mine.D_b)
### END SOLUTION

# %% nbgrader="tests length-map-tests 5" mflib="noticed"
marks = classroom.Marks(5)
with marks.part(0.5, "Where every neuron is saturated, the next q is D_w + D_b.", by_hand=True):
    _value, _error = layer_length(1e9, np.array([-3.0, 2.0, 1.0]), 1.5, 0.8, 0.3)
    classroom.close(_value, 1.1, rtol=1e-9)
    classroom.close(_error, 0.0, atol=1e-9)
### BEGIN HIDDEN TESTS
mine_graded = classroom.graded()
_rng = np.random.default_rng([mine_graded.seed, 5])
_cases = []
for _ in range(3):
    _a = float(_rng.uniform(1.2, 1.7))
    _cases.append(
        (
            stable.sample(_a, (5000,), rng=_rng),
            _a,
            float(_rng.uniform(1.2, 2.0) ** _a),
            float(_rng.uniform(0.05, 0.2)),
        )
    )
_lengths = _rng.uniform(0.05, 2.0, 3)
_own_case = (
    stable.sample(
        mine_graded.alpha, (200_000,), rng=np.random.default_rng([mine_graded.seed, 300])
    ),
    mine_graded.alpha,
    mine_graded.gain**mine_graded.alpha,
    mine_graded.D_b,
)


def _terms_at(q, z, a, D_w):
    return D_w * np.abs(np.tanh((q / 2) ** (1 / a) * z)) ** a


def _right_layer_length(q, z, alpha, D_w, D_b):
    """Stand in for the answer, so that a slip there is not paid for again below."""
    terms = _terms_at(q, z, alpha, D_w)
    return terms.mean() + D_b, terms.std(ddof=1) / np.sqrt(z.size)


def _solved(z, a, D_w, D_b):
    """Return q* of the map estimated from z, by bisection, and its standard error."""
    low, high = D_b, D_b + D_w
    for _ in range(60):
        middle = (low + high) / 2
        if _terms_at(middle, z, a, D_w).mean() + D_b > middle:
            low = middle
        else:
            high = middle
    q = (low + high) / 2
    h = (q / 2) ** (1 / a) * z
    # q d/dq |tanh h|^α = |tanh h|^(α−1) |h| (1 − tanh² h), since α dh/h = dq/q
    t = np.abs(np.tanh(h))
    slope = D_w * np.mean(t ** (a - 1) * np.abs(h) * (1 - t**2)) / q
    return q, _right_layer_length(q, z, a, D_w, D_b)[1] / (1 - slope)


_solutions = [_solved(*_case) for _case in _cases]
_own_solution = _solved(*_own_case)


def _solves(which, rtol):
    """Check the value (0) or the standard error (1) of fixed_point in every case."""
    for case, right in zip(_cases, _solutions, strict=True):
        classroom.close(fixed_point(*case)[which], right[which], rtol=rtol)


def _is_own(answer, which, rtol):
    """Check an answer for one's own numbers: right, or what one's own fixed_point gives.

    A slip in the functions was paid for where it is.
    """
    try:
        classroom.close(answer, _own_solution[which], rtol=rtol)
    except AssertionError:
        given = fixed_point(*_own_case)
        classroom.close(answer, given[which], rtol=1e-6)
        assert 0.4 < given[0] / _own_solution[0] < 2.5
        classroom.beside(lambda: _depends(which), layer_length=_right_layer_length)


def _depends(which):
    """Check that fixed_point is no constant, and that its error falls with the number of draws."""
    own, others = fixed_point(*_own_case), [fixed_point(*case) for case in _cases]
    assert all(other[0] != own[0] for other in others)
    # by about √40 from 5000 draws to 200,000
    assert which == 0 or 0 < 3 * own[1] < min(other[1] for other in others)


with marks.part(
    1,
    "The next length is right.",
    hint="Powers: (q/2) to 1/α inside, and α outside. Is the bias added once?",
    by_hand=True,
):
    for (_z, _a, _D_w, _D_b), _q in zip(_cases, _lengths, strict=True):
        _right = _right_layer_length(_q, _z, _a, _D_w, _D_b)
        classroom.close(layer_length(_q, _z, _a, _D_w, _D_b)[0], _right[0], rtol=1e-6)
with marks.part(
    0.5,
    "The standard error of the next length is right.",
    hint="It is that of a mean of n terms, in the unit of q: does it know D_w, and √n?",
    by_hand=True,
):
    for (_z, _a, _D_w, _D_b), _q in zip(_cases, _lengths, strict=True):
        _right = _right_layer_length(_q, _z, _a, _D_w, _D_b)
        classroom.close(layer_length(_q, _z, _a, _D_w, _D_b)[1], _right[1], rtol=0.02)
with marks.part(
    1,
    "The fixed point of the estimated map is right.",
    hint="Iterate with the same z until q no longer changes, from a q of order 1.",
    by_hand=True,
):
    classroom.beside(lambda: _solves(0, 1e-5), layer_length=_right_layer_length)
with marks.part(
    1,
    "The standard error of the fixed point is right.",
    hint="Write q* = F(q*) + ε and expand F: how far does q* move for an ε of the map? Compare with the scatter over fresh z.",
    by_hand=True,
):
    classroom.beside(lambda: _solves(1, 0.2), layer_length=_right_layer_length)
with marks.part(
    0.5,
    "Your own fixed point is that of the map estimated from your draws.",
    hint="All of z_lengths, your own index and bias; D_w is the gain to the power α. The exact fixed point is not that of these draws.",
    by_hand=True,
):
    classroom.beside(lambda: _is_own(q_star, 0, 1e-5), layer_length=_right_layer_length)
with marks.part(
    0.5,
    "Its standard error is that of your draws.",
    hint="Is it the second number of your fixed_point, for all of z_lengths?",
    by_hand=True,
):
    classroom.beside(lambda: _is_own(q_star_error, 1, 0.2), layer_length=_right_layer_length)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 6. No ordered phase, and one after all (9 points, 20 minutes)
#
# *Chapter: "Why the fixed point is never zero" and "Finite width has an ordered phase after all".* Let there be no bias, and $\varphi(x)=\tanh(sx)$ with your own slope $s$.
#
# **(a)** (1 point, your own code) At infinite width $\mathbb E|\tanh((q/2)^{1/\alpha}Z)|^\alpha\simeq q\,\big(A_\alpha+\frac{c_\alpha}\alpha\log\frac1q\big)$ for small $q$, with $c_\alpha=\Gamma(1+\alpha)\sin(\pi\alpha/2)/\pi$.
# By how many *orders of magnitude* does $q^*$ fall if weak weights are made weaker, from `D_w` to `D_w_small`? $A_\alpha$ drops out; the slope $s$ does not. Accuracy: 1e-3 (relative).
#
# **(b)** (3 points) At finite width, while all $h$ are small, one layer multiplies the length by $D_w T_N$ with $T_N=\frac{s^\alpha}{2N}\sum_{j\le N}|Z_j|^\alpha$. Its mean is infinite; the mean of its logarithm is not, and decides which signals die.
#
# - `mean_log_growth` (your own code): $\mathbb E\log T_N$ from draws `z` of shape (networks, $N$), with its standard error.
# - `critical_gain`, `critical_gain_error`: the weight scale $g=D_w^{1/\alpha}$ below which signals die out, for your own `alpha`, `slope` and `width`, from the 10,000 networks of `z_networks` below, with its standard error.
#   You have an error of $\mathbb E\log T_N$: carry it on to $g$. Accuracy: 1e-6 (relative) for $g$, given `z_networks`; 2 % for the error.

# %% nbgrader="locked networks"
z_networks = stable.sample(
    mine.alpha, (10_000, mine.width), rng=np.random.default_rng([mine.seed, 400])
)


# %% nbgrader="solution phase"
def decades_lost(alpha, slope, D_w, D_w_small):
    """Return log10(q_star at D_w / q_star at D_w_small), a number, for tanh(slope x) and weak weights."""
    ### BEGIN SOLUTION
    c = math.gamma(1 + alpha) * np.sin(np.pi * alpha / 2) / np.pi
    # with y = s^α q the map is y → D_w s^α I(y): only D_w s^α counts
    apart = (1 / D_w_small - 1 / D_w) / slope**alpha
    return alpha / c * apart / np.log(10)
    ### END SOLUTION


def mean_log_growth(z, alpha, slope):
    """Return (mean of log T_N, standard_error), two numbers; z: (networks, N) draws of S_alpha(1)."""
    ### BEGIN SOLUTION
    logs = np.log(slope**alpha / 2 * np.mean(np.abs(z) ** alpha, axis=1))
    return logs.mean(), logs.std(ddof=1) / np.sqrt(logs.size)
    ### END SOLUTION


# %% nbgrader="solution own-line"
# critical_gain, critical_gain_error: with your own alpha and slope, from z_networks
### BEGIN SOLUTION
growth, growth_error = mean_log_growth(z_networks, mine.alpha, mine.slope)
critical_gain = np.exp(-growth / mine.alpha)
critical_gain_error = critical_gain * growth_error / mine.alpha
### END SOLUTION

# %% nbgrader="tests phase-tests 4" mflib="noticed"
marks = classroom.Marks(4)
with marks.part(0.5, "Networks whose |z| are all 1 grow by exactly s^α/2.", by_hand=True):
    _value, _error = mean_log_growth(np.ones((6, 4)), 1.5, 2.0)
    classroom.close(_value, 0.5 * np.log(2), rtol=1e-9)
    classroom.close(_error, 0.0, atol=1e-12)
### BEGIN HIDDEN TESTS
mine_graded = classroom.graded()
_rng = np.random.default_rng([mine_graded.seed, 6])
_questions = []
for _s in (mine_graded.slope, float(_rng.uniform(0.4, 0.8))):
    _a = float(_rng.uniform(1.2, 1.7))
    _weak = np.array([0.14, 0.14 * _rng.uniform(0.4, 0.8)])  # D_w s^α
    _log_q = levy.fixed_point("tanh", _a, _weak).log_q
    _right = float(_log_q[0] - _log_q[1]) / np.log(10)
    _questions.append(((_a, _s, *(_weak / _s**_a).tolist()), _right))
_own_z = stable.sample(
    mine_graded.alpha,
    (10_000, mine_graded.width),
    rng=np.random.default_rng([mine_graded.seed, 400]),
)
_few = stable.sample(mine_graded.alpha, (300, mine_graded.width), rng=_rng)


def _right_growth(z, alpha, slope):
    """Stand in for the answer, so that a slip there is not paid for again below."""
    logs = np.log(np.mean(np.abs(z) ** alpha, axis=1)) + alpha * np.log(slope) - np.log(2)
    return logs.mean(), logs.std(ddof=1) / np.sqrt(logs.size)


def _own_line():
    """Return the critical scale and its error from mean_log_growth, as it stands."""
    a, s = mine_graded.alpha, mine_graded.slope
    growth, error = mean_log_growth(_own_z, a, s)
    assert growth != mean_log_growth(_few, a, s)[0]  # it must look at its draws
    return np.exp(-growth / a), error / a


def _is_line():
    classroom.close(critical_gain, _own_line()[0], rtol=1e-6)


def _is_line_error():
    # relative to the answer's own scale, which was paid for above
    classroom.close(critical_gain_error / critical_gain, _own_line()[1], rtol=0.02)


with marks.part(
    1,
    "The orders of magnitude that q* falls by are right.",
    hint="Write the fixed point of the length map with y = s^α q, and solve for log y. Natural or decimal logarithm?",
    by_hand=True,
):
    for _arguments, _right in _questions:
        classroom.close(decades_lost(*_arguments), _right, rtol=1e-3)
with marks.part(
    0.5,
    "The mean of log T_N and its standard error are right.",
    hint="First the mean over the neurons of a network, then the logarithm, then the mean over networks.",
    by_hand=True,
):
    _value, _error = mean_log_growth(_few, mine_graded.alpha, 0.7)
    _right = _right_growth(_few, mine_graded.alpha, 0.7)
    classroom.close(_value, _right[0], rtol=1e-6, atol=1e-9)
    classroom.close(_error, _right[1], rtol=0.02)
with marks.part(
    1,
    "Your own critical weight scale is right.",
    hint="D_w and E log T_N balance where log D_w + E log T_N = 0, and D_w is the scale to the power α. Which way does the slope move the line? It is asked for from z_networks; the exact scale is another number.",
    by_hand=True,
):
    classroom.beside(_is_line, mean_log_growth=_right_growth)
with marks.part(
    1,
    "Its standard error is right for 10,000 networks.",
    hint="A relative error of D_w is a relative error of g divided by something. How does it compare with the scatter over fresh draws?",
    by_hand=True,
):
    classroom.beside(_is_line_error, mean_log_growth=_right_growth)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# **(c)** (2 points by hand) Show it in one figure. `follow` below follows $q$ through sampled networks of your own width. Draw $\log_{10}q$ of 20 networks over 60 layers
# at 0.75, 1 and 1.3 times your critical weight scale, and the fixed point of infinite width at the same three scales as horizontal lines (`levy.fixed_point` may be called: mind the slope). Axes labelled, readable without the code.


# %% nbgrader="locked follow"
def follow(D_w, networks=20, layers=60):
    """Return q, (1 + layers, networks), from q = 1 on, in networks of your width; no bias."""
    generator = np.random.default_rng([mine.seed, 500])
    q = np.ones((1 + layers, networks))
    for layer in range(layers):
        draws = stable.sample(mine.alpha, (networks, mine.width), rng=generator)
        h = (q[layer][:, None] / 2) ** (1 / mine.alpha) * draws
        q[layer + 1] = D_w * np.mean(np.abs(np.tanh(mine.slope * h)) ** mine.alpha, axis=1)
    return q


# %% nbgrader="essay figure 2"
### BEGIN SOLUTION
fig, ax = plt.subplots(figsize=(7, 4.2))
for factor, colour in ((0.75, "C0"), (1.0, "C1"), (1.3, "C2")):
    D_w = (factor * critical_gain) ** mine.alpha
    ax.plot(np.log10(follow(D_w)), color=colour, lw=0.8, alpha=0.7)
    # with y = s^α q the map is that of tanh at D_w s^α
    scaled_up = mine.slope**mine.alpha
    infinite = levy.fixed_point("tanh", mine.alpha, D_w * scaled_up).log_q
    level = (float(infinite) - np.log(scaled_up)) / np.log(10)
    ax.axhline(level, color=colour, ls="--", label=f"{factor:g} × critical scale")
ax.set(
    xlabel="layer",
    ylabel=r"$\log_{10} q$",
    title=f"tanh({mine.slope:g} x), α = {mine.alpha:g}, N = {mine.width}; dashed: infinite width",
)
ax.legend(fontsize="small")
plt.show()
# Rubric. 1 point: three groups of 20 runs, of which the lowest falls on average along a line, the middle one wanders, and
# the highest keeps its length. Half a point: infinite-width lines at the right height (slope included).
# Half a point: labels, legend or title from which scale, width and index can be read.
# A wrong critical scale was paid for in (b): the figure is marked at the scale that was used.
### END SOLUTION

# %% [markdown]
# **(d)** (3 points by hand) Both statements are true: "for $\alpha<2$ there is no ordered phase" and "this network has one". Explain with your figure how they fit together: which average each of them rests on, what a network of $N$ neurons cannot show,
# and how the line moves with $N$. A colleague concludes: "heavy-tailed networks of any small weight scale transmit signals, so the initial scale no longer needs tuning." Answer with numbers from your figure or from questions 6a and 6b.

# %% [markdown] nbgrader="essay interpretation 3"
# ### BEGIN SOLUTION
# At infinite width the length map averages over *all* neurons. $\mathbb E|Z|^\alpha=\infty$ makes its slope at 0 infinite (a logarithm), so that a short enough signal always grows and $q^*>0$ at every $D_w$. The growth comes from the share of neurons, of order $q$, whose
# $h$ is so far out in the tail that it reaches order 1. When $qN\ll1$ a layer of $N$ neurons has no such neuron: the average over its neurons is typically far below the mean. Then what counts over many layers is the mean of the logarithm, which is finite; the signal dies out when
# $\log D_w+\mathbb E\log T_N<0$. In the figure the runs at 0.75 of the critical scale fall on average by a steady number of decades per layer, $\log_{10}0.75^\alpha$, and, given enough layers, through the dashed line of infinite width; at 1.3 they settle near it or below. The two limits, width and depth, do not commute:
# infinite width first gives no ordered phase, depth first at a given width does. The line moves to 0 as $N$ grows, but only as $D_w\simeq\alpha/(s^\alpha c_\alpha\log N)$: asymptotically one squares the width to halve $D_w$. At your widths that is not reached:
# squaring takes $D_w$ to 0.58 to 0.65 of itself for $\alpha\le1.5$ and to 0.67 to 0.71 at $\alpha=1.7$.
#
# To the colleague: below the line of this width the signal is lost exponentially in depth. Even at infinite width $q^*$ falls by a number of decades given by $\frac\alpha{c_\alpha}\Delta\frac1{D_w}/\ln10$ (6a): reducing $D_w$ from 0.14 to 0.07 costs eleven orders of magnitude or more at slope 1. "Not 0" is not
# "of a size that computes": then all but a share of order $q$ of the neurons carry nothing. The range of usable scales is wider than for a Gaussian network of the same width, whose line is at $D_ws^2\simeq1+1/N$, but it ends.
#
# *Rubric.* 1 point: mean against mean of the logarithm (or the typical layer). Half a point: a layer without a far neuron when $qN\ll1$. Half a point: the order of limits, or what the figure shows of it.
# Half a point: $1/\log N$ or "slowly towards 0", or the line computed at two widths; the factor for a squared width counts as asymptotic (1/2) or as measured (0.6 to 0.7). Half a point: the colleague is refuted with a number of one's own.
# ### END SOLUTION

# %% [markdown]
# ## If you want more (no points, not in the 90 minutes): how many weights count?
#
# *Chapter: "The stable law", right panel of the first figure.* For a row of $N$ weights let $Y=\sum_jw_j^4/\big(\sum_jw_j^2\big)^2$. $1/Y$ counts the weights that carry the row: $Y=1/N$ if all are equally large, 1 if a single one is.
# Show that $\mathbb E\,Y\to1-\alpha/2$ as $N\to\infty$ for weights from $S_\alpha(\sigma)$, $\alpha<2$: about $1/(1-\alpha/2)$ weights count, however wide the row is. (With $y_j=w_j^2$ and $S=\sum_jy_j$, use $S^{-2}=\int_0^\infty t\,e^{-tS}\,dt$
# and $1-\mathbb E\,e^{-ty}\simeq K\,t^{\alpha/2}$ for small $t$; why does $K$ drop out?) Check it on the rows of your `weights`, and in the limit $\alpha\to2$, where no weight stands out. What does it mean for a network?
