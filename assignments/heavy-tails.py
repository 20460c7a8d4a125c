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
# - say why a heavy-tailed network has no ordered phase at infinite width and one at every finite width;
# - predict how many weights of a row count.
#
# **Time:** about 90 minutes. **Points:** 40, of which 27 are given automatically and 13 by hand.
#
# **Allowed:** the book, papers, numpy and scipy. Where a question says *your own code*, calls into `mflib` inside your functions are noticed and earn nothing;
# at your desk you may check yourself against it (`mflib.theory.stable` and `mflib.theory.levy`).
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
# ## 1. From a characteristic function to a length map (6 points, 15 minutes)
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
rng = np.random.default_rng([mine_graded.seed, 1])
alphas = np.array([mine_graded.alpha, *rng.uniform(1.05, 1.95, 3)])
inputs = rng.standard_normal((4, 17))
with marks.part(
    0.5,
    "The scale is right for several inputs and a bias.",
    hint="What adds up over inputs and bias is σ^α. Is the 2 under D_w and D_b there, and the power at the end?",
    by_hand=True,
):
    for a, x in zip(alphas, inputs, strict=True):
        total = sum(0.8 / (2 * 17) * abs(one) ** a for one in x) + 0.3 / 2
        classroom.close(preactivation_scale(x, a, 0.8, 0.3), total ** (1 / a), rtol=1e-6)
with marks.part(
    0.5,
    "The factor leaves the length map unchanged.",
    hint="Put a dropped-out activity into the mean of |x|^α. At index 2 you know the answer.",
    by_hand=True,
):
    for a in alphas:
        for p in (0.3, 0.8):
            classroom.close(p * keep_factor(p, a) ** a, 1.0, rtol=1e-6)
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
# How do you test such a sampler? Mean and variance of the draws say nothing for $\alpha<2$. The empirical characteristic function does: $\cos uX$ is bounded, so its mean
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
marks = classroom.Marks(4)
with marks.part(0.5, "The draws have the shape asked for and follow from rng.", by_hand=True):
    first = np.asarray(draw(1.5, (20, 30), np.random.default_rng(1)), dtype=float)
    again = np.asarray(draw(1.5, (20, 30), np.random.default_rng(1)), dtype=float)
    assert first.shape == (20, 30), "The shape is another."
    assert np.array_equal(first, again), "The same seed gives other draws: draw with rng only."
    assert np.unique(first).size > 590, "Many draws are equal."
with marks.part(0.5, "At index 2 the variance is 2.", by_hand=True):
    squares = np.asarray(draw(2.0, (20_000,), np.random.default_rng(2))) ** 2
    # Var(X²) = 2·2² for a Gaussian of variance 2
    classroom.close(squares.mean(), 2.0, standard_error=np.sqrt(8 / 20_000))
### BEGIN HIDDEN TESTS
mine_graded = classroom.graded()
rng = np.random.default_rng([mine_graded.seed, 2])
frequencies = np.array([0.1, 0.4, 1.0, 2.0])
many = 40_000


def check_characteristic(alpha):
    """Hold the mean of cos(uX) and sin(uX) against exp(−|u|^α) and 0."""
    x = np.asarray(draw(alpha, (many,), rng), dtype=float)
    assert x.shape == (many,)
    assert np.isfinite(x).all()
    exact = np.exp(-(frequencies**alpha))
    even = (1 + np.exp(-((2 * frequencies) ** alpha))) / 2 - exact**2
    odd = (1 - np.exp(-((2 * frequencies) ** alpha))) / 2
    angles = frequencies[:, None] * x
    classroom.close(np.cos(angles).mean(1), exact, standard_error=np.sqrt(even / many))
    classroom.close(np.sin(angles).mean(1), 0 * exact, standard_error=np.sqrt(odd / many))


others = rng.uniform(0.75, 1.95, 2)
tail_alpha = float(rng.uniform(1.2, 1.6))
beyond = float(2 * stable.sf(30.0, tail_alpha))
with marks.part(
    1,
    "The characteristic function is right at index 1 and at your own.",
    hint="Put α = 1 into the formula: the second factor is 1, and what is left is Cauchy's law of half-width 1.",
    by_hand=True,
):
    check_characteristic(1.0)
    check_characteristic(mine_graded.alpha)
with marks.part(
    1,
    "It is right at other indices, below 1 too.",
    hint="Look at the exponents, and at their signs, on both sides of α = 1.",
    by_hand=True,
):
    for other in others:
        check_characteristic(float(other))
