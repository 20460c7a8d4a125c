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
# # Isometry and initialisation
#
# On the critical line a gradient keeps its length on average. Here you find out what one layer costs beyond the average,
# draw the weights that cost least, choose the variances of a deep network for a bound that you are given,
# and do the same for a convolutional network. Afterwards you can
#
# - derive why the relative variances of the squared singular values add up over layers, and see where infinite width enters;
# - draw matrices that are orthogonal *and* uniformly distributed, and delta-orthogonal kernels, from a Gaussian matrix and a QR decomposition;
# - put error bars on a quantity whose samples are not independent, and tell an error bar from a bias;
# - choose $\sigma_w^2$ and $\sigma_b^2$ for a given depth;
# - say which Fourier modes of an image a given kernel loses, and after how many layers.
#
# **Time:** 90 minutes; the last section is optional and not counted. **Points:** 38, of which 28 are given automatically and 10 by your teacher.
# The material is in the chapters *Dynamical isometry* and *Convolutional networks and delta-orthogonal kernels* of the book.
#
# **Allowed:** the book, numpy, scipy, torch, matplotlib. Where a question says *by hand*, your code must not call `mflib`, and
# must draw its matrices itself: no `ortho_group`, `special_ortho_group` or `unitary_group` of `scipy.stats`, no `torch.nn.init`. Elsewhere `mflib` is allowed. Run the notebook from the top. Cells
# with checks show at once what already holds; the other points are given when the notebook is graded.
#
# Notation is that of the book: $D$ layers $z^l = W^l y^{l-1} + b^l$, $y^l = \varphi(z^l)$, with $\varphi=\tanh$ unless
# something else is said; $\lambda$ are the squared singular values of the Jacobian $J$, that is, the eigenvalues of $J^{\mathsf T}J$.
# Their *relative variance* is $\langle\lambda^2\rangle/\langle\lambda\rangle^2-1$.

# %%
from mflib import classroom

classroom.token("")  # between the quotes: the token that your teacher gave you

# %% nbgrader="locked numbers"
import matplotlib.pyplot as plt
import numpy as np
import torch

mine = classroom.begin(
    "isometry-initialisation",
    sigma_b2=classroom.between(0.02, 0.2, step=0.01),
    depth=classroom.between(6, 10, step=1),
    n_in=classroom.between(20, 40, step=5),
    widening=classroom.one_of(2, 3, 4),
    steepness=classroom.one_of(0.5, 0.6, 0.7, 0.8, 1.25, 1.5, 1.75, 2.0),
    deep=classroom.one_of(60, 80, 100, 150, 200, 300),
    bound=classroom.one_of(0.1, 0.15, 0.2, 0.25, 0.3),
    centre=classroom.between(0.4, 0.8, step=0.05),
    left=classroom.between(0.1, 0.4, step=0.05),
    ring=classroom.one_of(8, 10, 12, 16, 20, 24),
)
mine

# %% nbgrader="tests token 1" mflib="no help"
marks = classroom.Marks(1)
with marks.part(1, "The token is that of the id under which you hand in."):
    classroom.check_token()
marks.total()

# %% [markdown]
# ## 1. Variances add up
#
# ### 1a. A derivation (5 points, by your teacher; 15 minutes)
#
# Write $m_k$ for the $k$-th moment of $\lambda$, averaged over networks. All widths are large.
#
# 1. Begin with linear layers of widths $N_0, N_1, \dots, N_D$: $J = W^D\cdots W^1$, where $W^l$ is $N_l\times N_{l-1}$ with independent
#    Gaussian entries of one variance $s$, whichever. Let $J_{l-1}$ be the product of the first $l-1$ factors and $B=J_{l-1}J_{l-1}^{\mathsf T}$. Average $\operatorname{tr}(J_l^{\mathsf T}J_l)^2$
#    over $W^l$ alone, at fixed $B$, and find what layer $l$ adds to the relative variance of the $N_0$ eigenvalues of $J^{\mathsf T}J$. Wick's theorem
#    gives, for $G=W^{l\,\mathsf T}W^l$ and at every width,
#    $$\mathbb E[G_{jk}G_{mn}] = s^2\big(N_l^2\,\delta_{jk}\delta_{mn} + N_l\,\delta_{jm}\delta_{kn} + N_l\,\delta_{jn}\delta_{km}\big).$$
# 2. Now let all widths be $N$ and put slopes behind the weights: $J_l = A^l W^l J_{l-1}$, $A^l$ diagonal. Let $\mu_k$ be the mean of the
#    $2k$-th power of the slopes. Find what a layer adds with Gaussian weights and with orthogonal ones.
#    (A hint that needs no free probability: let $C = W^lB\,W^{l\mathsf T}$. What are its diagonal entries at large $N$, and what is the sum of the squares of all its entries?)
# 3. Conclude: mean and variance of $\lambda$ after $D$ critical layers, for both ensembles.
# 4. Name each place at which you used that $N$ is large, or that something is independent of something else.

# %% [markdown] nbgrader="essay derivation 5"
# ### BEGIN SOLUTION
# **1.** $\operatorname{tr}(J_l^{\mathsf T}J_l)^2=\operatorname{tr}(BGBG)=B_{nj}G_{jk}B_{km}G_{mn}$, summed over all indices. Contracted with $B_{nj}B_{km}$ the three terms of the identity give $\operatorname{tr}B^2$, $\operatorname{tr}B^2$ and $(\operatorname{tr}B)^2$. Divided by $N_0$,
#
# $$m_2' = (sN_l)^2\Big[m_2\Big(1+\frac1{N_l}\Big) + \frac{N_0}{N_l}\,m_1^2\Big],\qquad m_1' = sN_l\,m_1 .$$
#
# Without the term of order $1/N_l$ the relative variance, $v=m_2/m_1^2-1$ from here on, becomes $v+N_0/N_l$. It begins at 0, since $J_0$ is the unit matrix, so
# $v=\sum_l N_0/N_l$, and $D$ for equal widths.
#
# **2.** $\operatorname{tr}(J_l^{\mathsf T}J_l)^2=\operatorname{tr}(A^2CA^2C)=\sum_{ij}s_is_jC_{ij}^2$ with $s_i$ the squared slopes, of mean $\mu_1$ and mean square $\mu_2$.
# The diagonal entries $C_{ii}=w_i^{\mathsf T}Bw_i$, with $w_i$ a row of $W$, all tend to $\sigma_w^2m_1$: their fluctuations are of order $N^{-1/2}$. They contribute $N\mu_2\sigma_w^4m_1^2$.
# The other entries contribute $\mu_1^2\sum_{i\ne j}C_{ij}^2$, as $s_i$ and $s_j$ are independent. With Gaussian rows $\mathbb E\,C_{ij}^2=\sigma_w^4\operatorname{tr}B^2/N^2$, which makes the sum $N\sigma_w^4m_2$.
# With orthogonal weights $\operatorname{tr}C^2=\sigma_w^4\operatorname{tr}B^2$ exactly, which *includes* the diagonal, and the sum is $N\sigma_w^4(m_2-m_1^2)$. So
#
# $$m_2' = \sigma_w^4\begin{cases}\mu_1^2m_2+\mu_2m_1^2&\text{Gaussian}\\ \mu_1^2(m_2-m_1^2)+\mu_2m_1^2&\text{orthogonal}\end{cases}
# \qquad v' = v+\begin{cases}\mu_2/\mu_1^2\\ \mu_2/\mu_1^2-1 .\end{cases}$$
#
# **3.** With $\chi_1=\sigma_w^2\mu_1=1$ the mean is 1 at every depth, and the variance is $D\mu_2/\mu_1^2$ (Gaussian) or $D(\mu_2/\mu_1^2-1)$ (orthogonal).
#
# **4.** Large $N$: the term $1/N_l$ dropped; $m_1$ of one network replaced by its mean (it fluctuates by order $1/N$); the diagonal of $C$ constant;
# sums over slopes replaced by means. Independence: $W^l$ of $B$ (fresh weights); the slopes of one another and of $C$: they come from the
# same weights as $C$, and depend on them through one direction of $N$ only, that of the signal.
#
# **Rubric.** 1 point for the trace written with $B$ and $G$ and its three contractions (or an equal argument); 1 for $N_0/N_l$ and the sum; 1 for the Gaussian layer with slopes; 1 for the
# orthogonal one (the diagonal counted once); 1 for naming at least two uses of large $N$ and that slopes and weights are not independent in a network.
# An answer by the S-transform earns the points of part 2 if the first two orders of $S$ are derived, not quoted.
# ### END SOLUTION

