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
# # What a layer still knows: decoders, floors and two ways to lose an image
#
# After this assignment you can
#
# - derive the best linear decoder of noisy activations, and compute it so that rounding does not decide what it reads;
# - measure how much of an image each layer of a random network still holds, with an error bar over networks;
# - define a cutoff depth with its ends, and say what a censored value is;
# - expand a relative entropy in small errors, and test an expansion by its order of convergence;
# - tell loss by shrinking from loss by scrambling, and say why the depth at which a network knows most is not the critical point.
#
# **Time** 90 minutes. **Points** 41: 28 are given automatically, 13 by hand for what you write and draw.
# The material is the chapter *Reconstruction entropy*, up to and including "How entropy grows with small errors"; $\chi_1$ and the critical line come from
# *Fully connected networks: order, chaos and depth*.
#
# **Allowed**: numpy, scipy, matplotlib, the book; of scikit-learn the digits and no estimators (`Ridge` and its like). Where a question says *by hand*, write your own code: the grading notices calls into `mflib` there and gives nothing for them. The question on
# theory asks you to call it. Most questions have numbers of your own. The whole notebook runs in about 10 seconds.

# %%
from mflib import classroom

classroom.token("")  # between the quotes: the token that your teacher gave you

# %% nbgrader="locked numbers"
import itertools

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

threadpool_limits(1)  # matrices are small here: on a busy machine threads only wait for each other

mine = classroom.begin(
    "reconstruction-entropy",
    sigma_b2=classroom.between(0.05, 0.15, step=0.01),
    width=classroom.between(40, 56, step=4),
    sigma_w2_ordered=classroom.between(0.6, 0.8, step=0.02),
    sigma_w2_chaotic=classroom.between(3.4, 4.4, step=0.1),
    floor=classroom.one_of(0.08, 0.1, 0.12, 0.15),
    threshold=classroom.between(0.44, 0.56, step=0.02),
    kl_mean=classroom.between(0.3, 1.2, step=0.1),
    kl_log_variance=classroom.between(-1.5, -0.5, step=0.1),
)

DEPTH = 30  # hidden layers of every network here
FLOORS = (mine.floor, mine.floor / 10)  # a coarse one and a fine one
digits = load_digits().data / 16  # 8 × 8 pixels in [0, 1]
shuffled = np.random.default_rng(0).permutation(len(digits))
fitted = digits[shuffled[:400]]  # (400, 64): decoders are fitted on these
held = digits[shuffled[400:600]]  # (200, 64): and judged on these
mine

# %% nbgrader="tests token 1" mflib="no help"
marks = classroom.Marks(1)
with marks.part(1, "The token is that of the id under which you hand in."):
    classroom.check_token()
marks.total()

# %% [markdown]
# ## 1. A decoder with a floor (5 points, 15 minutes)
#
# Chapter: "Decoders without training". Let $x\in\mathbb R^d$ be an image and $z\in\mathbb R^N$ the activations of some layer, with means $\bar x,\bar z$ over images and covariances
# $C_{xz}=\langle(x-\bar x)(z-\bar z)^\top\rangle$, $C_{zz}$, $C_{xx}$. (We decode the image *directly* from every layer; the chapter chains decoders of single layers.)
#
# (a) Activations are known to $\pm\tau$ only: a decoder $\hat x=Vz+a$ is to do best on $z+\tau\xi$, $\xi\sim\mathcal N(0,1_N)$ independent of everything. Minimise
# $\langle\|x-V(z+\tau\xi)-a\|^2\rangle$ over $V$ and $a$. Where does the floor enter, and why does it not enter for the mean?
#
# (b) Take $d=N=1$, $\operatorname{var}x=1$ and a layer that only shrinks, $z=sx$. Apply the decoder of (a) to the *exact* $z$. Which share of the variance,
# $1-\langle(x-\hat x)^2\rangle/\operatorname{var}x$, is explained, as a function of $s/\tau$? What is it at $s=\tau$, and how does it go for $s\ll\tau$?
#
# (c) Let $\sigma_i^2=\langle(x_i-\hat x_i)^2\rangle$ be the mean square errors of reconstructions, pixel by pixel, and $S_{\rm err}=\sum_i\tfrac12\ln(2\pi e\,\sigma_i^2)$. Show that the conditional differential entropy
# obeys $h(x\,|\,z)\le S_{\rm err}$, one inequality at a time. A chaotic network whose layers are as wide as the image is a map that is one to one, so that nothing is lost. (Yours, of width below 64, lose some
# directions in the first layer, at any $\sigma_w^2$.) What, then, does a large $S_{\rm err}$ tell of it, and what can it not tell?

# %% [markdown] nbgrader="essay ridge-derivation 5"
# ### BEGIN SOLUTION
# (a) The derivative with respect to $a$ gives $a=\bar x-V\bar z$: the noise has mean zero and does not enter. With that,
# $\langle\|x-V(z+\tau\xi)-a\|^2\rangle=\operatorname{tr}\bigl[C_{xx}-2VC_{zx}+V(C_{zz}+\tau^2)V^\top\bigr]$; mixed terms vanish because $\xi$ is independent, and $\langle\xi\xi^\top\rangle=1$.
# The derivative with respect to $V$ gives $V=C_{xz}(C_{zz}+\tau^2)^{-1}$. The second derivative is $2(C_{zz}+\tau^2)>0$, so it is the minimum, and it is unique for $\tau>0$, even where $C_{zz}$ is singular.
#
# (b) $V=s/(s^2+\tau^2)$, so $\hat x-\bar x=g\,(x-\bar x)$ with $g=s^2/(s^2+\tau^2)$. The share is $1-(1-g)^2=g(2-g)$: $3/4$ at $s=\tau$ and $2(s/\tau)^2$ for $s\ll\tau$.
# So a direction is read while $s\gg\tau$ and lost, as a power, below. (Judged by correlation it would stay at 1.)
#
# (c) Given $z$, $\hat x(z)$ is a constant and shifts no entropy: $h(x|z)=h(x-\hat x\,|\,z)$. Conditioning only lowers entropy: $\le h(x-\hat x)$. Pixels taken singly have at least the joint entropy:
# $\le\sum_i h(x_i-\hat x_i)$. At a given mean square the centred Gaussian has the most: $\le\sum_i\frac12\ln 2\pi e\sigma_i^2$. So $S_{\rm err}$ is an upper bound of what $z$ leaves open. It is
# small only if much is known. Large, it says that *this* reader, linear and with this floor, finds little; it cannot say that the information is gone. In the chaotic network of full width nothing is gone: $z$ fixes $x$, so that
# $h(x|z)=-\infty$, and the bound is infinitely loose; another decoder could read the image. (Below width 64 the first layer projects: what it drops is gone for every decoder, in both phases alike, and before any chaos.)
#
# **Rubric.** (a) 2: $a$, with the reason (0.5); the quadratic form with $\tau^2$ from $\langle\xi\xi^\top\rangle$ (1); the solution and why it is the minimum (0.5).
# (b) 1: $g$ and $g(2-g)$ (0.5); both limits (0.5). (c) 2: the inequalities with a reason each (1); bound from above, so large does not mean lost (1).
# ### END SOLUTION