with marks.part(
    1,
    "The tail holds as many draws as it should.",
    hint="Count draws beyond 30 and compare with the tail of the chapter. Are draws cut off or left out?",
    by_hand=True,
):
    far = np.abs(np.asarray(draw(tail_alpha, (many,), rng), dtype=float)) > 30
    classroom.close(far.mean(), beyond, standard_error=np.sqrt(beyond * (1 - beyond) / many))
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
# Your estimator is called some two hundred times with 4000 values; let a call take at most 50 ms. What is asked for:
#
# - it is right, at any scale, and its error is at most $6/\sqrt n$ for $n$ values;
# - **its error bar is true**: over 100 independent data sets (estimate − truth)/error has a root mean square between 0.7 and 1.4, at a small index and at a large one. An honest error gives $1\pm0.07$; one that is wrong by a factor of 2 does not pass.

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
    cauchy = np.random.default_rng(3).standard_cauchy(4000)
    found, error = tail_index(cauchy)
    classroom.close(found, 1.0, atol=0.2)
    assert 0 < error < 0.2, "The standard error is not between 0 and 0.2."
### BEGIN HIDDEN TESTS
mine_graded = classroom.graded()
rng = np.random.default_rng([mine_graded.seed, 3])
size, repeats = 4000, 100
# two indices far apart: a factor of α^3 in the error, forgotten, is near 1 in between
true_alphas = [float(rng.uniform(1.15, 1.25)), float(rng.uniform(1.65, 1.75))]
samples = [stable.sample(a, (repeats, size), rng=rng) for a in true_alphas]
one = stable.sample(float(rng.uniform(1.2, 1.7)), (size,), rng=rng)
results = []
with marks.part(
    1.5,
    "The estimate is right at other indices, with an error of at most 6/√n.",
    hint="Draw data of a known index, many times: does the average agree with it? A bias does not fall with the number of draws.",
    by_hand=True,
):
    for rows in samples:
        pairs = np.array([tail_index(row) for row in rows], dtype=float)
        assert pairs.shape == (repeats, 2)
        assert np.isfinite(pairs).all()
        results.append(pairs)
    for pairs, a in zip(results, true_alphas, strict=True):
        # of the mean of 100 estimates; any consistent estimate has a bias of order 1/n
        scatter = pairs[:, 0].std(ddof=1)
        classroom.close(
            pairs[:, 0].mean(),
            a,
            atol=0.01,
            standard_error=scatter / np.sqrt(repeats),
        )
        # a scatter of 100 is itself known to 7 %
        assert scatter < 1.4 * 6 / np.sqrt(size)
with marks.part(
    0.5,
    "Data of another scale give the same index.",
    hint="Multiply your data by 1000: nothing may change. Choose frequencies in units of the data's own size, such as its median of |x|.",
    by_hand=True,
):
    middle = float(tail_index(one)[0])
    for scale in (1e-3, 30.0):
        # room for an estimator that draws at random itself
        classroom.close(tail_index(scale * one)[0], middle, atol=0.03)
with marks.part(
    1.5,
    "The error bar is true: it is what the estimate scatters by.",
    hint="Draw 100 data sets and compare the scatter of the estimates with the errors that you state. Did you carry the error through to α, and divide by √n once?",
    by_hand=True,
):
    assert len(results) == 2
    for pairs in results:
        estimates, errors = pairs.T
        assert (errors > 0).all()
        # around their own mean: a bias was paid for above. With true errors the sum of squares is
        # chi-square of 99 degrees of freedom: outside of these bounds 5 times in a million
        pull = (estimates - estimates.mean()) / errors
        assert 0.7 < pull.std(ddof=1) < 1.4
with marks.part(
    1,
    "The index of your own weights is right, and its error bar is small enough.",
    hint="Use all weights, and the weights of your own token.",
):
    assert 0 < alpha_error < 6 / np.sqrt(80_000)
    classroom.close(alpha_hat, mine_graded.alpha, standard_error=alpha_error)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 4. Heavy-tailed, but stable? (5 points, 10 minutes)