# %% [markdown]
# ### 1b. Where to put the narrow layer (2 points; 4 minutes)
#
# Turn part 1 of your derivation into code, *by hand*: the relative variance of $\lambda$ for linear Gaussian layers of the given widths, in the limit in
# which all widths are large at fixed ratios. Then name the narrowest place: a network has widths $N$, but one of its layers, be it $l=1$, $l=D$ or one between,
# may have only $N/10$ neurons. Does it matter to the relative variance which one? Set `it_matters` to `True` or `False`.


# %% nbgrader="solution linear"
def linear_variance(widths):
    """Return the relative variance of the eigenvalues of J'J for linear Gaussian layers.

    widths: the D + 1 numbers N_0, N_1, ..., N_D.
    """
    ### BEGIN SOLUTION
    widths = np.asarray(widths, dtype=float)
    return float(np.sum(widths[0] / widths[1:]))
    ### END SOLUTION


### BEGIN SOLUTION
it_matters = False
### END SOLUTION

# %% nbgrader="tests linear-tests 2" mflib="noticed"
marks = classroom.Marks(2)
with marks.part(
    0.5,
    "Equal widths: each Gaussian layer adds 1.",
    hint="How many layers do D + 1 widths make?",
):
    classroom.close(linear_variance([100] * 6), 5.0, rtol=1e-9)
### BEGIN HIDDEN TESTS
# names here end in _test: they must not replace a name that the student's functions use
mine_graded = classroom.graded()
rng_test = np.random.default_rng([1, mine_graded.n_in, mine_graded.depth])
cases_for_test = [[int(n) for n in rng_test.integers(20, 400, size=size)] for size in (2, 4, 7)]
right_values_test = [sum(widths[0] / n for n in widths[1:]) for widths in cases_for_test]
with marks.part(
    1,
    "Unequal widths, narrow to wide and wide to narrow.",
    hint="There are N_0 eigenvalues, zeros among them counted. Which trace is divided by which width?",
    by_hand=True,
):
    for widths_test, right_test in zip(cases_for_test, right_values_test, strict=True):
        classroom.close(linear_variance(list(widths_test)), right_test, rtol=1e-9)
with marks.part(
    0.5,
    "The place of a narrow layer.",
    hint="Move one small number through the list of widths, from the second place on.",
):
    assert isinstance(it_matters, bool | np.bool_)
    classroom.same(bool(it_matters), False)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 2. Orthogonal weights by hand (4 points; 12 minutes)
#
# Write a function that draws an $n_\text{out}\times n_\text{in}$ matrix $W = g\,H$ with gain $g$. $H$ has orthonormal columns if
# $n_\text{out}\ge n_\text{in}$ and orthonormal rows otherwise, and it is *Haar distributed*: turning it by any fixed orthogonal matrix, from the
# left or the right, does not change its law. Do it *by hand*, from a QR decomposition of a Gaussian matrix.
#
# Orthogonality is checked in every single matrix; the law is checked in thousands of them. A QR decomposition is unique only up to signs, and a
# library has to choose them somehow. Look at the diagonal of a few $Q$ that numpy returns before you trust it.
#
# Then set `gain_mean_field`. A layer has your `n_in` inputs and `n_in * widening` outputs. For which gain $g$ do the entries of $W$ have the
# mean-field variance $\sigma_w^2/n_\text{in}$ with $\sigma_w^2=1$? (What does that gain do to the length of a vector?)


# %% nbgrader="solution orthogonal"
def orthogonal(n_out, n_in, gain, generator):
    """Return gain times a Haar distributed semi-orthogonal matrix, (n_out, n_in).

    generator: a numpy.random.Generator, the only source of randomness.
    """
    ### BEGIN SOLUTION
    long, short = max(n_out, n_in), min(n_out, n_in)
    q, r = np.linalg.qr(generator.standard_normal((long, short)))
    # LAPACK's signs depend on the matrix; with the diagonal of R positive, Q is unique and Haar
    q = q * np.sign(np.diagonal(r))
    return gain * (q if n_out >= n_in else q.T)
    ### END SOLUTION


### BEGIN SOLUTION
gain_mean_field = np.sqrt(mine.widening)
### END SOLUTION

# %% nbgrader="tests orthogonal-tests 4" mflib="noticed"
marks = classroom.Marks(4)
with marks.part(
    0.5,
    "A square matrix of gain 1 is orthogonal.",
    hint="Everything must be drawn from the generator that is given.",
):
    classroom.close(
        orthogonal(5, 5, 1.0, np.random.default_rng(0)).T
        @ orthogonal(5, 5, 1.0, np.random.default_rng(0)),
        np.eye(5),
        atol=1e-10,
    )
### BEGIN HIDDEN TESTS
import contextlib as contextlib_test

import scipy.stats as scipy_stats_test

mine_graded = classroom.graded()
seeds_test = np.random.SeedSequence([2, mine_graded.n_in, mine_graded.ring]).spawn(4)
rng_test = np.random.default_rng(seeds_test[0])
gain_for_test = float(rng_test.uniform(0.5, 2.0))
draws_for_test = 2000


def refuse_test(*arguments, **named):
    """Stand in for a library's sampler."""
    raise RuntimeError("drawn by a library")


@contextlib_test.contextmanager
def without_samplers_test():
    """Refuse the libraries' samplers, under whatever name they were imported, frozen ones too."""
    kinds = [
        type(getattr(scipy_stats_test, name))
        for name in ("ortho_group", "special_ortho_group", "unitary_group")
    ]
    methods = [kind.rvs for kind in kinds]
    in_torch = torch.nn.init.orthogonal_
    code = in_torch.__code__
    try:
        for kind in kinds:
            kind.rvs = refuse_test
        in_torch.__code__ = refuse_test.__code__
        yield
    finally:
        for kind, method in zip(kinds, methods, strict=True):
            kind.rvs = method
        in_torch.__code__ = code


with marks.part(
    0.5,
    "More outputs than inputs: orthonormal columns times the gain.",
    hint="Which of W'W and WW' can be a multiple of the unit matrix?",
    by_hand=True,
):
    with without_samplers_test():
        tall_test = np.asarray(orthogonal(9, 4, gain_for_test, np.random.default_rng(3)))
    assert tall_test.shape == (9, 4)
    classroom.close(tall_test.T @ tall_test, gain_for_test**2 * np.eye(4), atol=1e-10)
with marks.part(
    0.5,
    "More inputs than outputs: orthonormal rows times the gain.",
    hint="Decompose a tall matrix, and then?",
    by_hand=True,
):
    with without_samplers_test():
        broad_test = np.asarray(orthogonal(4, 9, gain_for_test, np.random.default_rng(3)))
    assert broad_test.shape == (4, 9)
    classroom.close(broad_test @ broad_test.T, gain_for_test**2 * np.eye(4), atol=1e-10)


def many_drawn_test(shape, seed):
    """Return many of the student's matrices of gain 1."""
    generator = np.random.default_rng(seed)
    with without_samplers_test():
        return np.array([orthogonal(*shape, 1.0, generator) for _ in range(draws_for_test)])


shapes_test = dict(zip(((4, 4), (2, 5), (5, 2)), seeds_test[1:], strict=True))
with marks.part(
    0.5,
    "Haar distribution: the mean of every entry, and of the trace, is 0.",
    hint="Average the diagonal of 1,000 of your matrices. What decides the sign of a column of Q?",
    by_hand=True,
):
    for shape_test, seed_test in shapes_test.items():
        found_test = many_drawn_test(shape_test, seed_test)
        n_test, k_test = max(shape_test), min(shape_test)
        # entries have variance 1/n; by independent sign flips of rows the trace has k/n
        classroom.close(
            found_test.mean(axis=0),
            np.zeros(shape_test),
            standard_error=(n_test * draws_for_test) ** -0.5,
        )
        classroom.close(
            np.trace(found_test, axis1=1, axis2=2).mean(),
            0.0,
            standard_error=(k_test / n_test / draws_for_test) ** 0.5,
        )