# %% [markdown]
# ## 2. The same in floating point, by hand (6 points, 12 minutes)
#
# Write `ridge_decoder`. Covariances are means over the images given (divide by $n$, not by $n-1$). `noise` may be 0; the decoder is then the limit $\tau\to0^+$, which exists even where neurons
# repeat each other or outnumber the images.
#
# Floors are small, and squares of small numbers are smaller: with $\tau=10^{-8}$ beside activations of order 1, $C_{zz}+\tau^2$ is $C_{zz}$ to rounding. The decoder has to be right there, too
# (predictions on given activations to $10^{-4}$ of their size). Which factorisation sees $s$ where $C_{zz}$ has $s^2$? And what has to happen before anything is squared or factorised, if neurons have large means?


# %% nbgrader="solution ridge-decoder"
def ridge_decoder(h, x, noise):
    """Return V (d, N) and a (d,) of the decoder x ≈ V h + a with a noise floor.

    ``h`` (n, N): activations, one row per image; ``x`` (n, d): the images; ``noise``: τ ≥ 0.
    """
    ### BEGIN SOLUTION
    n = len(h)
    h_mean, x_mean = h.mean(0), x.mean(0)
    u, s, vt = np.linalg.svd(h - h_mean, full_matrices=False)
    kept = s > s[0] * max(h.shape) * np.finfo(float).eps
    gain = np.zeros_like(s)
    gain[kept] = s[kept] / (s[kept] ** 2 + n * noise**2)
    V = ((x - x_mean).T @ (u * gain)) @ vt
    return V, x_mean - V @ h_mean
    ### END SOLUTION


# %% nbgrader="tests ridge-decoder-tests 6" mflib="noticed"
marks = classroom.Marks(6)
from unittest import mock as _mock

from sklearn.base import BaseEstimator as _BaseEstimator
from sklearn.linear_model import _ridge


def _refused(*arguments, **named):
    """Stand in for what scikit-learn calls before it fits."""
    raise AssertionError("This calls an estimator of scikit-learn: write your own decoder.")


def _own_decoder(h, x, noise):
    """Call your decoder while scikit-learn fits nothing."""
    with (
        # what every estimator calls, and what the function without an estimator does
        _mock.patch.object(_BaseEstimator, "_validate_params", _refused, create=True),
        _mock.patch.object(_ridge, "_ridge_regression", _refused, create=True),
    ):
        return ridge_decoder(h, x, noise)


rng_try = np.random.default_rng(1)
h_try, x_try = rng_try.normal(size=(40, 5)) + 3, rng_try.normal(size=(40, 3)) + 1
with marks.part(
    1,
    "The mean activations are decoded to the mean image, with V and a of the right shapes.",
    hint="No estimator of scikit-learn may be called here.",
    by_hand=True,
):
    V_try, a_try = _own_decoder(h_try, x_try, 0.3)
    classroom.close(np.asarray(V_try) * 0, np.zeros((3, 5)))
    classroom.close(V_try @ h_try.mean(0) + a_try, x_try.mean(0), atol=1e-9)
### BEGIN HIDDEN TESTS
import numpy as np

_mine_graded = classroom.graded()
_rng = np.random.default_rng(round(1000 * _mine_graded.sigma_b2) + _mine_graded.width)
_n_images = _mine_graded.width + 20
_h_test = _rng.normal(size=(_n_images, 7)) @ _rng.normal(size=(7, 7)) + _rng.normal(size=7)
_x_test = _h_test[:, :4] ** 2 + _rng.normal(size=(_n_images, 4))


def _right_decoder(h, x, noise):
    """Solve the normal equations of well-conditioned activations."""
    dh, dx = h - h.mean(0), x - x.mean(0)
    V = np.linalg.solve(dh.T @ dh / len(h) + noise**2 * np.eye(h.shape[1]), dh.T @ dx / len(h)).T
    return V, x.mean(0) - V @ h.mean(0)


with marks.part(
    1,
    "V and a are those of the derivation at a floor of the size of the activations.",
    hint="Is it the square of the floor, added to a covariance that is a mean over images?",
    by_hand=True,
):
    _V_right, _a_right = _right_decoder(_h_test, _x_test, 0.7)
    _V_test, _a_test = _own_decoder(_h_test.copy(), _x_test.copy(), 0.7)
    classroom.close(_V_test, _V_right, rtol=1e-7, atol=1e-9)
    classroom.close(_a_test, _a_right, rtol=1e-7, atol=1e-9)
with marks.part(
    1,
    "Large means of neurons do not spoil it.",
    hint="Take the means off before anything is multiplied.",
    by_hand=True,
):
    # against the notebook's own decoder: another slip was paid above
    _V_near, _a_near = _own_decoder(_h_test.copy(), _x_test.copy(), 0.3)
    _near = _h_test @ _V_near.T + _a_near
    if not np.ptp(_near) > 1e-3:
        classroom.close(_near, _x_test)
    _lifted = _h_test + 1e6
    _V_test, _a_test = _own_decoder(_lifted.copy(), _x_test.copy(), 0.3)
    classroom.close(_lifted @ _V_test.T + _a_test, _near, atol=1e-6 * np.abs(_x_test).max())
with marks.part(
    1,
    "Neurons that repeat each other, without a floor: the smallest V of all best ones.",
    hint="The limit of a small floor shares the weight between equal neurons. Directions whose size is rounding are no directions.",
    by_hand=True,
):
    _twice = np.hstack([_h_test, _h_test])
    _V_right, _a_right = _right_decoder(_h_test, _x_test, 0.0)
    _V_test, _a_test = _own_decoder(_twice, _x_test.copy(), 0.0)
    classroom.close(_V_test, np.hstack([_V_right, _V_right]) / 2, rtol=1e-6, atol=1e-8)
with marks.part(
    2,
    "A floor of 1e-8 beside activations of order 1 cuts where it should.",
    hint="A covariance holds the squares of the sizes: 1e-16 beside 1 is rounding. Factorise the activations, not their covariance.",
    by_hand=True,
):
    # Activations whose singular values are known, so that the right answer is.
    _basis = np.linalg.qr(np.hstack([np.ones((_n_images, 1)), _rng.normal(size=(_n_images, 9))]))[
        0
    ][:, 1:]
    _turned = np.linalg.qr(_rng.normal(size=(9, 9)))[0]
    _sizes = np.geomspace(1, 1e-8, 9)
    _shrunk = np.sqrt(_n_images) * (_basis * _sizes) @ _turned.T
    _wanted = _basis @ _rng.normal(size=(9, 4)) * np.sqrt(_n_images)
    _tau = 1e-8
    # What the notebook's own decoder takes for the square of this floor: a single neuron tells,
    # at any factorisation. A wrong factor was paid above; one that is no small floor is not asked.
    _one = np.sqrt(_n_images) * _tau * _basis[:, :1]
    _per_size = np.sum(_own_decoder(_one, _one / _tau, _tau)[0])
    _square = _tau / _per_size - _tau**2
    if not 1e-20 < _square < 1e-14:
        _square = _tau**2
    _kept_part = _basis * (_sizes**2 / (_sizes**2 + _square)) @ (_basis.T @ _wanted)
    _V_test, _a_test = _own_decoder(_shrunk, _wanted.copy(), _tau)
    classroom.close(_shrunk @ _V_test.T + _a_test, _kept_part, atol=1e-4 * np.abs(_wanted).max())
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 3. How much of an image is left (7 points, 17 minutes)
#
# Chapter: "Two entropies". Send the digits through random tanh networks, $z^0=x$, $z^\ell=\tanh(W^\ell z^{\ell-1}+b^\ell)$, and decode the image directly from every layer. Score by the **explained variance** on images that the decoder has not seen,
#
# $$R^2=1-\frac{\sum\|x-\hat x\|^2}{\sum\|x-\bar x\|^2},$$
#
# both sums over the held-out images, $\bar x$ the mean of the images that the decoder was *fitted* on: the best guess of one who knows nothing of the layer.
#
# 1. Write the four functions below, by hand. Entries of $W^\ell$ and $b^\ell$ are Gaussian as in mean-field theory.
# 2. Fill `known`: for your ordered network (`mine.sigma_w2_ordered`) and for your chaotic one (`mine.sigma_w2_chaotic`), both with `mine.sigma_b2`, `mine.width` and `DEPTH` layers, the curves of
#    at least 10 networks at both `FLOORS`. Use the same networks at both floors. Different networks differ; the images are the same for all.
# 3. Fill `error`: the standard error of the mean curve over networks.
#
# What you should see: one of the two networks hardly minds the floor (in $R^2$).