#
# *Chapter: "The weights of trained networks".* Any data have a fitted $\alpha$. Below are three matrices, and an estimator finds nearly the same index in each, well below 2. Only one of them is stable:
#
# - `"stable"`: independent entries from $S_\alpha(\sigma)$, $\alpha$ between 1.45 and 1.6;
# - `"student"`: independent entries from Student's $t$ with 2.3 to 3 degrees of freedom, so of finite variance;
# - `"rows"`: Gaussian entries, $w_{ij}=s_i\,x_{ij}$: every row has a size of its own, $\log s_i$ has a standard deviation between 0.45 and 0.65.
#
# **(a)** (3 points, your own code) Write `verdict(W, index)`, which names the law of a $500\times500$ matrix. `index(x)` returns an estimate of $\alpha$ and its standard error for data of any shape: try `quantile_index`, and your own `tail_index`; the test
# brings one of its own, whose error is below $6/\sqrt n$, so that a slip in question 3 is not paid for again. Ask what each law, and only it, keeps under some operation: adding entries, dividing rows. The test shows it
# fresh matrices, four of each kind, of any overall scale, and wants at least three right.

# %% nbgrader="locked practice"
laws = np.random.default_rng([mine.seed, 200])
practice = {
    "stable": stable.sample(1.52, (500, 500), rng=laws),
    "student": laws.standard_t(2.6, (500, 500)),
    "rows": np.exp(0.55 * laws.standard_normal((500, 1))) * laws.standard_normal((500, 500)),
}


def quantile_index(x):
    """Return McCulloch's estimate of alpha and its standard error (NaN if alpha is 2)."""
    fit = stable.fit(x, method="quantiles")
    return fit.alpha, fit.standard_errors["alpha"]


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
    for name, matrix in practice.items():
        classroom.same(verdict(matrix, quantile_index), name)
### BEGIN HIDDEN TESTS
mine_graded = classroom.graded()
rng = np.random.default_rng([mine_graded.seed, 4])


def index_by_logarithms(x):
    """Return alpha from Var log|X| = π²/6 (1/α² + 1/2), and its standard error."""
    y = np.log(np.abs(np.asarray(x, dtype=float))).ravel()
    v = y.var()
    estimate = max(6 * v / np.pi**2 - 0.5, 0.1) ** -0.5
    of_v = np.sqrt((((y - y.mean()) ** 4).mean() - v**2) / y.size)
    return estimate, 3 * estimate**3 / np.pi**2 * of_v


fresh = {"stable": [], "student": [], "rows": []}
for turn in range(4):
    size = 10 ** rng.uniform(-2, 1)
    # low and high indices in turn for both laws: no threshold on the index tells them apart
    a = rng.uniform(1.45, 1.5) if turn % 2 else rng.uniform(1.56, 1.6)
    freedom = rng.uniform(2.3, 2.45) if turn % 2 else rng.uniform(2.8, 3.0)
    spread = np.exp(rng.uniform(0.45, 0.65) * rng.standard_normal((500, 1)))
    fresh["stable"].append(size * stable.sample(a, (500, 500), rng=rng))
    fresh["student"].append(size * rng.standard_t(freedom, (500, 500)))
    fresh["rows"].append(size * spread * rng.standard_normal((500, 500)))
with marks.part(
    1,
    "It tells the matrix of Gaussian rows from the two others.",
    hint="What is left of this matrix when every row is divided by its own size?",
    by_hand=True,
):
    said = {name: [verdict(W.copy(), index_by_logarithms) for W in fresh[name]] for name in fresh}
    assert said["rows"].count("rows") >= 3
    assert said["stable"].count("rows") <= 1
    assert said["student"].count("rows") <= 1
with marks.part(
    1.5,
    "It tells the stable law from Student's t.",
    hint="Sums of a few entries: which law keeps its index? Compare the change with its error bar.",
    by_hand=True,
):
    for name in ("stable", "student"):
        names = [verdict(W.copy(), index_by_logarithms) for W in fresh[name]]
        assert names.count(name) >= 3
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# **(b)** (2 points by hand) Why does each of your tests separate the laws, and what would have fooled it? Say for each of the two: the property it rests on, and one matrix (of the three, or another) on which it goes wrong if used alone.
# Then: the chapter balances the rows and columns of trained weight matrices, and also of the same entries *in random order*. What does the comparison show that the balanced index alone does not?