with marks.part(
    0.5,
    "Haar distribution: the entries are uncorrelated, each of variance 1/n with n the longer side.",
    hint="Does the sign of one entry tell anything about that of another? Look at pairs on the diagonal.",
    by_hand=True,
):
    for shape_test, seed_test in shapes_test.items():
        n_test, flat_test = (
            max(shape_test),
            many_drawn_test(shape_test, seed_test).reshape(draws_for_test, -1),
        )
        # E[x^2 y^2] <= E[x^4] = 3/(n (n + 2)) for entries of a point on the sphere
        classroom.close(
            flat_test.T @ flat_test / draws_for_test,
            np.eye(flat_test.shape[1]) / n_test,
            standard_error=(3 / (n_test * (n_test + 2)) / draws_for_test) ** 0.5,
        )
with marks.part(
    1,
    "Haar distribution: no direction is preferred, and reflections are as frequent as rotations.",
    hint="How are the entries of a column spread, if the column is a uniform point on a sphere? How often is a determinant -1?",
    by_hand=True,
):
    for shape_test, seed_test in shapes_test.items():
        n_test, found_test = max(shape_test), many_drawn_test(shape_test, seed_test)
        # E[x^4] and E[x^8] of a coordinate of a uniform point on the sphere; those of a
        # permutation with random signs are both 1/n
        fourth_test = 3 / (n_test * (n_test + 2))
        eighth_test = 105 / (n_test * (n_test + 2) * (n_test + 4) * (n_test + 6))
        classroom.close(
            np.mean(found_test**4, axis=0),
            np.full(shape_test, fourth_test),
            standard_error=((eighth_test - fourth_test**2) / draws_for_test) ** 0.5,
        )
        if shape_test == (4, 4):
            classroom.close(
                np.linalg.det(found_test).mean(), 0.0, standard_error=draws_for_test**-0.5
            )
with marks.part(
    0.5,
    "The gain that gives the mean-field variance.",
    hint="The columns of H have length 1: what is the mean square of the entries of a tall H?",
):
    classroom.close(gain_mean_field, np.sqrt(mine_graded.widening), rtol=1e-6)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 3. Prediction against sampling
#
# From here on you need the critical point at your $\sigma_b^2$. You have computed such points before, so the package may do it.

# %% nbgrader="locked point"
from mflib.theory import mean_field

point = mean_field.critical_sigma_w2("tanh", mine.sigma_b2)
sigma_w2, q_star = float(point.sigma_w2), float(point.q)
width, n_networks = 64, 60
print(f"sigma_w2 = {sigma_w2:.6f}, q_star = {q_star:.6f}")

# %% [markdown]
# ### 3a. What theory says (5 points; 8 minutes)
#
# By hand, two functions. The first returns the moments of the squared slope of tanh,
# $\mu_k = \int\mathcal Dz\,\varphi'(\sqrt{q}\,z)^{2k}$, with a relative error of at most $10^{-6}$ for $0\le q\le1.5$ and $k\le3$. Choose the quadrature, and
# convince yourself of its error. The second returns mean and variance (not the relative one) of $\lambda$ after $D$ layers, from
# $\sigma_w^2$, $\mu_1$ and $\mu_2$, *on and off* the critical line.


# %% nbgrader="solution theory"
def slope_moment(k, q):
    """Return mu_k = E[phi'(u)^(2k)] for phi = tanh and u ~ N(0, q), a number."""
    ### BEGIN SOLUTION
    # equal steps: beyond z = 12 nothing is left, and for an analytic integrand that has died out
    # at both ends the error falls exponentially with the number of points
    z = np.linspace(-12.0, 12.0, 2001)
    weight = np.exp(-(z**2) / 2)
    slope = 1 - np.tanh(np.sqrt(q) * z) ** 2
    return float(np.sum(weight * slope ** (2 * k)) / np.sum(weight))
    ### END SOLUTION


def predicted(sigma_w2, mu_1, mu_2, depth, ensemble):
    """Return the mean and the variance of lambda after depth layers, a pair of numbers.

    ensemble: "orthogonal" or "gaussian".
    """
    ### BEGIN SOLUTION
    mean = (sigma_w2 * mu_1) ** depth
    added = mu_2 / mu_1**2 - (1 if ensemble == "orthogonal" else 0)
    return mean, mean**2 * depth * added
    ### END SOLUTION


# %% nbgrader="tests theory-tests 5" mflib="noticed"
marks = classroom.Marks(5)
with marks.part(0.5, "Small signals are not bent: every moment is 1 at q = 0."):
    classroom.close(slope_moment(1, 0.0), 1.0, rtol=1e-9)
    classroom.close(slope_moment(2, 0.0), 1.0, rtol=1e-9)
with marks.part(
    0.5,
    "Linear layers: orthogonal weights add nothing, Gaussian ones 1 each.",
    hint="With all slopes 1, what is J for orthogonal weights? Give the mean first, then the variance.",
):
    classroom.close(predicted(1.0, 1.0, 1.0, 7, "orthogonal"), [1.0, 0.0], atol=1e-9)
    classroom.close(predicted(1.0, 1.0, 1.0, 7, "gaussian"), [1.0, 7.0], atol=1e-9)
### BEGIN HIDDEN TESTS
from scipy import integrate as integrate_test

mine_graded = classroom.graded()
rng_test = np.random.default_rng([3, mine_graded.depth, round(100 * mine_graded.sigma_b2)])


def moment_test(k, q):
    """Return mu_k, in the variable u = sqrt(q) z."""
    value, _ = integrate_test.quad(
        lambda u: np.cosh(u) ** (-4 * k) * np.exp(-(u**2) / (2 * q)) / np.sqrt(2 * np.pi * q),
        0,
        40 * np.sqrt(q),
        epsabs=1e-13,
        epsrel=1e-11,
        limit=500,
    )
    return 2 * value


cases_for_test = [
    (k, float(q)) for k in (1, 2, 3) for q in (*rng_test.uniform(0.05, 1.0, size=2), 1.5)
]
right_values_test = [moment_test(k, q) for k, q in cases_for_test]
with marks.part(
    1,
    "The moments of the squared slope, to three digits.",
    hint="Is the power 2k, and is it the square root of q in the argument?",
    by_hand=True,
):
    for (k_test, q_test), right_test in zip(cases_for_test, right_values_test, strict=True):
        classroom.close(slope_moment(k_test, q_test), right_test, rtol=1e-3)
with marks.part(
    0.5,
    "The moments of the squared slope, to 1e-6.",
    hint="Compare two numbers of nodes at q = 1.5 and k = 3. The integrand has poles off the real axis: what do they do to Gauss-Hermite quadrature?",
    by_hand=True,
):
    for (k_test, q_test), right_test in zip(cases_for_test, right_values_test, strict=True):
        # half as much again as the question allows: the reference has an error too
        classroom.close(slope_moment(k_test, q_test), right_test, rtol=1.5e-6)
cases_test = []
for _ in range(4):
    mu_1_test = float(rng_test.uniform(0.4, 0.9))
    mu_2_test = float(mu_1_test**2 * rng_test.uniform(1.1, 1.9))
    cases_test.append(
        (mu_1_test, mu_2_test, int(rng_test.integers(2, 12)), float(rng_test.uniform(0.8, 1.2)))
    )
with marks.part(
    1,
    "Orthogonal weights on the critical line.",
    hint="What did the second part of your derivation say that a layer adds?",
    by_hand=True,
):
    for mu_1_test, mu_2_test, depth_test, _ in cases_test:
        right_test = [1.0, depth_test * (mu_2_test / mu_1_test**2 - 1)]
        classroom.close(
            predicted(1 / mu_1_test, mu_1_test, mu_2_test, depth_test, "orthogonal"),
            right_test,
            rtol=1e-9,
        )
with marks.part(
    0.5,
    "Gaussian weights on the critical line.",
    hint="What did the second part of your derivation say that a layer adds?",
    by_hand=True,
):
    for mu_1_test, mu_2_test, depth_test, _ in cases_test:
        right_test = [1.0, depth_test * mu_2_test / mu_1_test**2]
        classroom.close(
            predicted(1 / mu_1_test, mu_1_test, mu_2_test, depth_test, "gaussian"),
            right_test,
            rtol=1e-9,
        )