# %% nbgrader="solution curves"
def draw_network(rng, n_in, width, depth, sigma_w2, sigma_b2):
    """Return a random network as a list of its layers (W, b), W (width, n_in or width), b (width,).

    ``rng``: a numpy Generator, from which all random numbers come.
    """
    ### BEGIN SOLUTION
    sizes = [n_in] + [width] * depth
    return [
        (
            rng.normal(size=(n, m)) * np.sqrt(sigma_w2 / m),
            rng.normal(size=n) * np.sqrt(sigma_b2),
        )
        for m, n in itertools.pairwise(sizes)
    ]
    ### END SOLUTION


def activations(x, network):
    """Return the list z^1, …, z^L of activations of images ``x`` (n, d), each (n, width)."""
    ### BEGIN SOLUTION
    states = []
    for W, b in network:
        x = np.tanh(x @ W.T + b)
        states.append(x)
    return states
    ### END SOLUTION


def explained_variance(x, x_hat, mean):
    """Return R² of reconstructions ``x_hat`` (n, d) of ``x`` (n, d), a number; ``mean`` (d,)."""
    ### BEGIN SOLUTION
    return 1 - ((x - x_hat) ** 2).sum() / ((x - mean) ** 2).sum()
    ### END SOLUTION


def curve(network, noise):
    """Return R² (L,) on ``held`` of decoders of every layer fitted on ``fitted``."""
    ### BEGIN SOLUTION
    values = []
    for z_fit, z_held in zip(activations(fitted, network), activations(held, network), strict=True):
        V, a = ridge_decoder(z_fit, fitted, noise)
        values.append(explained_variance(held, z_held @ V.T + a, fitted.mean(0)))
    return np.array(values)
    ### END SOLUTION


known = {}  # "ordered", "chaotic": (2 floors, networks, DEPTH)
error = {}  # "ordered", "chaotic": (2 floors, DEPTH)
### BEGIN SOLUTION
for phase, sigma_w2 in (
    ("ordered", mine.sigma_w2_ordered),
    ("chaotic", mine.sigma_w2_chaotic),
):
    drawn = [
        draw_network(np.random.default_rng(seed), 64, mine.width, DEPTH, sigma_w2, mine.sigma_b2)
        for seed in range(10)
    ]
    known[phase] = np.array([[curve(net, tau) for net in drawn] for tau in FLOORS])
    error[phase] = known[phase].std(1, ddof=1) / np.sqrt(len(drawn))
### END SOLUTION

# %% nbgrader="tests curves-tests 7" mflib="noticed"
marks = classroom.Marks(7)
with marks.part(
    1,
    "Activations of a given network are right, and as many as it has layers.",
    hint="The nonlinearity comes after the bias, and the first layer sees the images as they are.",
    by_hand=True,
):
    rng_try = np.random.default_rng(2)
    layers_try = [
        (rng_try.normal(size=(6, 64)) / 8, rng_try.normal(size=6)),
        (rng_try.normal(size=(6, 6)), rng_try.normal(size=6)),
    ]
    first_try, second_try = activations(held[:5].copy(), layers_try)
    z_try = np.tanh(np.einsum("ij,nj->ni", layers_try[0][0], held[:5]) + layers_try[0][1])
    classroom.close(first_try, z_try, atol=1e-10)
    z_try = np.tanh(np.einsum("ij,nj->ni", layers_try[1][0], z_try) + layers_try[1][1])
    classroom.close(second_try, z_try, atol=1e-10)
### BEGIN HIDDEN TESTS
import numpy as np
from scipy import stats as _stats
from sklearn.datasets import load_digits as _load_digits

_mine_graded = classroom.graded()
_rng = np.random.default_rng(round(1000 * _mine_graded.sigma_b2) + _mine_graded.width)
_data = _load_digits().data / 16
_places = np.random.default_rng(0).permutation(len(_data))
_x_fit, _x_held = _data[_places[:400]], _data[_places[400:600]]
_floors_graded = (_mine_graded.floor, _mine_graded.floor / 10)


def _right_curves(_rng, sigma_w2, networks, floors, depth):
    """Return R² (floors, networks, depth) by normal equations: these floors are far above rounding."""
    n, width, b2 = len(_x_fit), _mine_graded.width, _mine_graded.sigma_b2
    z = np.broadcast_to(np.concatenate([_x_fit, _x_held]), (networks, 600, 64))
    _dx, dx_held = _x_fit - _x_fit.mean(0), _x_held - _x_fit.mean(0)
    _found = np.empty((len(floors), networks, depth))
    for layer in range(depth):
        _n_in = z.shape[2]
        weight = _rng.normal(size=(networks, _n_in, width)) * np.sqrt(sigma_w2 / _n_in)
        bias = _rng.normal(size=(networks, 1, width)) * np.sqrt(b2)
        z = np.tanh(z @ weight + bias)
        _dz = z - z[:, :n].mean(1, keepdims=True)
        gram = _dz[:, :n].mT @ _dz[:, :n] / n
        cross = _dz[:, :n].mT @ _dx / n
        for k, floor in enumerate(floors):
            _decoder = np.linalg.solve(gram + floor**2 * np.eye(width), cross)
            missed = ((dx_held - _dz[:, n:] @ _decoder) ** 2).sum((1, 2))
            _found[k, :, layer] = 1 - missed / (dx_held**2).sum()
    return _found


_right_known = {
    "ordered": _right_curves(_rng, _mine_graded.sigma_w2_ordered, 16, _floors_graded, 30),
    "chaotic": _right_curves(_rng, _mine_graded.sigma_w2_chaotic, 16, _floors_graded, 30),
}


def _close_in_mean(_found, _right):
    """Compare mean curves with the sampling error of both."""
    _found = np.asarray(_found, dtype=float)
    if _found.ndim != 3 or _found.shape[1] < 10:
        classroom.close(_found, np.zeros((2, 10, 30)))
    spread = _right.std(1, ddof=1) * np.sqrt(1 / _found.shape[1] + 1 / _right.shape[1])
    # six and not five: the deviation itself comes from 16 networks
    classroom.close(_found.mean(1), _right.mean(1), atol=0.003, standard_error=spread, sigmas=6)