# %% [markdown] nbgrader="essay verdict-essay 2"
# ### BEGIN SOLUTION
# *Adding.* A sum of independent $S_\alpha$ is $S_\alpha$ with another scale, so the index does not move; finite variance moves it towards 2 (slowly: for $t$ with 2.5 degrees of freedom the tail exponent of the sum stays the same,
# it is the core that becomes Gaussian). Alone it is fooled by the matrix of rows if entries of one row are added: a sum of Gaussians with one common size $s_i$ is again such a Gaussian, so the index is kept and the matrix looks stable. With entries added across
# rows it looks like Student's $t$.
#
# *Dividing.* $s_ix_{ij}$ divided by an estimate of $s_i$ is Gaussian, index 2; independent entries keep their tails, since no row has a size of its own. It cannot tell stable from Student's $t$; short rows, or dividing by the root mean square when one
# entry carries it, distort the index; sizes by column instead of row escape it.
#
# *In random order.* Shuffling keeps every value, hence the law of an entry, and destroys what belongs to rows and columns. If the balanced index is near 2 and the shuffled balanced one is not, the heavy tail was a spread of sizes between
# neurons, and balancing does not by itself make any matrix look Gaussian. The shuffled matrix is the null.
#
# *Rubric.* Half a point for the property of each test, half a point for at least one correct failure, half a point for the shuffled matrix as control.
# ### END SOLUTION

# %% [markdown]
# ## 5. The length map of a heavy-tailed network (5 points, 15 minutes, your own code)
#
# *Chapter: "A length map for heavy tails".* Given draws `z` from $S_\alpha(1)$, the map $q\mapsto D_w\,\mathbb E|\tanh((q/2)^{1/\alpha}Z)|^\alpha+D_b$ can be estimated by a mean over `z`, with an ordinary standard error: tanh is bounded.
# Keep `z` fixed while you iterate, and the fixed point of the estimated map is a definite number. Its error is *not* the error of the map there: an error of the map at $q^*$ is fed back through the slope of the map, again and again.
#
# - `layer_length` returns the next $q$ and its standard error. Accuracy: 1e-6 (relative) for the value, given `z`; 2 % for the error.
# - `fixed_point` returns $q^*$ of the estimated map and its standard error over the choice of `z`. Accuracy: 1e-5 for the value, 20 % for the error (the slope may come from a difference quotient, or the error from a bootstrap).
# - `q_star`, `q_star_error`: for your own `alpha`, `gain` ($D_w=g^\alpha$) and `D_b`, with an error of at most 1 % of `q_star`.


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
# q_star, q_star_error: with your own alpha, gain and D_b
### BEGIN SOLUTION
z = stable.sample(mine.alpha, (200_000,), rng=np.random.default_rng(5))
q_star, q_star_error = fixed_point(z, mine.alpha, mine.gain**mine.alpha, mine.D_b)
### END SOLUTION

# %% nbgrader="tests length-map-tests 5" mflib="noticed"
marks = classroom.Marks(5)
with marks.part(0.5, "Where every neuron is saturated, the next q is D_w + D_b.", by_hand=True):
    value, error = layer_length(1e9, np.array([-3.0, 2.0, 1.0]), 1.5, 0.8, 0.3)
    classroom.close(value, 1.1, rtol=1e-9)
    classroom.close(error, 0.0, atol=1e-9)
### BEGIN HIDDEN TESTS
mine_graded = classroom.graded()
rng = np.random.default_rng([mine_graded.seed, 5])
cases = []
for _ in range(3):
    a = float(rng.uniform(1.2, 1.7))
    cases.append(
        (
            stable.sample(a, (5000,), rng=rng),
            a,
            float(rng.uniform(1.2, 2.0) ** a),
            float(rng.uniform(0.05, 0.2)),
        )
    )
lengths = rng.uniform(0.05, 2.0, 3)


def terms_at(q, z, a, D_w):
    return D_w * np.abs(np.tanh((q / 2) ** (1 / a) * z)) ** a


def solved(z, a, D_w, D_b):
    """Return q* of the map estimated from z, by bisection, and its standard error."""
    low, high = D_b, D_b + D_w
    for _ in range(60):
        middle = (low + high) / 2
        if terms_at(middle, z, a, D_w).mean() + D_b > middle:
            low = middle
        else:
            high = middle
    q = (low + high) / 2
    h = (q / 2) ** (1 / a) * z
    # q d/dq |tanh h|^α = |tanh h|^(α−1) |h| (1 − tanh² h), since α dh/h = dq/q
    t = np.abs(np.tanh(h))
    slope = D_w * np.mean(t ** (a - 1) * np.abs(h) * (1 - t**2)) / q
    return q, terms_at(q, z, a, D_w).std(ddof=1) / np.sqrt(z.size) / (1 - slope)


with marks.part(
    1,
    "The next length is right.",
    hint="Powers: (q/2) to 1/α inside, and α outside. Is the bias added once?",
    by_hand=True,
):
    for (z_test, a, D_w, D_b), q in zip(cases, lengths, strict=True):
        right = terms_at(q, z_test, a, D_w).mean() + D_b
        classroom.close(layer_length(q, z_test, a, D_w, D_b)[0], right, rtol=1e-6)