with marks.part(
    0.5,
    "The mean off the critical line.",
    hint="By what factor does one layer multiply the mean?",
    by_hand=True,
):
    for mu_1_test, mu_2_test, depth_test, chi_test in cases_test:
        for ensemble_test in ("orthogonal", "gaussian"):
            found_test = predicted(
                chi_test / mu_1_test, mu_1_test, mu_2_test, depth_test, ensemble_test
            )
            classroom.close(found_test[0], chi_test**depth_test, rtol=1e-9)
with marks.part(
    0.5,
    "The variance off the critical line, given the variance on it.",
    hint="Multiply every lambda by a number: what becomes of the variance?",
    by_hand=True,
):
    for mu_1_test, mu_2_test, depth_test, chi_test in cases_test:
        for ensemble_test in ("orthogonal", "gaussian"):
            on_line_test = predicted(1 / mu_1_test, mu_1_test, mu_2_test, depth_test, ensemble_test)
            off_line_test = predicted(
                chi_test / mu_1_test, mu_1_test, mu_2_test, depth_test, ensemble_test
            )
            assert on_line_test[1] > 0
            classroom.close(
                off_line_test[1], chi_test ** (2 * depth_test) * on_line_test[1], rtol=1e-9
            )
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ### 3b. What a network says (6 points; 20 minutes)
#
# By hand, three functions.
#
# - `jacobian` returns $J = \partial y^D/\partial y^0$ of a given tanh network at a given input.
# - `squared_singular_values` draws one square network, and an input $y^0$ of random direction that has exactly the mean square
#   $(q^*-\sigma_b^2)/\sigma_w^2$, so that $z^1$ has variance $q^*$; it returns the $\lambda$ of that network at that input. Weights are $\sigma_w$ times a Haar orthogonal matrix, or independent
#   $\mathcal N(0,\sigma_w^2/N)$; biases are independent $\mathcal N(0,\sigma_b^2)$, one for each neuron, in both cases. Call your `orthogonal` and your `jacobian` (a check looks at what `jacobian` is given).
# - `estimate` turns the $\lambda$ of many networks into four numbers: the mean of $\lambda$ and its standard error; the variance of $\lambda$ *within* a network,
#   averaged over networks, and its standard error. Think before you divide by the square root of a number: which of the values are independent?


# %% nbgrader="solution sampling"
def jacobian(weights, biases, y):
    """Return the Jacobian of a tanh network at the input y, (n_D, n_0).

    weights: a list of D matrices, W^l of shape (n_l, n_(l-1)); biases: a list of D vectors (n_l,);
    y: (n_0,).
    """
    ### BEGIN SOLUTION
    product = np.eye(len(y))
    for w, b in zip(weights, biases, strict=True):
        y = np.tanh(w @ y + b)
        product = (1 - y**2)[:, None] * (w @ product)
    return product
    ### END SOLUTION


def squared_singular_values(width, depth, sigma_w2, sigma_b2, q_star, ensemble, generator):
    """Return the lambda of one random tanh network, (width,).

    ensemble: "orthogonal" or "gaussian"; generator: a numpy.random.Generator.
    """
    ### BEGIN SOLUTION
    y = generator.standard_normal(width)
    y *= np.sqrt((q_star - sigma_b2) / sigma_w2 / np.mean(y**2))
    weights, biases = [], []
    for _ in range(depth):
        if ensemble == "orthogonal":
            weights.append(orthogonal(width, width, np.sqrt(sigma_w2), generator))
        else:
            weights.append(generator.standard_normal((width, width)) * np.sqrt(sigma_w2 / width))
        biases.append(generator.standard_normal(width) * np.sqrt(sigma_b2))
    return np.linalg.svd(jacobian(weights, biases, y), compute_uv=False) ** 2
    ### END SOLUTION


def estimate(values):
    """Return the mean, its standard error, the variance within a network, its standard error.

    values: the lambda of several networks, (n_networks, width).
    """
    ### BEGIN SOLUTION
    # the lambda of one network share its weights and its signal: a network is one observation
    root = np.sqrt(len(values))
    mean, variance = values.mean(axis=1), values.var(axis=1)
    return (
        mean.mean(),
        mean.std(ddof=1) / root,
        variance.mean(),
        variance.std(ddof=1) / root,
    )
    ### END SOLUTION


# %% nbgrader="tests sampling-tests 6" mflib="noticed"
marks = classroom.Marks(6)
with marks.part(
    0.5, "Without inputs and biases all slopes are 1: the Jacobian is the product of the weights."
):
    w_1_test = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]])
    w_2_test = np.array([[1.0, 0.0, 2.0]])
    classroom.close(
        jacobian([w_1_test, w_2_test], [np.zeros(3), np.zeros(1)], np.zeros(2)),
        w_2_test @ w_1_test,
        atol=1e-12,
    )
with marks.part(
    0.5, "One network has as many squared singular values as neurons in a layer, none negative."
):
    seen_test = squared_singular_values(
        20, 3, sigma_w2, mine.sigma_b2, q_star, "gaussian", np.random.default_rng(0)
    )
    assert np.shape(seen_test) == (20,), "the shape is not (width,)"
    assert np.min(seen_test) >= 0, "a squared singular value is negative"
### BEGIN HIDDEN TESTS
import itertools as itertools_test

from mflib.experiment import jacobian as sampled_test
from mflib.theory import mean_field as mean_field_test

mine_graded = classroom.graded()
rng_test = np.random.default_rng([4, mine_graded.depth, mine_graded.n_in, mine_graded.ring])
sizes_test = (5, 8, 6, 4)
weights_test = [
    rng_test.standard_normal((m, n)) / np.sqrt(n) for n, m in itertools_test.pairwise(sizes_test)
]
biases_test = [0.5 * rng_test.standard_normal(n) for n in sizes_test[1:]]
y_0_test = rng_test.standard_normal(sizes_test[0])


def network_test(y):
    """Return the output of the same network, to be differentiated."""
    for w, b in zip(weights_test, biases_test, strict=True):
        y = torch.tanh(torch.from_numpy(w) @ y + torch.from_numpy(b))
    return y


right_jacobian_test = torch.autograd.functional.jacobian(
    network_test, torch.from_numpy(y_0_test)
).numpy()
with marks.part(
    1,
    "The Jacobian of a network of unequal layers with signals and biases.",
    hint="Slopes of which layer multiply which weights? In which order? Are the slopes taken where the biases are already added?",
    by_hand=True,
):
    classroom.close(
        jacobian(
            [w.copy() for w in weights_test], [b.copy() for b in biases_test], y_0_test.copy()
        ),
        right_jacobian_test,
        atol=1e-9,
    )


def haar_test(n_out, n_in, gain, generator):
    """Return what ``orthogonal`` should, so that a slip there is not paid twice."""
    long, short = max(n_out, n_in), min(n_out, n_in)
    q, r = np.linalg.qr(generator.standard_normal((long, short)))
    q = gain * q * np.sign(np.diagonal(r))
    return q if n_out >= n_in else q.T


def jacobian_test(weights, biases, y):
    """Return what ``jacobian`` should."""
    found = np.eye(len(y))
    for w, b in zip(weights, biases, strict=True):
        y = np.tanh(w @ y + b)
        found = (1 - y**2)[:, None] * (w @ found)
    return found


def statistics_test(log_lambda):
    """Return mean log lambda, mean and variance of lambda of each network, (n_networks, 3)."""
    lam = np.exp(log_lambda)
    return np.stack([log_lambda.mean(axis=1), lam.mean(axis=1), lam.var(axis=1)], axis=1)


critical_test = mean_field_test.critical_sigma_w2("tanh", mine_graded.sigma_b2)
layers_test, neurons_test, seed_test = 4, 40, int(rng_test.integers(2**31))
# drawn at the same width: what finite width does is the same on both sides
wanted_test = {
    ensemble: statistics_test(
        sampled_test.sample_spectrum(
            "tanh",
            width=neurons_test,
            depth=layers_test,
            sigma_w2=float(critical_test.sigma_w2),
            sigma_b2=mine_graded.sigma_b2,
            n_networks=400,
            seed=seed_test,
            ensemble=ensemble,
        )
    )
    for ensemble in ("orthogonal", "gaussian")
}