with marks.part(
    1,
    "Weights and biases have the variances of mean-field theory, in the first layer too.",
    hint="The variance of a weight is divided by the number of inputs of its own layer. Variances are not deviations.",
    by_hand=True,
):
    _net = draw_network(_rng, 400, 300, 3, 2.3, 0.4)
    classroom.same(len(_net), 3)
    for (_W, _b), _n_in in zip(_net, (400, 300, 300), strict=True):
        classroom.close(np.asarray(_W) * 0, np.zeros((300, _n_in)))
        classroom.close(np.asarray(_b) * 0, np.zeros(300))
        # a mean of n squares of Gaussians has a relative deviation of √(2/n)
        classroom.close(
            np.mean(_W**2) * _n_in, 2.3, standard_error=2.3 * np.sqrt(2 / (300 * _n_in))
        )
        classroom.close(np.mean(_b**2), 0.4, standard_error=0.4 * np.sqrt(2 / 300))
    _again = draw_network(_rng, 400, 300, 3, 2.3, 0.4)
    assert not np.allclose(_net[0][0], _again[0][0])
with marks.part(
    1,
    "The explained variance is 1 for the image, 0 for the mean given, and right between.",
    hint="The mean is the one that is given, not that of the images to be explained, and sums run over all images and pixels before the division.",
    by_hand=True,
):
    _some, _guess = _rng.normal(size=(30, 5)) * np.arange(1, 6), _rng.normal(size=5)
    _noisy = _some + 0.3 * _rng.normal(size=(30, 5))
    _right = 1 - np.sum((_some - _noisy) ** 2) / np.sum((_some - _guess) ** 2)
    classroom.close(explained_variance(_some, _noisy, _guess), _right, atol=1e-10)
    classroom.close(explained_variance(_some, _some, _guess), 1.0, atol=1e-12)
with marks.part(
    1,
    "The curve of a given network is right, or follows from your own functions.",
    hint="Fit on the one set, judge on the other; one decoder per layer, straight to the image.",
):
    _net = [
        (_rng.normal(size=(30, m)) * np.sqrt(2.0 / m), 0.3 * _rng.normal(size=30))
        for m in (64, 30, 30)
    ]
    _z_fit, _z_held, _right = _x_fit, _x_held, []
    for _W, _b in _net:
        _z_fit, _z_held = np.tanh(_z_fit @ _W.T + _b), np.tanh(_z_held @ _W.T + _b)
        _dz, _dx = _z_fit - _z_fit.mean(0), _x_fit - _x_fit.mean(0)
        _decoder = np.linalg.solve(_dz.T @ _dz / 400 + 0.05**2 * np.eye(30), _dz.T @ _dx / 400)
        _back = _x_fit.mean(0) + (_z_held - _z_fit.mean(0)) @ _decoder
        _right.append(1 - np.sum((_x_held - _back) ** 2) / np.sum((_x_held - _x_fit.mean(0)) ** 2))
    _found = curve(_net, 0.05)
    try:
        classroom.close(_found, np.array(_right), atol=1e-6)
    except AssertionError:
        # a slip above was paid there
        _own = []
        for _z_fit, _z_held in zip(
            activations(_x_fit, _net), activations(_x_held, _net), strict=True
        ):
            _V, _a = ridge_decoder(_z_fit, _x_fit, 0.05)
            _own.append(explained_variance(_x_held, _z_held @ _V.T + _a, _x_fit.mean(0)))
        if not np.ptp(_own) > 0.01:
            raise
        classroom.close(_found, np.array(_own), atol=1e-6)
with marks.part(
    2,
    "The mean curves of both phases agree with a recomputation within the sampling error, or with your own functions on fresh networks.",
    hint="At least 10 different networks in each phase, (floors, networks, layers), the coarse floor first.",
):
    try:
        for _phase_name in ("ordered", "chaotic"):
            _close_in_mean(known[_phase_name], _right_known[_phase_name])
    except AssertionError:
        # again with what is the student's own; nothing for functions that tell no layers apart
        for _phase_name, _w2 in (
            ("ordered", _mine_graded.sigma_w2_ordered),
            ("chaotic", _mine_graded.sigma_w2_chaotic),
        ):
            _nets = [
                draw_network(_rng, 64, _mine_graded.width, 30, _w2, _mine_graded.sigma_b2)
                for _ in range(12)
            ]
            _own = np.array([[curve(_net, tau) for _net in _nets] for tau in _floors_graded])
            if not np.ptp(_own) > 0.3:
                raise
            _close_in_mean(known[_phase_name], _own)
with marks.part(
    1,
    "The error is that of the mean over networks, and the networks are different ones.",
    hint="A deviation of a sample, with one degree of freedom taken by the mean, over the root of the number of networks.",
):
    for _phase_name in ("ordered", "chaotic"):
        _found = np.asarray(known[_phase_name], dtype=float)
        _count = _found.shape[1]
        classroom.close(error[_phase_name], _stats.sem(_found, axis=1, ddof=1), rtol=1e-6)
        # Layers are correlated: taken as one, the ratio of variances is Fisher's at its widest.
        _right = _right_known[_phase_name]
        _ratio = np.mean(_found.var(1, ddof=1)) / np.mean(_right.var(1, ddof=1))
        _low, _high = _stats.f.ppf([1e-6, 1 - 1e-6], _count - 1, _right.shape[1] - 1)
        assert _low < _ratio < _high
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 4. A cutoff with both ends, by hand (4 points, 7 minutes)
#
# Chapter: "The cutoff". For the explained variance the value of complete loss is known, so that no curve has to saturate. Define: layer 0 is the image itself, with $R^2_0=1$; join the values at layers $0,1,\dots,L$ by straight lines;
# $\ell^*$ is where this line falls to the threshold for the *last* time. So
#
# - a curve below the threshold at every layer crosses it between layers 0 and 1;
# - a curve that ends above the threshold does not cross: then $\ell^*=L$, and the value is **censored**, a lower bound. Return `True` beside it.
# - a curve that falls below and comes back, by chance or not, is judged by its deepest crossing.
#
# A value that equals the threshold counts as lost.


# %% nbgrader="solution cutoff"
def cutoff(values, threshold):
    """Return ℓ* (a float) and whether it is censored (a bool).

    ``values`` (L,): R² at layers 1 … L; ``threshold`` in (0, 1).
    """
    ### BEGIN SOLUTION
    line = np.concatenate([[1.0], values])
    last = int(np.flatnonzero(line > threshold)[-1])  # layer 0 is always above
    if last == len(values):
        return float(last), True
    drop = line[last] - line[last + 1]
    return float(last + (line[last] - threshold) / drop), False
    ### END SOLUTION


# %% nbgrader="tests cutoff-tests 4" mflib="noticed"
marks = classroom.Marks(4)
with marks.part(1, "A straight line is cut where it should be.", by_hand=True):
    ell_try, censored_try = cutoff(np.array([0.9, 0.7, 0.3, 0.1]), 0.5)
    classroom.close(ell_try, 2.5, atol=1e-9)
    classroom.same(bool(censored_try), False)