with marks.part(
    0.5,
    "The standard error of the next length is right.",
    hint="It is that of a mean of n terms, in the unit of q: does it know D_w, and √n?",
    by_hand=True,
):
    for (z_test, a, D_w, D_b), q in zip(cases, lengths, strict=True):
        right = terms_at(q, z_test, a, D_w).std(ddof=1) / np.sqrt(z_test.size)
        classroom.close(layer_length(q, z_test, a, D_w, D_b)[1], right, rtol=0.02)
solutions = [solved(*case) for case in cases]


def layer_length(q, z, alpha, D_w, D_b):
    """Stand in for the answer, so that a slip there is not paid for again below."""
    terms = terms_at(q, z, alpha, D_w)
    return terms.mean() + D_b, terms.std(ddof=1) / np.sqrt(z.size)


with marks.part(
    1,
    "The fixed point of the estimated map is right.",
    hint="Iterate with the same z until q no longer changes, from a q of order 1.",
    by_hand=True,
):
    for case, (right, _) in zip(cases, solutions, strict=True):
        classroom.close(fixed_point(*case)[0], right, rtol=1e-5)
with marks.part(
    1,
    "The standard error of the fixed point is right.",
    hint="Write q* = F(q*) + ε and expand F: how far does q* move for an ε of the map? Compare with the scatter over fresh z.",
    by_hand=True,
):
    for case, (_, right) in zip(cases, solutions, strict=True):
        classroom.close(fixed_point(*case)[1], right, rtol=0.2)
exact = float(
    levy.fixed_point(
        "tanh",
        mine_graded.alpha,
        mine_graded.gain**mine_graded.alpha,
        mine_graded.D_b,
    ).q
)
with marks.part(
    1,
    "Your own fixed point agrees with the exact one, and its error is at most 1 %.",
    hint="Take enough draws of your own index; D_w is the gain to the power α.",
):
    assert 0 < q_star_error < 0.01 * exact
    classroom.close(q_star, exact, standard_error=q_star_error)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 6. No ordered phase, and one after all (8 points, 15 minutes)
#
# *Chapter: "Why the fixed point is never zero" and "Finite width has an ordered phase after all".* Let there be no bias, and $\varphi(x)=\tanh(sx)$ with your own slope $s$.
#
# **(a)** (1 point, your own code) At infinite width $\mathbb E|\tanh((q/2)^{1/\alpha}Z)|^\alpha\simeq q\,\big(A_\alpha+\frac{c_\alpha}\alpha\log\frac1q\big)$ for small $q$, with $c_\alpha=\Gamma(1+\alpha)\sin(\pi\alpha/2)/\pi$.
# By how many *orders of magnitude* does $q^*$ fall if weak weights are made weaker, from `D_w` to `D_w_small`? $A_\alpha$ drops out; the slope $s$ does not. Accuracy: 1e-3.
#
# **(b)** (3 points) At finite width, while all $h$ are small, one layer multiplies the length by $D_w T_N$ with $T_N=\frac{s^\alpha}{2N}\sum_{j\le N}|Z_j|^\alpha$. Its mean is infinite; the mean of its logarithm is not, and decides which signals die.
#
# - `mean_log_growth` (your own code): $\mathbb E\log T_N$ from draws `z` of shape (networks, $N$), with its standard error.
# - `critical_gain`, `critical_gain_error`: the weight scale $g=D_w^{1/\alpha}$ below which signals die out, for your own `alpha`, `slope` and `width`, from **10,000** networks, with its standard error. You have an error of $\mathbb E\log T_N$: carry it on to $g$.


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
# critical_gain, critical_gain_error: with your own alpha, slope and width
### BEGIN SOLUTION
z = stable.sample(mine.alpha, (10_000, mine.width), rng=np.random.default_rng(6))
growth, growth_error = mean_log_growth(z, mine.alpha, mine.slope)
critical_gain = np.exp(-growth / mine.alpha)
critical_gain_error = critical_gain * growth_error / mine.alpha
### END SOLUTION

# %% nbgrader="tests phase-tests 4" mflib="noticed"
marks = classroom.Marks(4)
with marks.part(0.5, "Networks whose |z| are all 1 grow by exactly s^α/2.", by_hand=True):
    value, error = mean_log_growth(np.ones((6, 4)), 1.5, 2.0)
    classroom.close(value, 0.5 * np.log(2), rtol=1e-9)
    classroom.close(error, 0.0, atol=1e-12)