def compare_spectra_test(ensemble):
    """Compare the student's networks with those of the package."""
    generator = np.random.default_rng(seed_test)
    point = float(critical_test.sigma_w2), mine_graded.sigma_b2, float(critical_test.q)
    found = statistics_test(
        np.log(
            [
                squared_singular_values(neurons_test, layers_test, *point, ensemble, generator)
                for _ in range(100)
            ]
        )
    )
    right = wanted_test[ensemble]
    classroom.close(
        found.mean(axis=0),
        right.mean(axis=0),
        standard_error=right.std(axis=0, ddof=1) * np.sqrt(1 / len(right) + 1 / len(found)),
    )


handed_test = []


def recording_test(weights, biases, y):
    """Return what ``jacobian`` should, and keep what it was given."""
    handed_test.append((np.array(y, dtype=float), [np.array(b, dtype=float) for b in biases]))
    return jacobian_test(weights, biases, y)


def check_handed_test():
    """Check the input and the biases of one network of each kind."""
    handed_test.clear()
    w2, b2, q = float(critical_test.sigma_w2), mine_graded.sigma_b2, float(critical_test.q)
    for ensemble in ("orthogonal", "gaussian"):
        squared_singular_values(
            neurons_test, layers_test, w2, b2, q, ensemble, np.random.default_rng(seed_test)
        )
    assert len(handed_test) == 2
    for y, biases in handed_test:
        classroom.close(np.mean(y**2), (q - b2) / w2, rtol=1e-9)
        assert len(biases) == layers_test
        for b in biases:
            assert b.shape == (neurons_test,)
            assert np.ptp(b) > 0


with marks.part(
    0.5,
    "The input has exactly the mean square that was asked for, and every neuron a bias of its own.",
    hint="Scale the vector that you drew by its own mean square. Count the random numbers of one layer. Is it your jacobian that is called?",
    by_hand=True,
):
    classroom.beside(check_handed_test, orthogonal=haar_test, jacobian=recording_test)
# with right functions of the earlier questions, and if those do not fit, with the student's own
with marks.part(
    1,
    "Orthogonal networks: the spectrum of networks of width 40 and depth 4.",
    hint="Look at the variance of z in each layer: it should be q* from the first layer on. Are the singular values squared?",
    by_hand=True,
):
    classroom.beside(
        lambda: compare_spectra_test("orthogonal"), orthogonal=haar_test, jacobian=jacobian_test
    )
with marks.part(
    1,
    "Gaussian networks: the spectrum of networks of width 40 and depth 4.",
    hint="Look at the variance of z in each layer: it should be q* from the first layer on. By what are the weights divided?",
    by_hand=True,
):
    classroom.beside(
        lambda: compare_spectra_test("gaussian"), orthogonal=haar_test, jacobian=jacobian_test
    )
# values that share a factor within a row: a row is one observation, whatever its length
rows_test = np.exp(
    0.5 * rng_test.standard_normal((40, 1)) + 0.3 * rng_test.standard_normal((40, 50))
)
row_mean_test, row_variance_test = rows_test.mean(axis=1), rows_test.var(axis=1)
with marks.part(
    0.5,
    "The estimates of mean and variance.",
    hint="Within a network first, then over networks.",
    by_hand=True,
):
    found_test = estimate(rows_test.copy())
    # dividing by width - 1 is as good
    classroom.close(found_test[0], row_mean_test.mean(), rtol=1e-9)
    classroom.close(found_test[2], row_variance_test.mean(), rtol=1.1 / rows_test.shape[1])
with marks.part(
    1,
    "Their standard errors.",
    hint="Would 64 values of one network tell as much about the mean as one value each of 64 networks?",
    by_hand=True,
):
    found_test = estimate(rows_test.copy())
    # a jackknife, or a bootstrap of some hundred draws, differs from this by less
    for place_test, each_test in ((1, row_mean_test), (3, row_variance_test)):
        classroom.close(
            found_test[place_test], each_test.std(ddof=1) / np.sqrt(len(each_test)), rtol=0.2
        )
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ### 3c. The figure (2 points, by your teacher; 3 minutes)
#
# The lines that are given draw `n_networks` networks of the given `width` for each ensemble, with your functions, your $\sigma_b^2$ and `mine.depth`, and print a table.
# `sampled["orthogonal"]` and `sampled["gaussian"]` are arrays of shape (`n_networks`, `width`). Draw the histograms of $\log_{10}\lambda$ of both ensembles in one figure, with what a reader needs to read it.

# %% nbgrader="essay figure 2"
generator = np.random.default_rng(0)
mu_1, mu_2 = slope_moment(1, q_star), slope_moment(2, q_star)
sampled = {}
for ensemble in ("orthogonal", "gaussian"):
    sampled[ensemble] = np.array(
        [
            squared_singular_values(
                width, mine.depth, sigma_w2, mine.sigma_b2, q_star, ensemble, generator
            )
            for _ in range(n_networks)
        ]
    )
    mean, mean_error, variance, variance_error = estimate(sampled[ensemble])
    right_mean, right_variance = predicted(sigma_w2, mu_1, mu_2, mine.depth, ensemble)
    print(
        f"{ensemble:10}  mean {mean:6.3f} ± {mean_error:.3f} (predicted {right_mean:.3f})   "
        f"variance {variance:6.2f} ± {variance_error:.2f} (predicted {right_variance:.2f})   "
        f"median of log10 lambda {np.median(np.log10(sampled[ensemble])):.2f}"
    )
### BEGIN SOLUTION
fig, axis = plt.subplots(figsize=(7, 4))
bins = np.linspace(-6, 2.5, 80)
for ensemble, values in sampled.items():
    axis.hist(np.log10(values).ravel(), bins, density=True, alpha=0.5, label=ensemble)
axis.axvline(0, color="0.4", ls=":", label="isometry")
axis.set(
    xlabel=r"$\log_{10}\lambda$",
    ylabel="density",
    title=f"tanh, depth {mine.depth}, width {width}, {n_networks} networks each",
)
axis.legend()
plt.show()
# Rubric: 1 point for both histograms over the same bins, normalised or of equal numbers, over a
# range that shows the small lambda; 1 point for axes named with the variable, ensembles told
# apart, lambda = 1 marked or named, depth and width said. The values were graded in 3b.
### END SOLUTION

# %% [markdown]
# ### 3d. Reading it (3 points, by your teacher; 5 minutes)
#
# 1. Do both means agree with 1, within their errors? Where does the *typical* $\lambda$ lie, and how can the mean be where it is?
# 2. Give the difference between sampled and predicted variance in standard errors, for both ensembles. If you drew 100 times as many networks, or networks of
#    10 times the width, which of the two would bring sampling and prediction together? Base the answer on your derivation in 1a.