### BEGIN HIDDEN TESTS
import numpy as np

_mine_graded = classroom.graded()
_eta = _mine_graded.threshold
_rng = np.random.default_rng(_mine_graded.width + round(100 * _eta))
with marks.part(
    1,
    "A curve that never comes down gives L, censored; one that crosses in the last step does not.",
    hint="Look at the last layer alone: is it above the threshold?",
    by_hand=True,
):
    _ell, _censored = cutoff(np.linspace(0.99, _eta + 0.01, 17), _eta)
    classroom.close(_ell, 17.0, atol=1e-9)
    classroom.same(bool(_censored), True)
    _ell, _censored = cutoff(np.array([0.9, 0.8, _eta]), _eta)
    classroom.close(_ell, 3.0, atol=1e-9)
    classroom.same(bool(_censored), False)
with marks.part(
    1,
    "A curve that is below the threshold from layer 1 on is cut between layers 0 and 1.",
    hint="Layer 0 is the image, which explains all of itself.",
    by_hand=True,
):
    _ell, _censored = cutoff(np.array([_eta / 2, _eta / 3, -0.05]), _eta)
    classroom.close(_ell, (1 - _eta) / (1 - _eta / 2), atol=1e-9)
    classroom.same(bool(_censored), False)
with marks.part(
    1,
    "Of several crossings the deepest counts, at your own threshold.",
    hint="Begin at the last layer and go up.",
    by_hand=True,
):
    _deep = int(_rng.integers(9, 15))
    _line = np.full(20, _eta / 2)
    _line[:3] = 0.9
    _line[_deep - 1] = _eta + 0.2
    _ell, _ = cutoff(_line, _eta)
    classroom.close(_ell, _deep + 0.2 / (0.2 + _eta / 2), atol=1e-9)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 5. A relative entropy has no first order (6 points, 12 minutes)
#
# Chapter: "How entropy grows with small errors". The paper expands the relative entropy $D$ of an image and its reconstruction in the error $\delta$. Its first-order result (A.14) is, up to notation,
# $\sum_i\sum_{n\ne i}(x_n\delta_i-x_i\delta_n)$, from which it reads that layers contribute additively. You will see that this cannot be.
#
# **Written (3 points).**
# (a) Let $p_t(x)$ be a smooth family of densities, each normalised. Show that $D(p_0\|p_t)=\tfrac12 I\,t^2+O(t^3)$, and give $I$ as an average. Which property of $p_t$ removes the first order?
# (b) A pixel's values are taken for Gaussian, $p_0=\mathcal N(0,1)$, and its reconstruction's for $p_t=\mathcal N(\alpha t,\,e^{\beta t})$. Find the coefficient of $t^2$.
# ($\alpha$ and $\beta$ are rates of this drift; $\alpha$ is not the stability index of the chapters on heavy tails.)
# (c) Show that the printed A.14 is 0 for *any* $\delta$. Two layers contribute errors $\delta=\delta^1+\delta^2$: when do their contributions to $D$ add up at second order?

# %% [markdown] nbgrader="essay second-order 3"
# ### BEGIN SOLUTION
# (a) $D(p_0\|p_t)=-\langle\ln p_t/p_0\rangle_0$. With $u=\partial_t\ln p_t$ at 0: $\ln p_t/p_0=t\,u+\frac12t^2\,\partial_t^2\ln p_t+\dots$. Normalisation, $\int p_t=1$ for all $t$, gives $\langle u\rangle_0=\int\partial_tp_t=0$, and once more
# $\langle\partial_t^2\ln p_t\rangle_0=\int\partial_t^2p_t-\langle u^2\rangle_0=-\langle u^2\rangle_0$. So $D=\frac12t^2\langle u^2\rangle_0+O(t^3)$: $I=\langle u^2\rangle_0$ is the Fisher information.
#
# (b) $D(p_0\|p_t)=\frac12\bigl[e^{-\beta t}(1+\alpha^2t^2)-1+\beta t\bigr]$, whose $t^2$ has $\frac12\alpha^2+\frac14\beta^2$. (Or from $u=\alpha x+\frac12\beta(x^2-1)$, $\langle u^2\rangle=\alpha^2+\frac12\beta^2$.)
#
# (c) The term with $n=i$ is zero, so the sum runs over all pairs; it is antisymmetric under $i\leftrightarrow n$, so it is 0. At second order $D=\frac12\langle(u_1+u_2)^2\rangle=D_1+D_2+\langle u_1u_2\rangle$: additive if and
# only if the two relative errors are uncorrelated under $p_0$ ($\langle u_1u_2\rangle=0$).
#
# **Rubric.** 1 each. (a) normalisation named and used (0.5), the second order with $I$ as an average (0.5). (b) the coefficient (1; one half for one of its two terms). (c) antisymmetry (0.5), the mixed term (0.5).
# ### END SOLUTION

# %% [markdown]
# **Code (3 points).** With your own $\alpha$ = `mine.kl_mean` and $\beta$ = `mine.kl_log_variance`:
#
# 1. `kl(t)`: $D(p_0\|p_t)$ in closed form, for arrays $t$, to a relative $10^{-6}$.
# 2. `second`: the coefficient of $t^2$, as you found it, to a relative $10^{-5}$.
# 3. `orders`: the observed orders (`observed_order`, given below), over `sizes` as given and to $\pm0.02$, of
#    `"first"`, what is left of $D$ if one takes the first order (which is 0) for it, and of `"second"`, what your second order leaves.
#    An expansion with a wrong coefficient shows as an order that is too low, whatever its size.