### BEGIN HIDDEN TESTS
mine_graded = classroom.graded()
rng = np.random.default_rng([mine_graded.seed, 6])
questions = []
for s in (mine_graded.slope, float(rng.uniform(0.4, 0.8))):
    a = float(rng.uniform(1.2, 1.7))
    weak = np.array([0.14, 0.14 * rng.uniform(0.4, 0.8)])  # D_w s^α
    log_q = levy.fixed_point("tanh", a, weak).log_q
    right = float(log_q[0] - log_q[1]) / np.log(10)
    questions.append(((a, s, *(weak / s**a).tolist()), right))
own_z = stable.sample(mine_graded.alpha, (4000, mine_graded.width), rng=rng)
own_logs = np.log(np.mean(np.abs(own_z) ** mine_graded.alpha, axis=1))
few = own_z[:300]
exact = float(levy.finite_width_gain(mine_graded.alpha, mine_graded.width) / mine_graded.slope)
scatter = exact * own_logs.std(ddof=1) / mine_graded.alpha / np.sqrt(10_000)
with marks.part(
    1,
    "The orders of magnitude that q* falls by are right.",
    hint="Write the fixed point of the length map with y = s^α q, and solve for log y. Natural or decimal logarithm?",
    by_hand=True,
):
    for arguments, right in questions:
        classroom.close(decades_lost(*arguments), right, rtol=1e-3)
with marks.part(
    0.5,
    "The mean of log T_N and its standard error are right.",
    hint="First the mean over the neurons of a network, then the logarithm, then the mean over networks.",
    by_hand=True,
):
    value, error = mean_log_growth(few, mine_graded.alpha, 0.7)
    logs = own_logs[:300] + mine_graded.alpha * np.log(0.7) - np.log(2)
    classroom.close(value, logs.mean(), rtol=1e-6, atol=1e-9)
    classroom.close(error, logs.std(ddof=1) / np.sqrt(300), rtol=0.02)
with marks.part(
    1,
    "Your own critical weight scale is right.",
    hint="D_w and E log T_N balance where log D_w + E log T_N = 0, and D_w is the scale to the power α. Which way does the slope move the line?",
):
    classroom.close(critical_gain, exact, standard_error=scatter)
with marks.part(
    1,
    "Its standard error is right for 10,000 networks.",
    hint="A relative error of D_w is a relative error of g divided by something. How does it compare with the scatter over fresh draws?",
):
    # relative to the answer's own scale, which was paid for above
    classroom.close(critical_gain_error / critical_gain, scatter / exact, rtol=0.2)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# **(c)** (2 points by hand) Show it in one figure. Start 20 networks of your own width at $q=1$ and follow $\log_{10}q$ through 60 layers (given $q$, the next $q$ is $D_w$ times the *average over your $N$ draws* of $|\tanh(s(q/2)^{1/\alpha}Z_j)|^\alpha$),
# at 0.75, 1 and 1.3 times your critical weight scale; draw the fixed point of infinite width at the same three scales as horizontal lines (`levy.fixed_point` may be called: mind the slope). Axes labelled, readable without the code.

# %% nbgrader="essay figure 2"
### BEGIN SOLUTION
generator = np.random.default_rng(7)
fig, ax = plt.subplots(figsize=(7, 4.2))
for factor, colour in ((0.75, "C0"), (1.0, "C1"), (1.3, "C2")):
    D_w = (factor * critical_gain) ** mine.alpha
    q = np.ones((61, 20))
    for layer in range(60):
        draws = stable.sample(mine.alpha, (20, mine.width), rng=generator)
        h = (q[layer][:, None] / 2) ** (1 / mine.alpha) * draws
        x = np.tanh(mine.slope * h)
        q[layer + 1] = D_w * np.mean(np.abs(x) ** mine.alpha, axis=1)
    ax.plot(np.log10(q), color=colour, lw=0.8, alpha=0.7)
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
### END SOLUTION

# %% [markdown]
# **(d)** (2 points by hand) Both statements are true: "for $\alpha<2$ there is no ordered phase" and "this network has one". Explain with your figure how they fit together: which average each of them rests on, what a network of $N$ neurons cannot show,
# and how the line moves with $N$. A colleague concludes: "heavy-tailed networks of any small weight scale transmit signals, so the initial scale no longer needs tuning." Answer with numbers from your figure or from questions 6a and 6b.