# %% [markdown] nbgrader="essay reading 3"
# ### BEGIN SOLUTION
# **1.** Both means agree with 1 within two or three standard errors, which are 0.02 to 0.09 here. (Over 3,000 networks of width 64, the mean is larger than 1 by 0.6 to 3 per cent with orthogonal weights, most for
# 10 layers and large $\sigma_b^2$, and within 1.5 per cent of 1 with Gaussian ones.) Most $\lambda$ lie below 1 and few large ones carry the mean. The median is between about $10^{-0.3}$ (orthogonal, $\sigma_b^2=0.02$, 6 layers) and
# $10^{-2.4}$ ($\sigma_b^2=0.2$, 10 layers) with orthogonal weights, and between $10^{-2}$ and $10^{-5.5}$ with Gaussian ones. Logarithms add up over layers, and by Jensen's inequality the mean of $\log\lambda$ is below the logarithm
# of the mean. So a gradient of random direction keeps its length *on average*, and most directions are lost.
#
# **2.** The sampled variances tend to lie above the predicted ones. Over 3,000 networks of width 64 they do so by 2 to 9 per cent (orthogonal) and 11 to 18 per cent (Gaussian) at 6 layers, and by 6 to 22 and 31 to 36 per cent at 10, more for larger $\sigma_b^2$.
# With 60 networks the standard error is about as large as that, so the difference is often one or two standard errors and may have either sign. More networks shrink the standard error
# and leave the bias, which would then stand out clearly; only a larger width brings sampling and prediction together. In 1a, terms of relative order $1/N$ per layer were dropped. In a linear Gaussian network $m_2/N_l$ alone
# makes the variance larger by about $\frac{D+1}{2N}$ of itself, 5 to 9 per cent here. In a tanh network most of it comes from elsewhere: the slopes of a layer are a sample of $N$, and the length of its signal fluctuates and with it
# all its slopes. All of these are of order $D/N$, and so is the bias.
#
# **Rubric.** 1 point for each mean compared with 1 in units of its own standard error; an excess of two or three per cent that is noticed is the same bias of order $D/N$. 1 point for the typical value with its reason (few large values carry the mean; Jensen or
# the sum of logarithms). 1 point for differences of the variances in standard errors
# from the student's own table and the distinction of bias from spread with $1/N$ as its order. A difference of less than two standard errors reported as "agrees within the error, a bias of order
# $D/N$ cannot be seen here" earns the same.
#
# **For discussion: the optional last section** (no points).
#
# *1.* The relative variances at 30 layers are $30\,\mu_2/\mu_1^2$ (Gaussian; between about 36 and 50, as $\sigma_b^2$ runs from 0.02 to 0.2), $30\,(\mu_2/\mu_1^2-1)$ (orthogonal at the same point; about 6.5 to 20) and 0.25. Expected order: near isometry, then
# orthogonal, then Gaussian. At the smaller rates that is the order of the curves. At the best rate of each kind the first two may come close to each other, above all at small $\sigma_b^2$, and Gaussian networks stay last. A comparison at
# one rate mixes how well a network is conditioned with how well that rate suits it: at the largest rate here the networks near isometry fail and would come last. Only best against best is fair, and even that depends on the number of steps.
#
# *2.* The largest $\lambda$ is about 100 to 140 (Gaussian), 19 to 55 (orthogonal) and 2.2 (near isometry, where $e$ times the relative variance would be 0.7, below the mean).
# From the spectrum at the start one expects that the networks near isometry bear the largest rates: no direction is stretched much. The opposite happens: at the rate 0.1 they fail, while the others still learn, with noise. What the spectrum does not
# know: their signals are small ($q^*\approx0.038$) and the network is nearly linear, so a step that is too large makes the signals grow, and nothing stops them before they saturate. (Followed over twenty steps at the rate 0.1, the mean square of $y$ in the last layer grows from about 0.03 to 0.9 there; in the other two kinds
# it begins near 0.4 and stays near 0.5.) The spectrum describes how a gradient passes through the layers before the first step, not how large that step may be.
#
# *3.* For example: that networks near isometry *generalise* better (only training accuracy was scored: score held-out images); that the order holds at other depths or widths (repeat at 10 and 100 layers); that the spread of $\lambda$ is the cause and not the smaller $q^*$ or the readout that goes with it (orthogonal
# against Gaussian at the *same* $q^*$ tests one; equal gains of the readout, or a rate per layer, the other); that the gap between two kinds is larger than that between seeds (two seeds are few).
# ### END SOLUTION

# %% [markdown]
# ## 4. Choose the variances (4 points; 10 minutes)
#
# A network of `mine.deep` layers has orthogonal weights and the activation $\varphi(x)=\tanh(a\,x)$ with $a$ = `mine.steepness`. Find
# $\sigma_w^2$ and $\sigma_b^2$ such that, at infinite width,
#
# - the mean of $\lambda$ is 1, to two per cent;
# - the relative variance of $\lambda$ is at most `mine.bound`;
# - signals are not smaller than they have to be: the relative variance is at least half of the bound.
#
# Every pair that does this is right. Set `sigma_w2_chosen` and `sigma_b2_chosen`. You may use `mflib` as you like; it knows tanh, and you have to find out what the steepness does.
# (Give what you computed, not rounded numbers: with many layers, two per cent are little.)
#
# Then: keep the bound and let the depth grow. The best variances follow power laws, $q^*\propto D^{p}$ and $\sigma_b^2\propto D^{r}$. Set `exponent_q` to $p$ and `exponent_sigma_b2` to $r$, by an expansion at small
# $q^*$ or from numbers at depths of 10,000 and more (to $\pm0.02$; at 1,000 layers the next term of the expansion still shows).

# %% nbgrader="solution design"
### BEGIN SOLUTION
from mflib.theory import isometry

# z' = a z obeys the equations of tanh with the variances a^2 sigma_w2 and a^2 sigma_b2, and
# phi'(z) W = tanh'(z') (a W): the Jacobian is that of the tanh network with these variances
tanh_point = isometry.critical_point("tanh", mine.deep, variance=0.9 * mine.bound)
sigma_w2_chosen = tanh_point.sigma_w2 / mine.steepness**2
sigma_b2_chosen = tanh_point.sigma_b2 / mine.steepness**2

# mu_2/mu_1^2 - 1 = 8 q^2 + ..., so q ~ D^(-1/2); sigma_b2 = q - E[phi^2]/E[phi'^2] = 4 q^3/3 + ...
exponent_q = -1 / 2
exponent_sigma_b2 = -3 / 2
### END SOLUTION

# %% nbgrader="tests design-tests 4" mflib="the point"
marks = classroom.Marks(4)
with marks.part(
    0.5,
    "Two variances above 0.",
    hint="At sigma_b2 = 0 the critical tanh network has no signal at all: q* is 0.",
):
    assert float(sigma_w2_chosen) > 0, "sigma_w2_chosen is not above 0"
    assert float(sigma_b2_chosen) > 0, "sigma_b2_chosen is not above 0"
### BEGIN HIDDEN TESTS
from mflib.theory import isometry as isometry_test
from mflib.theory import mean_field as mean_field_test

mine_graded = classroom.graded()


def recomputed_test():
    """Return the mean and the relative variance of lambda at the variances that were chosen."""
    square = mine_graded.steepness**2
    w2, b2 = square * float(sigma_w2_chosen), square * float(sigma_b2_chosen)
    at = mean_field_test.fixed_point("tanh", w2, b2)
    mean = np.exp(mine_graded.deep * np.log(float(at.chi_1)))
    return mean, float(isometry_test.relative_variance("tanh", at.q, mine_graded.deep))


with marks.part(
    1,
    "The mean of lambda is 1 to two per cent.",
    hint="Does the steepness enter both the slope and the size of the argument? How far may chi_1 be from 1 at this depth?",
):
    mean_test, _ = recomputed_test()
    classroom.close(mean_test, 1.0, atol=0.02)
with marks.part(
    0.5,
    "The relative variance of lambda is at most the bound.",
    hint="Which q* do your two variances lead to, and which one does a bound on D (mu_2/mu_1^2 - 1) ask for?",
):
    _, spread_test = recomputed_test()
    assert spread_test <= mine_graded.bound * (1 + 1e-6)
with marks.part(
    1,
    "The signals are not smaller than they have to be.",
    hint="A linear network has no variance at all, and learns nothing that a single layer could not. How large may q* be?",
):
    _, spread_test = recomputed_test()
    assert spread_test >= 0.5 * mine_graded.bound * (1 - 1e-6)
with marks.part(
    0.5,
    "The power of the depth in q*.",
    hint="What is the first term of mu_2/mu_1^2 - 1 at small q*?",
):
    classroom.close(exponent_q, -0.5, atol=0.02)
with marks.part(
    0.5,
    "The power of the depth in sigma_b2.",
    hint="On the critical line sigma_b2 = q - E[phi^2]/E[phi'^2]. Two terms of the expansion cancel.",
):
    classroom.close(exponent_sigma_b2, -1.5, atol=0.02)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 5. Images
#
# ### 5a. A delta-orthogonal kernel (3 points; 5 minutes)
#
# Write, *by hand*, a function that draws a kernel $K$ of shape (`c_out`, `c_in`, `size`, `size`), as `torch.nn.functional.conv2d` takes it, such that the
# convolution multiplies the norm of *every* image by `gain`, if the image closes on itself: off its centre $K$ is zero, and in the centre stands a semi-orthogonal matrix. Use your `orthogonal`. Raise `ValueError` where
# there is no such kernel: for an even `size` (which tap is the centre?), and for fewer outputs than inputs (why?).