# %% nbgrader="locked observed-order"
def observed_order(sizes, remainders):
    """Return p of remainders (n,) that go as sizes^p, sizes (n,): a slope of logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(np.abs(remainders)), 1)[0])


# %% nbgrader="solution expansion"
sizes = np.geomspace(0.002, 0.05, 8)
orders = {}  # "first", "second"


def kl(t):
    """Return D(p_0‖p_t), with the shape of ``t``."""
    ### BEGIN SOLUTION
    alpha, beta = mine.kl_mean, mine.kl_log_variance
    return 0.5 * (np.expm1(-beta * t) + beta * t + np.exp(-beta * t) * (alpha * t) ** 2)
    ### END SOLUTION


### BEGIN SOLUTION
second = mine.kl_mean**2 / 2 + mine.kl_log_variance**2 / 4
orders["first"] = observed_order(sizes, kl(sizes))
orders["second"] = observed_order(sizes, kl(sizes) - second * sizes**2)
### END SOLUTION

# %% nbgrader="tests expansion-tests 3" mflib="no help"
marks = classroom.Marks(3)
with marks.part(0.5, "The relative entropy is 0 without an error, and positive on both sides."):
    found_try = kl(np.array([-0.5, 0.0, 0.5]))
    classroom.close(found_try, [abs(found_try[0]), 0, abs(found_try[2])], atol=1e-12)
    assert min(abs(found_try[0]), abs(found_try[2])) > 1e-3
### BEGIN HIDDEN TESTS
import numpy as np
from scipy import integrate as _integrate

_mine_graded = classroom.graded()
_alpha, _beta = _mine_graded.kl_mean, _mine_graded.kl_log_variance


def _right_kl(t):
    """Integrate the definition."""

    def log_p(x, t):
        return -0.5 * ((x - _alpha * t) ** 2 * np.exp(-_beta * t) + _beta * t + np.log(2 * np.pi))

    def inside(x):
        return np.exp(log_p(x, 0)) * (log_p(x, 0) - log_p(x, t))

    return _integrate.quad(inside, -12, 12, epsabs=1e-12, epsrel=1e-11, limit=400)[0]


with marks.part(
    1,
    "The relative entropy is right, at errors that are not small, too.",
    hint="Average the logarithm of the ratio of the two densities under the first of them. Is the mean divided by the variance of the second?",
):
    _points = np.array([0.15, 0.6, 1.1])
    classroom.close(kl(_points), [_right_kl(t) for t in _points], rtol=1e-6)
with marks.part(
    1,
    "The coefficient of the second order is right.",
    hint="Mean and variance contribute a square each. Halve the size of the error: by which factor does the remainder fall?",
):
    classroom.close(second, 0.5 * (_alpha**2 + _beta**2 / 2), rtol=1e-5)
with marks.part(
    0.5,
    "The observed orders are those of these sizes.",
    hint="Remainders: the entropy itself, and the entropy less its second order.",
):
    _t_test = np.geomspace(0.002, 0.05, 8)
    _forth = 0.5 * (
        np.expm1(-_beta * _t_test)
        + _beta * _t_test
        + np.exp(-_beta * _t_test) * (_alpha * _t_test) ** 2
    )

    def _slopes(entropy, coefficient):
        """Return both orders, in the order of the question."""
        left = (entropy, entropy - coefficient * _t_test**2)
        return np.array([np.polyfit(np.log(_t_test), np.log(abs(each)), 1)[0] for each in left])

    _found = [orders[name] for name in ("first", "second")]
    try:
        classroom.close(_found, _slopes(_forth, _alpha**2 / 2 + _beta**2 / 4), atol=0.02)
    except AssertionError:
        # a slip in the entropy or in the coefficient was paid there
        _own = _slopes(kl(_t_test), second)
        if not np.isfinite(_own).all():
            raise
        classroom.close(_found, _own, atol=0.02)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 6. Theory: two predictions (2 points, 3 minutes)
#
# Here calling `mflib.theory.mean_field` is the point. Give, both to a relative $10^{-3}$,
#
# - `critical`: the critical $\sigma_w^2$ of tanh networks at your $\sigma_b^2$;
# - `predicted_shift`: how many layers deeper your *ordered* network is read if the floor is lowered to a tenth (as `FLOORS` do), for a direction that shrinks at the rate of mean-field theory (question 1b).
#   (Which power of $\chi_1$ is a length?)

# %% nbgrader="solution theory"
### BEGIN SOLUTION
from mflib.theory import mean_field

critical = float(mean_field.critical_sigma_w2("tanh", mine.sigma_b2).sigma_w2)
chi_1 = float(mean_field.fixed_point("tanh", mine.sigma_w2_ordered, mine.sigma_b2).chi_1)
predicted_shift = np.log(10) / (0.5 * abs(np.log(chi_1)))
### END SOLUTION

# %% nbgrader="tests theory-tests 2" mflib="the point"
marks = classroom.Marks(2)
### BEGIN HIDDEN TESTS
import numpy as np

from mflib.theory import mean_field as _right_theory

_mine_graded = classroom.graded()
_right_critical = float(_right_theory.critical_sigma_w2("tanh", _mine_graded.sigma_b2).sigma_w2)
_right_chi = float(
    _right_theory.fixed_point("tanh", _mine_graded.sigma_w2_ordered, _mine_graded.sigma_b2).chi_1
)
with marks.part(
    1,
    "The critical weight variance is that of tanh at your bias variance.",
    hint="It is the weight variance at which a small difference neither grows nor shrinks; your bias variance is in your numbers.",
):
    classroom.close(critical, _right_critical, rtol=1e-3)
with marks.part(
    1,
    "The predicted shift is that of the ordered network.",
    hint="A squared difference falls by the slope of the correlation map per layer; a floor is a length. The logarithm of the ratio of floors, over the rate per layer.",
):
    classroom.close(predicted_shift, -2 * np.log(10) / np.log(_right_chi), rtol=1e-3)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 7. Where is it read deepest? (3 points, 7 minutes)
#
# Chapter: "The cutoff" and "Finding criticality". For each $\sigma_w^2$ of `sweep` (with your $\sigma_b^2$ and width, `DEPTH` layers) take 6 networks, the same seeds at every $\sigma_w^2$ and both floors, and your
# own threshold `mine.threshold`.
#
# - `cutoffs`, an array (2 floors, 7 weight variances, 6 networks). Draw a network once and use it for both floors.
# - `peaks`, an array of two: for each floor the $\sigma_w^2$ at which the cutoff, averaged over networks, is largest: the top of the parabola in $\ln\sigma_w^2$ through the largest value and its two neighbours.
#   If the largest value stands at an end of `sweep`, take the three points at that end, wherever the top of their parabola is.
#   Write this as a function `top` of the cutoffs of one floor.
# - `peak_errors`, an array of two, by `jackknife`, given below, with your `top`: it leaves out one network at a time, at all weight variances at once.
#
# Before you run it, write down for yourself: will the two peaks stand at the same place? At `critical`?


# %% nbgrader="locked jackknife"
def jackknife(statistic, samples):
    """Return the error of the number ``statistic(samples)``, of samples (7, K) of K networks.

    θ_k is the number without network k; the error is √((K−1)/K Σ_k (θ_k − mean θ)²).
    """
    count = samples.shape[1]
    without = [statistic(np.delete(samples, k, axis=1)) for k in range(count)]
    return np.sqrt((count - 1) * np.var(without))


# %% nbgrader="solution sweep"
sweep = np.geomspace(0.8, 3.6, 7)
### BEGIN SOLUTION
cutoffs = np.empty((2, len(sweep), 6))
for i, w2 in enumerate(sweep):
    for seed in range(6):
        net = draw_network(np.random.default_rng(seed), 64, mine.width, DEPTH, w2, mine.sigma_b2)
        for k, tau in enumerate(FLOORS):
            cutoffs[k, i, seed] = cutoff(curve(net, tau), mine.threshold)[0]
### END SOLUTION


def top(samples):
    """Return the σ_w² of the peak of cutoffs ``samples`` (7, K), of K networks, a number."""
    ### BEGIN SOLUTION
    means = samples.mean(1)
    best = int(np.clip(np.argmax(means), 1, len(sweep) - 2))
    near = slice(best - 1, best + 2)
    c2, c1, _ = np.polyfit(np.log(sweep[near]), means[near], 2)
    return np.exp(-c1 / (2 * c2))
    ### END SOLUTION


### BEGIN SOLUTION
peaks = np.array([top(each) for each in cutoffs])
peak_errors = np.array([jackknife(top, each) for each in cutoffs])
### END SOLUTION

# %% nbgrader="tests sweep-tests 3" mflib="no help"
marks = classroom.Marks(3)
### BEGIN HIDDEN TESTS
import numpy as np
from sklearn.datasets import load_digits as _load_digits

_mine_graded = classroom.graded()
_rng = np.random.default_rng(round(1000 * _mine_graded.sigma_b2) + _mine_graded.width + 1)
_data = _load_digits().data / 16
_places = np.random.default_rng(0).permutation(len(_data))
_x_fit, _x_held = _data[_places[:400]], _data[_places[400:600]]
_floors_graded = (_mine_graded.floor, _mine_graded.floor / 10)
_eta, _b2, _width = _mine_graded.threshold, _mine_graded.sigma_b2, _mine_graded.width
_right_sweep = np.geomspace(0.8, 3.6, 7)


def _right_cutoff(values):
    """Return the deepest crossing by the definition of question 4."""
    line = np.concatenate([[1.0], values])
    last = np.flatnonzero(line > _eta)[-1]
    if last == len(values):
        return float(last)
    return last + (line[last] - _eta) / (line[last] - line[last + 1])


def _right_cutoffs(_rng, sigma_w2, networks):
    """Return cutoffs (2 floors, networks) of fresh networks, by normal equations."""
    z = np.broadcast_to(np.concatenate([_x_fit, _x_held]), (networks, 600, 64))
    dx, dx_held = _x_fit - _x_fit.mean(0), _x_held - _x_fit.mean(0)
    found = np.empty((2, networks, 30))
    for layer in range(30):
        n_in = z.shape[2]
        weight = _rng.normal(size=(networks, n_in, _width)) * np.sqrt(sigma_w2 / n_in)
        z = np.tanh(z @ weight + _rng.normal(size=(networks, 1, _width)) * np.sqrt(_b2))
        dz = z - z[:, :400].mean(1, keepdims=True)
        gram = dz[:, :400].mT @ dz[:, :400] / 400
        cross = dz[:, :400].mT @ dx / 400
        for _k, _floor in enumerate(_floors_graded):
            decoder = np.linalg.solve(gram + _floor**2 * np.eye(_width), cross)
            missed = ((dx_held - dz[:, 400:] @ decoder) ** 2).sum((1, 2))
            found[_k, :, layer] = 1 - missed / (dx_held**2).sum()
    return np.array([[_right_cutoff(values) for values in each] for each in found])


_right_all = np.array([_right_cutoffs(_rng, _w2, 12) for _w2 in _right_sweep]).transpose(1, 0, 2)


def _right_top(means):
    """Return the summit of the parabola through the largest value and its neighbours."""
    best = int(np.clip(np.argmax(means), 1, len(_right_sweep) - 2))
    near = slice(best - 1, best + 2)
    c2, c1, _ = np.polyfit(np.log(_right_sweep[near]), means[near], 2)
    return np.exp(-c1 / (2 * c2))


def _close_in_mean(found, right):
    """Compare mean cutoffs with the sampling error of both, and a fifth of a layer."""
    # A deviation of few networks may come out small by chance: it counts as no smaller than the
    # mean relative one of its floor.
    spread = right.std(2, ddof=1)
    typical = np.sqrt(np.mean((spread / right.mean(2)) ** 2, axis=1, keepdims=True))
    spread = np.maximum(spread, typical * right.mean(2))
    spread = spread * np.sqrt(1 / found.shape[2] + 1 / right.shape[2])
    classroom.close(found.mean(2), right.mean(2), atol=0.2, standard_error=spread, sigmas=5)


with marks.part(
    2,
    "The mean cutoffs agree with a recomputation within the sampling error, or with your own functions on fresh networks.",
    hint="The axes are floors, weight variances, networks; the coarse floor comes first. Is it your own threshold, width and bias variance?",
):
    classroom.close(np.asarray(cutoffs, dtype=float) * 0, np.zeros((2, 7, 6)))
    try:
        _close_in_mean(np.asarray(cutoffs, dtype=float), _right_all)
    except AssertionError:
        # slips above were paid there; nothing for functions that tell no networks apart
        _own = np.empty((2, 7, 8))
        for _i, _w2 in enumerate(_right_sweep):
            for _k in range(8):
                _net = draw_network(_rng, 64, _width, 30, _w2, _b2)
                for _m, _floor in enumerate(_floors_graded):
                    _own[_m, _i, _k] = cutoff(curve(_net, _floor), _eta)[0]
        if not np.ptp(_own.mean(2)) > 1e-3:
            raise
        _close_in_mean(np.asarray(cutoffs, dtype=float), _own)
with marks.part(
    0.5,
    "The peaks are the tops of the parabolas through your own mean cutoffs.",
    hint="In the logarithm of the weight variance, three points; average over networks first. Is the largest value at an end?",
):
    _rows = np.asarray(cutoffs, dtype=float)
    assert np.ptp(_rows.mean(2), axis=1).min() > 1e-3
    classroom.close(peaks, [_right_top(each.mean(1)) for each in _rows], rtol=1e-5)
with marks.part(
    0.5,
    "The errors of the peaks are those of the jackknife.",
    hint="The function given takes your function of the cutoffs of one floor, which averages over networks itself, and these cutoffs.",
):
    _rows = np.asarray(cutoffs, dtype=float)
    assert np.ptp(_rows.mean(2), axis=1).min() > 1e-3

    def _jackknife(statistic):
        """Return the errors of both floors, with this function of the cutoffs of one floor."""
        left = [[statistic(np.delete(each, k, axis=1)) for k in range(6)] for each in _rows]
        away = np.array(left, dtype=float)
        away = away - away.mean(1, keepdims=True)
        return np.sqrt(5 / 6 * (away**2).sum(1))

    _right = _jackknife(lambda samples: _right_top(samples.mean(1)))
    try:
        classroom.close(peak_errors, _right, rtol=1e-4)
    except AssertionError:
        # a slip in the peak was paid above; a peak that never moves has no error to get right
        _own = _jackknife(top)
        if not (np.isfinite(_own).all() and _own.min() > 1e-6):
            raise
        classroom.close(peak_errors, _own, rtol=1e-4)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 8. Shrinking or scrambling? (7 points, 17 minutes)
#
# **Code (2 points).** From the curves of question 3: by how many layers does $\ell^*$ move if the floor falls to a tenth, at a threshold of **0.1**? (So low a threshold asks for the last thing that can be read.) The
# floors saw the same networks, so that the difference is taken network by network. Fill `shifts["ordered"]` and `shifts["chaotic"]` with pairs (mean over networks, standard error of this mean).

# %% nbgrader="solution shifts"
shifts = {}
### BEGIN SOLUTION
for phase in ("ordered", "chaotic"):
    coarse, fine = (np.array([cutoff(values, 0.1)[0] for values in each]) for each in known[phase])
    moved = fine - coarse
    shifts[phase] = (moved.mean(), moved.std(ddof=1) / np.sqrt(len(moved)))
### END SOLUTION

# %% nbgrader="tests shifts-tests 2" mflib="no help"
marks = classroom.Marks(2)
### BEGIN HIDDEN TESTS
import numpy as np


def _right_shift(curves):
    """Return mean and standard error of the shift, by the definitions."""
    ends = []
    for each in np.asarray(curves, dtype=float):
        row = []
        for values in each:
            line = np.concatenate([[1.0], values])
            last = np.flatnonzero(line > 0.1)[-1]
            done = last == len(values)
            row.append(last if done else last + (line[last] - 0.1) / (line[last] - line[last + 1]))
        ends.append(row)
    moved = np.subtract(ends[1], ends[0])
    return moved.mean(), moved.std(ddof=1) / np.sqrt(len(moved))


def _own_shift(curves):
    """Return the same with the cutoff as the notebook has it, whose slips were paid above."""
    ends = np.array([[cutoff(values, 0.1)[0] for values in each] for each in np.asarray(curves)])
    moved = ends[1] - ends[0]
    return moved.mean(), moved.std(ddof=1) / np.sqrt(len(moved))


def _check_shifts(position):
    """Compare one number of both pairs with what follows from the notebook's own curves."""
    for phase_name in ("ordered", "chaotic"):
        curves = np.asarray(known[phase_name], dtype=float)
        assert curves.ndim == 3
        assert np.ptp(curves) > 0.3
        found = shifts[phase_name][position]
        try:
            classroom.close(found, _right_shift(curves)[position], rtol=1e-5, atol=1e-7)
        except AssertionError:
            own = _own_shift(curves)[position]
            if not np.isfinite(own) or own == 0:
                raise
            classroom.close(found, own, rtol=1e-5, atol=1e-7)