# %% [markdown] nbgrader="essay interpretation 2"
# ### BEGIN SOLUTION
# At infinite width the length map averages over *all* neurons. $\mathbb E|Z|^\alpha=\infty$ makes its slope at 0 infinite (a logarithm), so that a short enough signal always grows and $q^*>0$ at every $D_w$. The growth comes from the share of neurons, of order $q$, whose
# $h$ is so far out in the tail that it reaches order 1. When $qN\ll1$ a layer of $N$ neurons has no such neuron: the average over its neurons is typically far below the mean. Then what counts over many layers is the mean of the logarithm, which is finite; the signal dies out when
# $\log D_w+\mathbb E\log T_N<0$. In the figure the runs at 0.75 of the critical scale fall on average by a steady number of decades per layer, $\log_{10}0.75^\alpha$, and, given enough layers, through the dashed line of infinite width; at 1.3 they settle near it or below. The two limits, width and depth, do not commute:
# infinite width first gives no ordered phase, depth first at a given width does. The line moves to 0 as $N$ grows, but only as $D_w\sim\alpha/(c_\alpha\log N)$: to halve $D_w$ one squares the width.
#
# To the colleague: below the line of this width the signal is lost exponentially in depth. Even at infinite width $q^*$ falls by a number of decades given by $\frac\alpha{c_\alpha}\Delta\frac1{D_w}/\ln10$ (6a): reducing $D_w$ from 0.14 to 0.07 costs eleven orders of magnitude or more at slope 1. "Not 0" is not
# "of a size that computes": then all but a share of order $q$ of the neurons carry nothing. The range of usable scales is wider than for a Gaussian network of the same width, whose line is at $1+1/N$, but it ends.
#
# *Rubric.* Half a point: mean against mean of the logarithm (or typical layer). Half a point: a layer without a far neuron when $qN\ll1$, or the order of limits. Half a point: $1/\log N$ or "slowly towards 0". Half a point: the colleague is refuted with a number.
# ### END SOLUTION

# %% [markdown]
# ## 7. How many weights count? (6 points, 15 minutes)
#
# *Chapter: "The stable law", right panel of the first figure.* Take a row of $N$ weights from $S_\alpha(\sigma)$, $N$ large, $1\le\alpha<2$.
#
# **(a)** (3 points, your own code)
#
# - `largest_over_scale`: the median of the largest $|w_j|$ of the row, divided by the scale $N^{1/\alpha}\sigma$ of the row's sum, for $N\to\infty$. It does not depend on $N$: one weight is as large as the whole sum. (Use the tail of the density, $c_\alpha\sigma^\alpha|x|^{-1-\alpha}$ on each side. Accuracy: 1e-3.)
# - `row_participation`: for a matrix, the mean over its rows of $Y=\sum_jw_j^4/\big(\sum_jw_j^2\big)^2$ and its standard error. $1/Y$ counts the weights that carry a row: $Y=1/N$ if all are equally large, 1 if a single one is.
# - `wide_participation`: $\mathbb E\,Y$ for $N\to\infty$; part (b) leads to it. The values at $\alpha=1$ and $\alpha\to2$, and your own `row_participation(weights)`, are checks.


# %% nbgrader="solution participation"
def largest_over_scale(alpha):
    """Return the median of max |w_j| in units of N^(1/alpha) sigma for wide rows, a number; alpha in [1, 2)."""
    ### BEGIN SOLUTION
    c = math.gamma(1 + alpha) * np.sin(np.pi * alpha / 2) / np.pi
    # P(all below m) = exp(−N · 2c/α · (σ/m)^α) = 1/2
    return (2 * c / (alpha * np.log(2))) ** (1 / alpha)
    ### END SOLUTION


def row_participation(W):
    """Return (mean of Y, standard_error), two numbers, over the rows of W: (rows, N)."""
    ### BEGIN SOLUTION
    shares = W**2 / np.sum(W**2, axis=1, keepdims=True)
    Y = np.sum(shares**2, axis=1)
    return Y.mean(), Y.std(ddof=1) / np.sqrt(Y.size)
    ### END SOLUTION


def wide_participation(alpha):
    """Return the mean of Y for infinitely wide rows, a number; alpha in [1, 2)."""
    ### BEGIN SOLUTION
    return 1 - alpha / 2
    ### END SOLUTION