# %% nbgrader="solution delta"
def delta_orthogonal(c_out, c_in, size, gain, generator):
    """Return a delta-orthogonal kernel, (c_out, c_in, size, size).

    Raises ValueError if size is even or c_out < c_in.
    """
    ### BEGIN SOLUTION
    if size % 2 == 0:
        raise ValueError("size must be odd: an even kernel has no centre")
    if c_out < c_in:
        raise ValueError("c_out must be at least c_in: some image is mapped to zero otherwise")
    kernel = np.zeros((c_out, c_in, size, size))
    kernel[:, :, size // 2, size // 2] = orthogonal(c_out, c_in, gain, generator)
    return kernel
    ### END SOLUTION


# %% nbgrader="tests delta-tests 3" mflib="noticed"
marks = classroom.Marks(3)
with marks.part(0.5, "The shape, and zeros off the centre."):
    kernel_test = np.asarray(delta_orthogonal(4, 3, 5, 1.0, np.random.default_rng(0)))
    assert kernel_test.shape == (4, 3, 5, 5), "the shape is not (c_out, c_in, size, size)"
    off_centre_test = np.ones((5, 5), dtype=bool)
    off_centre_test[2, 2] = False
    assert np.all(kernel_test[:, :, off_centre_test] == 0), "there is weight off the centre"
    assert np.any(kernel_test != 0), "the kernel is 0 everywhere"
### BEGIN HIDDEN TESTS
mine_graded = classroom.graded()
rng_test = np.random.default_rng([5, mine_graded.ring, mine_graded.n_in])


def haar_test(n_out, n_in, gain, generator):
    """Return what ``orthogonal`` should, so that a slip there is not paid twice."""
    long, short = max(n_out, n_in), min(n_out, n_in)
    q, r = np.linalg.qr(generator.standard_normal((long, short)))
    q = gain * q * np.sign(np.diagonal(r))
    return q if n_out >= n_in else q.T


def convolved_test(kernel, image):
    """Return the image (channels, n, n) after a convolution that closes on itself."""
    reach = kernel.shape[-1] // 2
    padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach)), mode="wrap")
    return torch.nn.functional.conv2d(
        torch.from_numpy(padded)[None], torch.from_numpy(np.asarray(kernel, dtype=float))
    )[0].numpy()


shapes_test = [(6, 6, 3), (7, 3, 5), (4, 4, 1)]
images_test = {shape: rng_test.standard_normal((shape[1], 9, 9)) for shape in shapes_test}
gain_for_test = float(rng_test.uniform(1.2, 1.8))


def check_norms_test():
    """Compare the squared norms over channels, pixel by pixel."""
    for shape in shapes_test:
        found = convolved_test(
            delta_orthogonal(*shape, 1.0, np.random.default_rng(7)), images_test[shape]
        )
        classroom.close(
            np.sum(found**2, axis=0), np.sum(images_test[shape] ** 2, axis=0), rtol=1e-9
        )


def check_gain_test():
    """Compare the norms of whole images."""
    for shape in shapes_test:
        found = convolved_test(
            delta_orthogonal(*shape, gain_for_test, np.random.default_rng(7)), images_test[shape]
        )
        classroom.close(
            np.sqrt(np.sum(found**2)),
            gain_for_test * np.sqrt(np.sum(images_test[shape] ** 2)),
            rtol=1e-9,
        )


def check_draws_test():
    """Draw twice from one generator, and again from another of the same seed."""
    generator = np.random.default_rng(11)
    first = np.asarray(delta_orthogonal(4, 4, 3, 1.0, generator))
    second = np.asarray(delta_orthogonal(4, 4, 3, 1.0, generator))
    again = delta_orthogonal(4, 4, 3, 1.0, np.random.default_rng(11))
    assert np.abs(first - second).max() > 1e-3
    classroom.close(again, first, atol=1e-12)


def check_refusals_test():
    """Ask for kernels that there are not."""
    # a function that always raises ValueError is no answer
    assert np.shape(delta_orthogonal(3, 3, 3, 1.0, np.random.default_rng(1))) == (3, 3, 3, 3)
    for shape in ((4, 4, 2), (4, 4, 6), (3, 5, 3)):
        raised = False
        try:
            delta_orthogonal(*shape, 1.0, np.random.default_rng(1))
        except ValueError:
            raised = True
        assert raised


# beside a right `orthogonal`, or else beside the student's own
with marks.part(
    1,
    "With gain 1 the norm of random images is kept, pixel by pixel.",
    hint="In the centre there must be a matrix with K'K = 1. Is it c_out by c_in?",
    by_hand=True,
):
    classroom.beside(check_norms_test, orthogonal=haar_test)
with marks.part(
    0.5,
    "The gain multiplies the norm.",
    hint="The gain is that of norms, not of their squares.",
    by_hand=True,
):
    classroom.beside(check_gain_test, orthogonal=haar_test)
with marks.part(
    0.5,
    "Every call draws a new kernel, from the given generator alone.",
    hint="Two calls with one generator differ; two generators of the same seed give the same.",
    by_hand=True,
):
    classroom.beside(check_draws_test, orthogonal=haar_test)
with marks.part(
    0.5,
    "ValueError where there is no such kernel.",
    hint="Raise ValueError for an even size, and for fewer outputs than inputs.",
):
    classroom.beside(check_refusals_test, orthogonal=haar_test)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ### 5b. What other kernels lose (3 points; 8 minutes)
#
# A deviation of the covariance between two places of a ring of $n$ places is a sum of Fourier modes, $\kappa=0,\dots,n-1$. Write, *by hand*, a function that returns
# the depth scale $\xi_\kappa$ of each of them, for any variance vector $v$ (an odd number of taps, the middle one is $\beta=0$, the sum is 1; as in the chapter on convolutional networks, $v$ is the variances of the taps here and no relative variance) and any
# $\chi\le1$, which stands for the chapter's $\chi_{c^*}$: infinite where the mode never dies, 0 where one layer erases it. Your kernel has three taps with the variances
# $\big((1-c)\,l,\; c,\; (1-c)(1-l)\big)$, $c$ = `mine.centre`, $l$ = `mine.left`.
#
# Set `slowest` to the largest *finite* depth scale on your ring (`mine.ring` places) with your kernel on the critical line, where $\chi_{c^*}=1$, by your own function.


# %% nbgrader="solution modes"
def mode_depth_scales(chi, v, n):
    """Return the depth scales of the modes kappa = 0, ..., n - 1 of covariances on a ring, (n,).

    chi: chi_{c*}, the factor of a deviation without the kernel, 0 < chi <= 1;
    v: variances of the taps, an odd number of them.
    """
    ### BEGIN SOLUTION
    v = np.asarray(v, dtype=float)
    beta = np.arange(v.size) - v.size // 2
    phases = np.exp(2j * np.pi * np.outer(np.arange(n), beta) / n)
    factor = chi * np.abs(phases @ v)
    # rounding must not turn a mode that never dies, or dies at once, into another
    factor = np.where(factor > 1 - 1e-13, 1.0, np.where(factor < 1e-13, 0.0, factor))
    scales = np.zeros(n)
    scales[factor == 1] = np.inf
    between = (factor > 0) & (factor < 1)
    scales[between] = -1 / np.log(factor[between])
    return scales
    ### END SOLUTION


### BEGIN SOLUTION
my_kernel = np.array(
    [
        (1 - mine.centre) * mine.left,
        mine.centre,
        (1 - mine.centre) * (1 - mine.left),
    ]
)
scales = mode_depth_scales(1.0, my_kernel, mine.ring)
slowest = scales[np.isfinite(scales)].max()
### END SOLUTION

# %% nbgrader="tests modes-tests 3" mflib="noticed"
marks = classroom.Marks(3)
with marks.part(0.5, "A delta kernel keeps every mode on the critical line."):
    kept_modes_test = np.abs(np.asarray(mode_depth_scales(1.0, [0.0, 1.0, 0.0], 6), dtype=float))
    assert kept_modes_test.shape == (6,), "the shape is not (n,)"
    assert np.all(kept_modes_test > 1e12), "some mode has a finite depth scale"