with marks.part(
    1,
    "The mean shifts follow from your own curves.",
    hint="The fine floor less the coarse one, at a threshold of 0.1, network by network.",
):
    _check_shifts(0)
with marks.part(
    1,
    "The errors are those of paired differences.",
    hint="The two floors share their networks: take the deviation of the differences, not of the two cutoffs.",
):
    _check_shifts(1)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# **Figure (2 points).** Two panels. *Left*: the explained variance by layer; `draw_curves` draws it from your `known` and `error`. *Right*, yours: mean cutoffs of question 7 over $\sigma_w^2$ at both floors with error bars,
# `critical` as a vertical line, and the peaks. It must be readable without this text.


# %% nbgrader="locked draw-curves"
def draw_curves(axes):
    """Draw R² by layer on ``axes``, both phases and both floors: means with bands of 95 %."""
    depths = np.arange(1, DEPTH + 1)
    for phase, colour in (("ordered", "C0"), ("chaotic", "C1")):
        for k, style in enumerate(("-", "--")):
            mean = known[phase][k].mean(0)
            half = stats.t.ppf(0.975, known[phase].shape[1] - 1) * error[phase][k]
            label = rf"{phase}, floor $\tau={FLOORS[k]:g}$"
            axes.plot(depths, mean, style, color=colour, label=label)
            axes.fill_between(depths, mean - half, mean + half, color=colour, alpha=0.2, lw=0)
    axes.axhline(mine.threshold, color="0.5", lw=1, label="threshold of the cutoffs")
    axes.axhline(0.1, color="0.5", lw=1, ls=":", label="threshold of the shifts")
    axes.set(xlabel=r"layer $\ell$", ylabel=r"explained variance $R^2$")
    axes.legend(fontsize=9)