# %% nbgrader="tests participation-tests 3" mflib="noticed"
marks = classroom.Marks(3)
with marks.part(0.5, "Equal weights count in full, and a single one alone.", by_hand=True):
    rows = np.array([[1.0, -1.0, 1.0, 1.0], [0.0, 5.0, 0.0, 0.0]])
    classroom.close(row_participation(rows)[0], 0.625, rtol=1e-9)
### BEGIN HIDDEN TESTS
mine_graded = classroom.graded()
rng = np.random.default_rng([mine_graded.seed, 7])
matrix = stable.sample(mine_graded.alpha, (60, 90), rng=rng)
several = [mine_graded.alpha, *rng.uniform(1.05, 1.7, 2).tolist()]
wide = 1_000_000
# the exact median of the largest of a million: (1 − P)^N = 1/2
share = -np.expm1(np.log(0.5) / wide) / 2
largest = [float(-stable.ppf(share, a)) / wide ** (1 / a) for a in several]
with marks.part(
    1,
    "The largest weight of a wide row is right.",
    hint="None of N weights lies beyond m with probability 1/2. Integrate the tail on both sides; the median is not the place where one weight is expected.",
    by_hand=True,
):
    for a, right in zip(several, largest, strict=True):
        classroom.close(largest_over_scale(a), right, rtol=1e-3)
with marks.part(
    0.5,
    "The participation of a matrix and its standard error are right.",
    hint="Y is one number per row; the error is that of a mean over rows.",
    by_hand=True,
):
    squares = matrix**2
    by_row = (squares**2).sum(1) / squares.sum(1) ** 2
    value, error = row_participation(matrix)
    classroom.close(value, by_row.mean(), rtol=1e-6)
    classroom.close(error, by_row.std(ddof=1) / np.sqrt(60), rtol=0.05)
with marks.part(
    1,
    "The participation of infinitely wide rows is right.",
    hint="The squares have a tail of another index than the weights. Compare with rows of a few thousand draws.",
    by_hand=True,
):
    for a in several:
        classroom.close(wide_participation(a), 1 - a / 2, rtol=1e-3)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# **(b)** (3 points by hand) Derive $\lim_{N\to\infty}\mathbb E\,Y$. Write $y_j=w_j^2$, and use $S^{-2}=\int_0^\infty t\,e^{-tS}\,dt$ for $S=\sum_jy_j$ and $1-\mathbb E\,e^{-ty}\simeq K\,t^{\mu}$ for small $t$: which $\mu$, and why does $K$ drop out?
# Then compare with `row_participation(weights)` for your own weights, in standard errors, and with a Gaussian row, for which $\mathbb E\,Y\simeq3/N$. What does it mean for a network if $1/Y$ does not grow with the width?

# %% [markdown] nbgrader="essay participation-essay 3"
# ### BEGIN SOLUTION
# $P(y>v)=P(|w|>\sqrt v)\propto v^{-\alpha/2}$, so $\mu=\alpha/2<1$. By symmetry between the $N$ terms
# $$\mathbb E\,Y=N\int_0^\infty t\,\mathbb E\big[y^2e^{-ty}\big]\,\big(\mathbb E\,e^{-ty}\big)^{N-1}dt .$$
# The first expectation is the second derivative of $\mathbb E\,e^{-ty}\simeq1-Kt^\mu$, that is $K\mu(1-\mu)\,t^{\mu-2}$; the power is $\simeq e^{-NKt^\mu}$, which keeps $t$ of order $N^{-1/\mu}$, where the small-$t$ forms hold. So
# $$\mathbb E\,Y\to(1-\mu)\int_0^\infty NK\mu\,t^{\mu-1}e^{-NKt^\mu}dt=1-\mu=1-\frac\alpha2 .$$
# The integrand is a total derivative in $NKt^\mu$, so neither $K$ (the scale) nor $N$ is left.
#
# Own weights: 200 rows of 400 give a mean within two or three of its standard errors of $1-\alpha/2$ (the correction at $N=400$ is smaller than the error, which is 0.01 to 0.03). A Gaussian row of 400 would have 0.0075. About $1/(1-\alpha/2)$ weights carry a row, three at $\alpha=1.3$, however wide it is: every neuron listens to
# a handful of others, its pre-activation does not self-average over inputs, and different neurons listen to different ones. Some directions of the input are therefore stretched and most squeezed, and eigenvectors live on few neurons.
#
# *Rubric.* Half a point: $\mu=\alpha/2$ with the reason. 1 point: the integral with $N$ equal terms and the second derivative. Half a point: the limit, $K$ gone. Half a point: comparison in standard errors. Half a point: meaning.
# ### END SOLUTION