### BEGIN HIDDEN TESTS
from mflib.theory import convolution as convolution_test

mine_graded = classroom.graded()
rng_test = np.random.default_rng([6, mine_graded.ring, mine_graded.deep])
chi_for_test = float(rng_test.uniform(0.7, 0.95))
symmetric_test = [
    np.array([(1 - c) / 2, c, (1 - c) / 2]) for c in rng_test.uniform(0.35, 0.45, size=2)
]
lopsided_test = [rng_test.dirichlet(np.ones(taps)) for taps in (3, 5)]
rates_test = {
    (name, k, n): -np.log(chi_for_test * np.abs(convolution_test.mode_eigenvalues(v, n)))
    for name, vectors in (("symmetric", symmetric_test), ("lopsided", lopsided_test))
    for k, v in enumerate(vectors)
    for n in (7, mine_graded.ring)
}
with marks.part(
    0.5,
    "Symmetric kernels off the critical line.",
    hint="The factor of a mode in one layer is chi times the Fourier transform of v. A negative factor has a depth scale too.",
    by_hand=True,
):
    for (name_test, k_test, n_test), right_test in rates_test.items():
        if name_test == "symmetric":
            found_test = np.asarray(
                mode_depth_scales(chi_for_test, symmetric_test[k_test], n_test), dtype=float
            )
            classroom.close(1 / found_test, right_test, rtol=1e-7, atol=1e-9)
with marks.part(
    1,
    "Lopsided kernels of three and five taps.",
    hint="The Fourier transform is complex, and the pattern travels. What does the modulus of its factor decide, what its phase?",
    by_hand=True,
):
    for (name_test, k_test, n_test), right_test in rates_test.items():
        if name_test == "lopsided":
            found_test = np.asarray(
                mode_depth_scales(chi_for_test, lopsided_test[k_test], n_test), dtype=float
            )
            classroom.close(1 / found_test, right_test, rtol=1e-7, atol=1e-9)
with marks.part(
    0.5,
    "Uniform kernels on the critical line: the mode 0 lives for ever, others may die at once.",
    hint="With three taps on a ring of 6 places, which mode sums to zero over the kernel?",
    by_hand=True,
):
    found_test = np.abs(np.asarray(mode_depth_scales(1.0, np.full(3, 1 / 3), 6), dtype=float))
    assert found_test.shape == (6,)
    assert found_test[0] > 1e12
    # rounding of 1e-17 in the factor is 0.03 layers
    classroom.close(found_test[[2, 4]], [0.0, 0.0], atol=0.05)
    classroom.close(found_test[[1, 3, 5]], -1 / np.log([2 / 3, 1 / 3, 2 / 3]), rtol=1e-9)
c_test, left_test = mine_graded.centre, mine_graded.left
own_kernel_test = [(1 - c_test) * left_test, c_test, (1 - c_test) * (1 - left_test)]
# none of its factors is 0
even_kernel_test = [0.2, 0.6, 0.2]
even_rates_test = -np.log(
    np.abs(convolution_test.mode_eigenvalues(even_kernel_test, mine_graded.ring)[1:])
)
with marks.part(
    0.5,
    "The slowest mode that dies, on your ring with your kernel, as your function has it.",
    hint="On the critical line chi is 1. Leave out what never dies, and compare with what your own function returns.",
    by_hand=True,
):
    # what goes wrong for lopsided kernels alone was paid above
    found_test = np.asarray(mode_depth_scales(1.0, even_kernel_test, mine_graded.ring), dtype=float)
    classroom.close(1 / found_test[1:], even_rates_test, rtol=1e-7, atol=1e-9)
    own_test = np.asarray(mode_depth_scales(1.0, own_kernel_test, mine_graded.ring), dtype=float)
    # a mode that never dies has a large number where rounding got in the way
    classroom.close(slowest, own_test[own_test < 1e9].max(), rtol=1e-4)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 6. Optional: does it matter to learning? (no points)
#
# The cell below trains three kinds of critical tanh networks of 30 layers and 64 neurons on 1,500 small images of digits, by plain
# stochastic gradient descent, each at four learning rates and with two seeds. One kind has Gaussian weights at your $\sigma_b^2$, one
# orthogonal weights at the same point, one orthogonal weights at the $q^*$ at which the relative variance of $\lambda$ is $\frac14$. Inputs are scaled so that each network
# starts at its $q^*$, and readouts so that all logits start with variance 1.
#
# **Before you look at the curves**, write down the relative variance of $\lambda$ in each of the three, by your own functions, and the order in which you expect them to
# learn. The cell takes some seconds.

# %%
from sklearn.datasets import load_digits

from mflib.experiment import initialise
from mflib.theory import isometry

torch.set_num_threads(1)
pixels, labels = load_digits(return_X_y=True)
pixels = pixels[:1500] - pixels[:1500].mean(axis=0)
pixels /= np.sqrt(np.mean(pixels**2, axis=1, keepdims=True))
pixels = torch.tensor(pixels, dtype=torch.float32)
labels = torch.tensor(labels[:1500])
layers_trained, steps, every = 30, 60, 10


def train(scheme, sigma_w2, sigma_b2, q_star, learning_rate, seed):
    """Return the training accuracy after every ten steps."""
    generator = torch.Generator().manual_seed(seed)
    parts = [m for _ in range(layers_trained) for m in (torch.nn.Linear(64, 64), torch.nn.Tanh())]
    network = torch.nn.Sequential(*parts)
    scheme(network, sigma_w2=sigma_w2, sigma_b2=sigma_b2, generator=generator)
    mean_square = (q_star - sigma_b2) / sigma_w2  # of y, at the fixed point
    readout = torch.nn.Linear(64, 10)
    initialise.gaussian_(readout, sigma_w2=1 / mean_square, sigma_b2=0.0, generator=generator)
    network.append(readout)
    x = pixels * mean_square**0.5
    optimiser = torch.optim.SGD(network.parameters(), lr=learning_rate)
    accuracy = []
    for step in range(1, steps + 1):
        batch = torch.randint(0, len(x), (64,), generator=generator)
        loss = torch.nn.functional.cross_entropy(network(x[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % every == 0:
            with torch.no_grad():
                right = network(x).argmax(dim=1) == labels
            accuracy.append(float(right.float().mean()))
    return accuracy


isometric = isometry.critical_point("tanh", layers_trained, variance=0.25)
own_point = (sigma_w2, mine.sigma_b2, q_star)
kinds = {
    "Gaussian, own point": (initialise.gaussian_, *own_point),
    "orthogonal, own point": (initialise.orthogonal_, *own_point),
    "orthogonal, near isometry": (
        initialise.orthogonal_,
        isometric.sigma_w2,
        isometric.sigma_b2,
        isometric.q,
    ),
}
rates = [3e-3, 1e-2, 3e-2, 1e-1]
curves = {
    (kind, rate): np.array([train(*settings, rate, seed) for seed in (0, 1)])
    for kind, settings in kinds.items()
    for rate in rates
}
fig, axes = plt.subplots(1, len(rates), figsize=(12, 3), sharey=True)
for axis, rate in zip(axes, rates, strict=True):
    for k, kind in enumerate(kinds):
        for curve in curves[kind, rate]:
            axis.plot(np.arange(every, steps + 1, every), curve, color=f"C{k}", label=kind)
    axis.set(xlabel="step", title=f"learning rate {rate:g}")
axes[0].set_ylabel("training accuracy")
handles, names = axes[0].get_legend_handles_labels()
fig.legend(handles[::2], names[::2], ncols=3, loc="upper center", bbox_to_anchor=(0.5, 0.0))
plt.show()

# %% [markdown]
# Some questions to discuss:
#
# 1. Your prediction, and whether the *order* came out as predicted, at the best rate of each kind and at one rate for all. Does it matter which of the two comparisons one makes?
# 2. The largest $\lambda$ of a critical network is about $e$ times its relative variance when that is large; near isometry it is not, and `isometry.largest` gives its logarithm. Which kind would you expect to bear the largest learning rate? Does it?
# 3. Name one conclusion that these curves do *not* support, and what you would run to support it.