# %% nbgrader="essay figure 2"
### BEGIN SOLUTION
fig, (left, right_panel) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
draw_curves(left)
for k, colour in enumerate(("C2", "C3")):
    spread = cutoffs[k].std(1, ddof=1) / np.sqrt(cutoffs.shape[2])
    right_panel.errorbar(
        sweep,
        cutoffs[k].mean(1),
        spread,
        fmt="o-",
        ms=4,
        capsize=2,
        color=colour,
        label=rf"floor $\tau={FLOORS[k]:g}$",
    )
    right_panel.axvspan(
        peaks[k] - peak_errors[k], peaks[k] + peak_errors[k], color=colour, alpha=0.15
    )
right_panel.axvline(critical, color="0.3", ls=":", label=r"critical $\sigma_w^2$")
right_panel.set(
    xscale="log",
    xlabel=r"weight variance $\sigma_w^2$",
    ylabel=r"cutoff $\ell^*$ (layers)",
)
right_panel.set_xticks([1, 1.5, 2, 3], ["1", "1.5", "2", "3"])
right_panel.minorticks_off()
right_panel.legend(fontsize=9)
plt.show()
# Rubric. 1: cutoffs of both floors with error bars of the mean, critical line and peaks. 1: axes, units and legend say
# all, and floors are told apart without guessing; the left panel is there (its curves were graded in question 3).
### END SOLUTION

# %% [markdown]
# **Written (3 points).** In at most 15 lines, with your own numbers:
#
# (a) Which network loses the image by shrinking, which by scrambling, and what in your figure shows it? Why does a decoder that is sharper by a factor of ten not help the one?
# (b) Is your measured ordered shift larger or smaller than `predicted_shift`, by how many standard errors? Not all directions in which images differ shrink at the same rate in a network of finite width. What
# does that do to the shift? Is the chaotic shift zero, or has it a sign? (Count the parameters of a decoder, and the images it was fitted on.)
# (c) Where do the two peaks stand against each other and against `critical`? Explain from (a) on which side of the critical point a lower floor pulls the peak, and why "the $\sigma_w^2$ that is read deepest" is not a measurement of criticality.

# %% [markdown] nbgrader="essay interpretation 3"
# ### BEGIN SOLUTION
# (a) The ordered network shrinks: its curve moves by many layers with the floor. What differs between images is still a nearly linear function of the image, only smaller by $\sqrt{\chi_1}$ per layer, and a sharper decoder amplifies it. The chaotic
# network scrambles: both floors give nearly the same curve. Activations of different images stay far apart, far above either floor; but they are not linear functions of the image any more, and no gain undoes that.
#
# (b) The measured shift is somewhat smaller than predicted, mostly by two to five standard errors; in some sets of networks the difference is not resolved. Mean-field theory has one rate; in a product of random matrices of finite width every direction has its own, the typical ones shrink faster. At a threshold of 0.1
# the slowest directions decide, whose rate is nearest to the prediction. The chaotic shift is negative, one to three layers, and significant. A decoder of $N$ inputs fitted on 400 images fits noise, which costs held-out variance of the order $N/400$
# where little can be read; a larger floor is a stronger regulariser and loses less. $R^2$ itself differs little (by less than 0.1), but the curve is flat where it crosses 0.1, so that a small loss by overfitting moves the crossing by layers.
# The shift shrinks with more images: it is not a property of the network.
#
# (c) The peak at the fine floor stands at a smaller $\sigma_w^2$ than at the coarse one, and well below `critical`; the coarse one stands near `critical`, on either side, as the number of the floor happens to be. A lower floor lengthens the cutoff on the ordered side only, by $\ln10/(\frac12|\ln\chi_1|)$ layers, the more the closer to criticality; scrambling limits both sides at finite
# depth, since nonlinearity acts at every $\sigma_w^2$, and less where signals are small. So the peak lies where shrinking, which depends on the floor, and distortion, which does not, balance. It can be put elsewhere by choosing the floor
# and the threshold. What marks the transition is the change of behaviour: whether the floor matters (the chapter's search uses a change of sign).
#
# **Rubric.** 1 each. (a) both, with what shows it and the reason. (b) the comparison in standard errors with the spread of rates (0.5); the chaotic shift, negative, with overfitting (0.5). (c) the order of the peaks with the mechanism. Take off 0.5 where
# no numbers are given, and nothing where a student's own numbers do not resolve an effect and the text says so.
# ### END SOLUTION
