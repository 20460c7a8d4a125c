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
# **Time** 80 to 90 minutes. **Points** 45: 30 are given automatically, 15 by hand for what you write and draw.
# The material is the chapter *Reconstruction entropy*, up to and including "How entropy grows with small errors"; $\chi_1$ and the critical line come from
# *Fully connected networks: order, chaos and depth*.
#
# **Allowed**: numpy, scipy, matplotlib, the book. Where a question says *by hand*, write your own code: the grading notices calls into `mflib` there and gives nothing for them. The question on
# theory asks you to call it. Most questions have numbers of your own. The whole notebook runs in about 10 seconds.

# %%
from mflib import classroom

classroom.token("")  # between the quotes: the token that your teacher gave you

# %% nbgrader="locked numbers"
import itertools

import matplotlib.pyplot as plt
import numpy as np
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
# (c) Let $\sigma_i^2=\langle(x_i-\hat x_i)^2\rangle$ be the mean square errors of unbiased reconstructions, pixel by pixel, and $S_{\rm err}=\sum_i\tfrac12\ln(2\pi e\,\sigma_i^2)$. Show that the conditional differential entropy
# obeys $h(x\,|\,z)\le S_{\rm err}$, one inequality at a time. A chaotic layer of full width is a map that is one to one, so that nothing is lost. What, then, does a large $S_{\rm err}$ tell of
# it, and what can it not tell?

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
# $\le\sum_i h(x_i-\hat x_i)$. At a given variance the Gaussian has the most: $\le\sum_i\frac12\ln 2\pi e\sigma_i^2$. So $S_{\rm err}$ is an upper bound of what $z$ leaves open. It is
# small only if much is known. Large, it says that *this* reader, linear and with this floor, finds little; it cannot say that the information is gone. In the chaotic layer of full width nothing is gone: another decoder could read it.
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
rng = np.random.default_rng(1)
h_try, x_try = rng.normal(size=(40, 5)) + 3, rng.normal(size=(40, 3)) + 1
with marks.part(
    1,
    "The mean activations are decoded to the mean image, with V and a of the right shapes.",
    by_hand=True,
):
    V_try, a_try = ridge_decoder(h_try, x_try, 0.3)
    classroom.close(np.asarray(V_try) * 0, np.zeros((3, 5)))
    classroom.close(V_try @ h_try.mean(0) + a_try, x_try.mean(0), atol=1e-9)
### BEGIN HIDDEN TESTS
import numpy as np

mine_graded = classroom.graded()
rng = np.random.default_rng(round(1000 * mine_graded.sigma_b2) + mine_graded.width)
n_images = mine_graded.width + 20
h_test = rng.normal(size=(n_images, 7)) @ rng.normal(size=(7, 7)) + rng.normal(size=7)
x_test = h_test[:, :4] ** 2 + rng.normal(size=(n_images, 4))


def right_decoder(h, x, noise):
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
    V_right, a_right = right_decoder(h_test, x_test, 0.7)
    V_test, a_test = ridge_decoder(h_test.copy(), x_test.copy(), 0.7)
    classroom.close(V_test, V_right, rtol=1e-7, atol=1e-9)
    classroom.close(a_test, a_right, rtol=1e-7, atol=1e-9)
with marks.part(
    1,
    "Large means of neurons do not spoil it.",
    hint="Take the means off before anything is multiplied.",
    by_hand=True,
):
    # against the notebook's own decoder: another slip was paid above
    V_near, a_near = ridge_decoder(h_test.copy(), x_test.copy(), 0.3)
    near = h_test @ V_near.T + a_near
    if not np.ptp(near) > 1e-3:
        classroom.close(near, x_test)
    lifted = h_test + 1e6
    V_test, a_test = ridge_decoder(lifted.copy(), x_test.copy(), 0.3)
    classroom.close(lifted @ V_test.T + a_test, near, atol=1e-6 * np.abs(x_test).max())
with marks.part(
    1,
    "Neurons that repeat each other, without a floor: the smallest V of all best ones.",
    hint="The limit of a small floor shares the weight between equal neurons. Directions whose size is rounding are no directions.",
    by_hand=True,
):
    twice = np.hstack([h_test, h_test])
    V_right, a_right = right_decoder(h_test, x_test, 0.0)
    V_test, a_test = ridge_decoder(twice, x_test.copy(), 0.0)
    classroom.close(V_test, np.hstack([V_right, V_right]) / 2, rtol=1e-6, atol=1e-8)
with marks.part(
    2,
    "A floor of 1e-8 beside activations of order 1 cuts where it should.",
    hint="A covariance holds the squares of the sizes: 1e-16 beside 1 is rounding. Factorise the activations, not their covariance.",
    by_hand=True,
):
    # Activations whose singular values are known, so that the right answer is.
    basis = np.linalg.qr(np.hstack([np.ones((n_images, 1)), rng.normal(size=(n_images, 9))]))[0][
        :, 1:
    ]
    turned = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    sizes = np.geomspace(1, 1e-8, 9)
    shrunk = np.sqrt(n_images) * (basis * sizes) @ turned.T
    wanted = basis @ rng.normal(size=(9, 4)) * np.sqrt(n_images)
    tau = 1e-8
    # What the notebook's own decoder takes for the square of this floor: a single neuron tells,
    # at any factorisation. A wrong factor was paid above; one that is no small floor is not asked.
    one = np.sqrt(n_images) * tau * basis[:, :1]
    per_size = np.sum(ridge_decoder(one, one / tau, tau)[0])
    square = tau / per_size - tau**2
    if not 1e-20 < square < 1e-14:
        square = tau**2
    kept_part = basis * (sizes**2 / (sizes**2 + square)) @ (basis.T @ wanted)
    V_test, a_test = ridge_decoder(shrunk, wanted.copy(), tau)
    classroom.close(shrunk @ V_test.T + a_test, kept_part, atol=1e-4 * np.abs(wanted).max())
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 3. How much of an image is left (7 points, 18 minutes)
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
# What you should see: one of the two networks hardly minds the floor.


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
    rng = np.random.default_rng(2)
    layers = [
        (rng.normal(size=(6, 64)) / 8, rng.normal(size=6)),
        (rng.normal(size=(6, 6)), rng.normal(size=6)),
    ]
    first, second = activations(held[:5].copy(), layers)
    z_try = np.tanh(np.einsum("ij,nj->ni", layers[0][0], held[:5]) + layers[0][1])
    classroom.close(first, z_try, atol=1e-10)
    z_try = np.tanh(np.einsum("ij,nj->ni", layers[1][0], z_try) + layers[1][1])
    classroom.close(second, z_try, atol=1e-10)
### BEGIN HIDDEN TESTS
import numpy as np
from scipy import stats
from sklearn.datasets import load_digits

mine_graded = classroom.graded()
rng = np.random.default_rng(round(1000 * mine_graded.sigma_b2) + mine_graded.width)
data = load_digits().data / 16
places = np.random.default_rng(0).permutation(len(data))
x_fit, x_held = data[places[:400]], data[places[400:600]]
floors_graded = (mine_graded.floor, mine_graded.floor / 10)


def right_curves(rng, sigma_w2, networks, floors, depth):
    """Return R² (floors, networks, depth) by normal equations: these floors are far above rounding."""
    n, width, b2 = len(x_fit), mine_graded.width, mine_graded.sigma_b2
    z = np.broadcast_to(np.concatenate([x_fit, x_held]), (networks, 600, 64))
    dx, dx_held = x_fit - x_fit.mean(0), x_held - x_fit.mean(0)
    found = np.empty((len(floors), networks, depth))
    for layer in range(depth):
        n_in = z.shape[2]
        weight = rng.normal(size=(networks, n_in, width)) * np.sqrt(sigma_w2 / n_in)
        bias = rng.normal(size=(networks, 1, width)) * np.sqrt(b2)
        z = np.tanh(z @ weight + bias)
        dz = z - z[:, :n].mean(1, keepdims=True)
        gram = dz[:, :n].mT @ dz[:, :n] / n
        cross = dz[:, :n].mT @ dx / n
        for k, floor in enumerate(floors):
            decoder = np.linalg.solve(gram + floor**2 * np.eye(width), cross)
            missed = ((dx_held - dz[:, n:] @ decoder) ** 2).sum((1, 2))
            found[k, :, layer] = 1 - missed / (dx_held**2).sum()
    return found


right_known = {
    "ordered": right_curves(rng, mine_graded.sigma_w2_ordered, 16, floors_graded, 30),
    "chaotic": right_curves(rng, mine_graded.sigma_w2_chaotic, 16, floors_graded, 30),
}


def close_in_mean(found, right):
    """Compare mean curves with the sampling error of both."""
    found = np.asarray(found, dtype=float)
    if found.ndim != 3 or found.shape[1] < 10:
        classroom.close(found, np.zeros((2, 10, 30)))
    spread = right.std(1, ddof=1) * np.sqrt(1 / found.shape[1] + 1 / right.shape[1])
    # six and not five: the deviation itself comes from 16 networks
    classroom.close(found.mean(1), right.mean(1), atol=0.003, standard_error=spread, sigmas=6)


with marks.part(
    1,
    "Weights and biases have the variances of mean-field theory, in the first layer too.",
    hint="The variance of a weight is divided by the number of inputs of its own layer. Variances are not deviations.",
    by_hand=True,
):
    net = draw_network(rng, 400, 300, 3, 2.3, 0.4)
    classroom.same(len(net), 3)
    for (W, b), n_in in zip(net, (400, 300, 300), strict=True):
        classroom.close(np.asarray(W) * 0, np.zeros((300, n_in)))
        classroom.close(np.asarray(b) * 0, np.zeros(300))
        # a mean of n squares of Gaussians has a relative deviation of √(2/n)
        classroom.close(np.mean(W**2) * n_in, 2.3, standard_error=2.3 * np.sqrt(2 / (300 * n_in)))
        classroom.close(np.mean(b**2), 0.4, standard_error=0.4 * np.sqrt(2 / 300))
    again = draw_network(rng, 400, 300, 3, 2.3, 0.4)
    assert not np.allclose(net[0][0], again[0][0])
with marks.part(
    1,
    "The explained variance is 1 for the image, 0 for the mean given, and right between.",
    hint="The mean is the one that is given, not that of the images to be explained, and sums run over all images and pixels before the division.",
    by_hand=True,
):
    some, guess = rng.normal(size=(30, 5)) * np.arange(1, 6), rng.normal(size=5)
    noisy = some + 0.3 * rng.normal(size=(30, 5))
    right = 1 - np.sum((some - noisy) ** 2) / np.sum((some - guess) ** 2)
    classroom.close(explained_variance(some, noisy, guess), right, atol=1e-10)
    classroom.close(explained_variance(some, some, guess), 1.0, atol=1e-12)
with marks.part(
    1,
    "The curve of a given network is right, or follows from your own functions.",
    hint="Fit on the one set, judge on the other; one decoder per layer, straight to the image.",
):
    net = [
        (rng.normal(size=(30, m)) * np.sqrt(2.0 / m), 0.3 * rng.normal(size=30))
        for m in (64, 30, 30)
    ]
    z_fit, z_held, right = x_fit, x_held, []
    for W, b in net:
        z_fit, z_held = np.tanh(z_fit @ W.T + b), np.tanh(z_held @ W.T + b)
        dz, dx = z_fit - z_fit.mean(0), x_fit - x_fit.mean(0)
        decoder = np.linalg.solve(dz.T @ dz / 400 + 0.05**2 * np.eye(30), dz.T @ dx / 400)
        back = x_fit.mean(0) + (z_held - z_fit.mean(0)) @ decoder
        right.append(1 - np.sum((x_held - back) ** 2) / np.sum((x_held - x_fit.mean(0)) ** 2))
    found = curve(net, 0.05)
    try:
        classroom.close(found, np.array(right), atol=1e-6)
    except AssertionError:
        # a slip above was paid there
        own = []
        for z_fit, z_held in zip(activations(x_fit, net), activations(x_held, net), strict=True):
            V, a = ridge_decoder(z_fit, x_fit, 0.05)
            own.append(explained_variance(x_held, z_held @ V.T + a, x_fit.mean(0)))
        if not np.ptp(own) > 0.01:
            raise
        classroom.close(found, np.array(own), atol=1e-6)
with marks.part(
    2,
    "The mean curves of both phases agree with a recomputation within the sampling error, or with your own functions on fresh networks.",
    hint="At least 10 different networks in each phase, (floors, networks, layers), the coarse floor first.",
):
    try:
        for phase_name in ("ordered", "chaotic"):
            close_in_mean(known[phase_name], right_known[phase_name])
    except AssertionError:
        # again with what is the student's own; nothing for functions that tell no layers apart
        for phase_name, w2 in (
            ("ordered", mine_graded.sigma_w2_ordered),
            ("chaotic", mine_graded.sigma_w2_chaotic),
        ):
            nets = [
                draw_network(rng, 64, mine_graded.width, 30, w2, mine_graded.sigma_b2)
                for _ in range(12)
            ]
            own = np.array([[curve(net, tau) for net in nets] for tau in floors_graded])
            if not np.ptp(own) > 0.3:
                raise
            close_in_mean(known[phase_name], own)
with marks.part(
    1,
    "The error is that of the mean over networks, and the networks are different ones.",
    hint="A deviation of a sample, with one degree of freedom taken by the mean, over the root of the number of networks.",
):
    for phase_name in ("ordered", "chaotic"):
        found = np.asarray(known[phase_name], dtype=float)
        count = found.shape[1]
        classroom.close(error[phase_name], stats.sem(found, axis=1, ddof=1), rtol=1e-6)
        # Layers are correlated: taken as one, the ratio of variances is Fisher's at its widest.
        right = right_known[phase_name]
        ratio = np.mean(found.var(1, ddof=1)) / np.mean(right.var(1, ddof=1))
        low, high = stats.f.ppf([1e-6, 1 - 1e-6], count - 1, right.shape[1] - 1)
        assert low < ratio < high
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 4. A cutoff with both ends, by hand (4 points, 8 minutes)
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
    ell, censored = cutoff(np.array([0.9, 0.7, 0.3, 0.1]), 0.5)
    classroom.close(ell, 2.5, atol=1e-9)
    classroom.same(bool(censored), False)
### BEGIN HIDDEN TESTS
import numpy as np

mine_graded = classroom.graded()
eta = mine_graded.threshold
rng = np.random.default_rng(mine_graded.width + round(100 * eta))
with marks.part(
    1,
    "A curve that never comes down gives L, censored; one that crosses in the last step does not.",
    hint="Look at the last layer alone: is it above the threshold?",
    by_hand=True,
):
    ell, censored = cutoff(np.linspace(0.99, eta + 0.01, 17), eta)
    classroom.close(ell, 17.0, atol=1e-9)
    classroom.same(bool(censored), True)
    ell, censored = cutoff(np.array([0.9, 0.8, eta]), eta)
    classroom.close(ell, 3.0, atol=1e-9)
    classroom.same(bool(censored), False)
with marks.part(
    1,
    "A curve that is below the threshold from layer 1 on is cut between layers 0 and 1.",
    hint="Layer 0 is the image, which explains all of itself.",
    by_hand=True,
):
    ell, censored = cutoff(np.array([eta / 2, eta / 3, -0.05]), eta)
    classroom.close(ell, (1 - eta) / (1 - eta / 2), atol=1e-9)
    classroom.same(bool(censored), False)
with marks.part(
    1,
    "Of several crossings the deepest counts, at your own threshold.",
    hint="Begin at the last layer and go up.",
    by_hand=True,
):
    deep = int(rng.integers(9, 15))
    line = np.full(20, eta / 2)
    line[:3] = 0.9
    line[deep - 1] = eta + 0.2
    ell, _ = cutoff(line, eta)
    classroom.close(ell, deep + 0.2 / (0.2 + eta / 2), atol=1e-9)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 5. A relative entropy has no first order (7 points, 17 minutes)
#
# Chapter: "How entropy grows with small errors". The paper expands the relative entropy $D$ of an image and its reconstruction in the error $\delta$. Its first-order result (A.14) is, up to notation,
# $\sum_i\sum_{n\ne i}(x_n\delta_i-x_i\delta_n)$, from which it reads that layers contribute additively. You will see that this cannot be.
#
# **Written (3 points).**
# (a) Let $p_t(x)$ be a smooth family of densities, each normalised. Show that $D(p_0\|p_t)=\tfrac12 I\,t^2+O(t^3)$, and give $I$ as an average. Which property of $p_t$ removes the first order? Why has
# $D(p_t\|p_0)$ the same second order?
# (b) A pixel's values are taken for Gaussian, $p_0=\mathcal N(0,1)$, and its reconstruction's for $p_t=\mathcal N(\alpha t,\,e^{\beta t})$. Find the coefficient of $t^2$.
# (c) Show that the printed A.14 is 0 for *any* $\delta$. Two layers contribute errors $\delta=\delta^1+\delta^2$: when do their contributions to $D$ add up at second order?

# %% [markdown] nbgrader="essay second-order 3"
# ### BEGIN SOLUTION
# (a) $D(p_0\|p_t)=-\langle\ln p_t/p_0\rangle_0$. With $u=\partial_t\ln p_t$ at 0: $\ln p_t/p_0=t\,u+\frac12t^2\,\partial_t^2\ln p_t+\dots$. Normalisation, $\int p_t=1$ for all $t$, gives $\langle u\rangle_0=\int\partial_tp_t=0$, and once more
# $\langle\partial_t^2\ln p_t\rangle_0=\int\partial_t^2p_t-\langle u^2\rangle_0=-\langle u^2\rangle_0$. So $D=\frac12t^2\langle u^2\rangle_0$: $I$ is the Fisher information. Exchanging the arguments is
# expanding about the other end, $I$ at $t$ instead of at 0, which differs by $O(t)$ and so in $D$ by $O(t^3)$.
#
# (b) $D(p_0\|p_t)=\frac12\bigl[e^{-\beta t}(1+\alpha^2t^2)-1+\beta t\bigr]$, whose $t^2$ has $\frac12\alpha^2+\frac14\beta^2$. (Or from $u=\alpha x+\frac12\beta(x^2-1)$, $\langle u^2\rangle=\alpha^2+\frac12\beta^2$.)
#
# (c) The term with $n=i$ is zero, so the sum runs over all pairs; it is antisymmetric under $i\leftrightarrow n$, so it is 0. At second order $D=\frac12\langle(u_1+u_2)^2\rangle=D_1+D_2+\langle u_1u_2\rangle$: additive if and
# only if the two relative errors are uncorrelated under $p_0$ ($\langle u_1u_2\rangle=0$).
#
# **Rubric.** 1 each. (a) normalisation named and used (0.5), $I$ and the symmetry (0.5). (b) the coefficient (1; one half for one of its two terms). (c) antisymmetry (0.5), the mixed term (0.5).
# ### END SOLUTION

# %% [markdown]
# **Code (4 points).** With your own $\alpha$ = `mine.kl_mean` and $\beta$ = `mine.kl_log_variance`:
#
# 1. `kl(t)`: $D(p_0\|p_t)$ in closed form, and `kl_back(t)`: $D(p_t\|p_0)$, for arrays $t$.
# 2. `second`: the coefficient of $t^2$, as you found it, to $10^{-6}$.
# 3. `observed_order(sizes, remainders)`: the slope of $\ln|$remainder$|$ against $\ln$ size by least squares.
# 4. `orders`: the observed orders, over `sizes` as given, of
#    `"first"`, what is left of $D$ if one takes the first order (which is 0) for it; `"second"`, what your second order leaves; `"asymmetry"`, $D(p_0\|p_t)-D(p_t\|p_0)$.
#    An expansion with a wrong coefficient shows as an order that is too low, whatever its size.

# %% nbgrader="solution expansion"
sizes = np.geomspace(0.002, 0.05, 8)
orders = {}  # "first", "second", "asymmetry"


def kl(t):
    """Return D(p_0‖p_t), with the shape of ``t``."""
    ### BEGIN SOLUTION
    alpha, beta = mine.kl_mean, mine.kl_log_variance
    return 0.5 * (np.expm1(-beta * t) + beta * t + np.exp(-beta * t) * (alpha * t) ** 2)
    ### END SOLUTION


def kl_back(t):
    """Return D(p_t‖p_0), with the shape of ``t``."""
    ### BEGIN SOLUTION
    alpha, beta = mine.kl_mean, mine.kl_log_variance
    return 0.5 * (np.expm1(beta * t) - beta * t + (alpha * t) ** 2)
    ### END SOLUTION


def observed_order(sizes, remainders):
    """Return p of remainders (n,) that go as sizes^p, sizes (n,)."""
    ### BEGIN SOLUTION
    return float(np.polyfit(np.log(sizes), np.log(np.abs(remainders)), 1)[0])
    ### END SOLUTION


### BEGIN SOLUTION
second = mine.kl_mean**2 / 2 + mine.kl_log_variance**2 / 4
orders["first"] = observed_order(sizes, kl(sizes))
orders["second"] = observed_order(sizes, kl(sizes) - second * sizes**2)
orders["asymmetry"] = observed_order(sizes, kl(sizes) - kl_back(sizes))
### END SOLUTION

# %% nbgrader="tests expansion-tests 4" mflib="no help"
marks = classroom.Marks(4)
with marks.part(1, "The observed order of a power is its exponent, whatever its sign."):
    classroom.close(
        observed_order(np.array([0.1, 0.2, 0.5]), -3 * np.array([0.1, 0.2, 0.5]) ** 2.5),
        2.5,
        atol=1e-6,
    )
### BEGIN HIDDEN TESTS
import numpy as np
from scipy import integrate

mine_graded = classroom.graded()
alpha, beta = mine_graded.kl_mean, mine_graded.kl_log_variance


def right_kl(t, back):
    """Integrate the definition."""

    def log_p(x, t):
        return -0.5 * ((x - alpha * t) ** 2 * np.exp(-beta * t) + beta * t + np.log(2 * np.pi))

    def inside(x):
        ratio = log_p(x, 0) - log_p(x, t)
        return -np.exp(log_p(x, t)) * ratio if back else np.exp(log_p(x, 0)) * ratio

    return integrate.quad(inside, -12, 12, epsabs=1e-12, epsrel=1e-11, limit=400)[0]


with marks.part(
    1,
    "Both relative entropies are right, at errors that are not small, too.",
    hint="Average the logarithm of the ratio of the two densities under the first of them. Is the mean divided by the variance of the second?",
):
    points = np.array([0.15, 0.6, 1.1])
    classroom.close(kl(points), [right_kl(t, False) for t in points], rtol=1e-6)
    classroom.close(kl_back(points), [right_kl(t, True) for t in points], rtol=1e-6)
with marks.part(
    1,
    "The coefficient of the second order is right.",
    hint="Mean and variance contribute a square each. Halve the size of the error: by which factor does the remainder fall?",
):
    classroom.close(second, 0.5 * (alpha**2 + beta**2 / 2), rtol=1e-5)
with marks.part(
    1,
    "The observed orders are those of these sizes.",
    hint="Remainders: the entropy itself, the entropy less its second order, and the difference of the two entropies.",
):
    t = np.geomspace(0.002, 0.05, 8)
    forth = 0.5 * (np.expm1(-beta * t) + beta * t + np.exp(-beta * t) * (alpha * t) ** 2)
    back = 0.5 * (np.expm1(beta * t) - beta * t + (alpha * t) ** 2)

    def slopes(forth, back, coefficient):
        """Return the three orders, in the order of the question."""
        left = (forth, forth - coefficient * t**2, forth - back)
        return np.array([np.polyfit(np.log(t), np.log(abs(each)), 1)[0] for each in left])

    found = [orders[name] for name in ("first", "second", "asymmetry")]
    try:
        classroom.close(found, slopes(forth, back, alpha**2 / 2 + beta**2 / 4), atol=0.02)
    except AssertionError:
        # a slip in the entropies or in the coefficient was paid there
        own = slopes(kl(t), kl_back(t), second)
        if not np.isfinite(own).all():
            raise
        classroom.close(found, own, atol=0.02)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 6. Theory: two predictions (2 points, 4 minutes)
#
# Here calling `mflib.theory.mean_field` is the point. Give
#
# - `critical`: the critical $\sigma_w^2$ of tanh networks at your $\sigma_b^2$, to $10^{-3}$;
# - `predicted_shift`: how many layers deeper your *ordered* network is read if the floor is lowered to a tenth (as `FLOORS` do), for a direction that shrinks at the rate of mean-field theory (question 1b), to $10^{-3}$.
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

from mflib.theory import mean_field as right_theory

mine_graded = classroom.graded()
right_critical = float(right_theory.critical_sigma_w2("tanh", mine_graded.sigma_b2).sigma_w2)
right_chi = float(
    right_theory.fixed_point("tanh", mine_graded.sigma_w2_ordered, mine_graded.sigma_b2).chi_1
)
with marks.part(
    1,
    "The critical weight variance is that of tanh at your bias variance.",
    hint="It is the weight variance at which a small difference neither grows nor shrinks; your bias variance is in your numbers.",
):
    classroom.close(critical, right_critical, rtol=1e-3)
with marks.part(
    1,
    "The predicted shift is that of the ordered network.",
    hint="A squared difference falls by the slope of the correlation map per layer; a floor is a length. The logarithm of the ratio of floors, over the rate per layer.",
):
    classroom.close(predicted_shift, -2 * np.log(10) / np.log(right_chi), rtol=1e-3)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 7. Where is it read deepest? (4 points, 10 minutes)
#
# Chapter: "The cutoff" and "Finding criticality". For each $\sigma_w^2$ of `sweep` (with your $\sigma_b^2$ and width, `DEPTH` layers) take 6 networks, the same seeds at every $\sigma_w^2$ and both floors, and your
# own threshold `mine.threshold`.
#
# - `cutoffs`, an array (2 floors, 7 weight variances, 6 networks). Draw a network once and use it for both floors.
# - `peaks`, an array of two: for each floor the $\sigma_w^2$ at which the cutoff, averaged over networks, is largest: the top of the parabola in $\ln\sigma_w^2$ through the largest value and its two neighbours.
# - `peak_errors`, an array of two, by the jackknife: leave out one network at a time, $\theta_k$ the peak without network $k$; the error is $\sqrt{\tfrac{K-1}{K}\sum_k(\theta_k-\bar\theta)^2}$, $K=6$.
#
# Before you run it, write down for yourself: will the two peaks stand at the same place? At `critical`?

# %% nbgrader="solution sweep"
sweep = np.geomspace(0.8, 3.6, 7)
### BEGIN SOLUTION
cutoffs = np.empty((2, len(sweep), 6))
for i, w2 in enumerate(sweep):
    for seed in range(6):
        net = draw_network(np.random.default_rng(seed), 64, mine.width, DEPTH, w2, mine.sigma_b2)
        for k, tau in enumerate(FLOORS):
            cutoffs[k, i, seed] = cutoff(curve(net, tau), mine.threshold)[0]


def top(means):
    """Return where the parabola in ln σ_w² through the largest of ``means`` (7,) and its neighbours is highest."""
    best = int(np.clip(np.argmax(means), 1, len(sweep) - 2))
    near = slice(best - 1, best + 2)
    c2, c1, _ = np.polyfit(np.log(sweep[near]), means[near], 2)
    return np.exp(-c1 / (2 * c2))


peaks = np.array([top(each.mean(1)) for each in cutoffs])
left_out = np.array(
    [[top(np.delete(each, k, axis=1).mean(1)) for k in range(6)] for each in cutoffs]
)
peak_errors = np.sqrt(5 * left_out.var(1))
### END SOLUTION

# %% nbgrader="tests sweep-tests 4" mflib="no help"
marks = classroom.Marks(4)
### BEGIN HIDDEN TESTS
import numpy as np
from sklearn.datasets import load_digits

mine_graded = classroom.graded()
rng = np.random.default_rng(round(1000 * mine_graded.sigma_b2) + mine_graded.width + 1)
data = load_digits().data / 16
places = np.random.default_rng(0).permutation(len(data))
x_fit, x_held = data[places[:400]], data[places[400:600]]
floors_graded = (mine_graded.floor, mine_graded.floor / 10)
eta, b2, width = mine_graded.threshold, mine_graded.sigma_b2, mine_graded.width
right_sweep = np.geomspace(0.8, 3.6, 7)


def right_cutoff(values):
    """Return the deepest crossing by the definition of question 4."""
    line = np.concatenate([[1.0], values])
    last = np.flatnonzero(line > eta)[-1]
    if last == len(values):
        return float(last)
    return last + (line[last] - eta) / (line[last] - line[last + 1])


def right_cutoffs(rng, sigma_w2, networks):
    """Return cutoffs (2 floors, networks) of fresh networks, by normal equations."""
    z = np.broadcast_to(np.concatenate([x_fit, x_held]), (networks, 600, 64))
    dx, dx_held = x_fit - x_fit.mean(0), x_held - x_fit.mean(0)
    found = np.empty((2, networks, 30))
    for layer in range(30):
        n_in = z.shape[2]
        weight = rng.normal(size=(networks, n_in, width)) * np.sqrt(sigma_w2 / n_in)
        z = np.tanh(z @ weight + rng.normal(size=(networks, 1, width)) * np.sqrt(b2))
        dz = z - z[:, :400].mean(1, keepdims=True)
        gram = dz[:, :400].mT @ dz[:, :400] / 400
        cross = dz[:, :400].mT @ dx / 400
        for k, floor in enumerate(floors_graded):
            decoder = np.linalg.solve(gram + floor**2 * np.eye(width), cross)
            missed = ((dx_held - dz[:, 400:] @ decoder) ** 2).sum((1, 2))
            found[k, :, layer] = 1 - missed / (dx_held**2).sum()
    return np.array([[right_cutoff(values) for values in each] for each in found])


right_all = np.array([right_cutoffs(rng, w2, 12) for w2 in right_sweep]).transpose(1, 0, 2)


def right_top(means):
    """Return the summit of the parabola through the largest value and its neighbours."""
    best = int(np.clip(np.argmax(means), 1, len(right_sweep) - 2))
    near = slice(best - 1, best + 2)
    c2, c1, _ = np.polyfit(np.log(right_sweep[near]), means[near], 2)
    return np.exp(-c1 / (2 * c2))


def close_in_mean(found, right):
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
        close_in_mean(np.asarray(cutoffs, dtype=float), right_all)
    except AssertionError:
        # slips above were paid there; nothing for functions that tell no networks apart
        own = np.empty((2, 7, 8))
        for i, w2 in enumerate(right_sweep):
            for k in range(8):
                net = draw_network(rng, 64, width, 30, w2, b2)
                for m, floor in enumerate(floors_graded):
                    own[m, i, k] = cutoff(curve(net, floor), eta)[0]
        if not np.ptp(own.mean(2)) > 1e-3:
            raise
        close_in_mean(np.asarray(cutoffs, dtype=float), own)
with marks.part(
    1,
    "The peaks are the tops of the parabolas through your own mean cutoffs.",
    hint="In the logarithm of the weight variance, three points; average over networks first.",
):
    rows = np.asarray(cutoffs, dtype=float)
    assert np.ptp(rows.mean(2), axis=1).min() > 1e-3
    classroom.close(peaks, [right_top(each.mean(1)) for each in rows], rtol=1e-5)
with marks.part(
    1,
    "The errors of the peaks are those of the jackknife.",
    hint="Leave one network out at all weight variances at once, and note the factor in front of the sum: the leave-one-out values lie close together.",
):
    rows = np.asarray(cutoffs, dtype=float)
    assert np.ptp(rows.mean(2), axis=1).min() > 1e-3
    away = np.array(
        [[right_top(np.delete(each, k, axis=1).mean(1)) for k in range(6)] for each in rows]
    )
    away = away - away.mean(1, keepdims=True)
    classroom.close(peak_errors, np.sqrt(5 / 6 * (away**2).sum(1)), rtol=1e-4)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 8. Shrinking or scrambling? (9 points, 15 minutes)
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


def right_shift(curves):
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


def own_shift(curves):
    """Return the same with the cutoff as the notebook has it, whose slips were paid above."""
    ends = np.array([[cutoff(values, 0.1)[0] for values in each] for each in np.asarray(curves)])
    moved = ends[1] - ends[0]
    return moved.mean(), moved.std(ddof=1) / np.sqrt(len(moved))


def check_shifts(position):
    """Compare one number of both pairs with what follows from the notebook's own curves."""
    for phase_name in ("ordered", "chaotic"):
        curves = np.asarray(known[phase_name], dtype=float)
        assert curves.ndim == 3
        assert np.ptp(curves) > 0.3
        found = shifts[phase_name][position]
        try:
            classroom.close(found, right_shift(curves)[position], rtol=1e-5, atol=1e-7)
        except AssertionError:
            own = own_shift(curves)[position]
            if not np.isfinite(own) or own == 0:
                raise
            classroom.close(found, own, rtol=1e-5, atol=1e-7)


with marks.part(
    1,
    "The mean shifts follow from your own curves.",
    hint="The fine floor less the coarse one, at a threshold of 0.1, network by network.",
):
    check_shifts(0)
with marks.part(
    1,
    "The errors are those of paired differences.",
    hint="The two floors share their networks: take the deviation of the differences, not of the two cutoffs.",
):
    check_shifts(1)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# **Figure (3 points).** Two panels. *Left*: explained variance by layer, both phases and both floors, mean with a band of 95 %, your threshold as a line. *Right*: mean cutoffs of question 7 over $\sigma_w^2$ at both floors with error bars,
# `critical` as a vertical line, and the peaks. It must be readable without this text.

# %% nbgrader="essay figure 3"
### BEGIN SOLUTION
from scipy import stats

fig, (left, right_panel) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
depths = np.arange(1, DEPTH + 1)
for phase, colour in (("ordered", "C0"), ("chaotic", "C1")):
    for k, style in enumerate(("-", "--")):
        mean = known[phase][k].mean(0)
        half = stats.t.ppf(0.975, known[phase].shape[1] - 1) * error[phase][k]
        left.plot(
            depths,
            mean,
            style,
            color=colour,
            label=rf"{phase}, floor $\tau={FLOORS[k]:g}$",
        )
        left.fill_between(depths, mean - half, mean + half, color=colour, alpha=0.2, lw=0)
left.axhline(mine.threshold, color="0.5", lw=1, label="threshold")
left.set(xlabel=r"layer $\ell$", ylabel=r"explained variance $R^2$")
left.legend(fontsize=9)
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
# Rubric, 1 point each: the left panel, with bands that are intervals of the mean; the right panel, with error bars,
# critical line and peaks; axes, units and legend say all, and phases and floors are told apart without guessing.
### END SOLUTION

# %% [markdown]
# **Written (4 points).** In at most 20 lines, with your own numbers:
#
# (a) Which network loses the image by shrinking, which by scrambling, and by which sign in your figure do you know? Why does a decoder that is sharper by a factor of ten not help the one?
# (b) Is your measured ordered shift larger or smaller than `predicted_shift`, by how many standard errors? Not all directions in which images differ shrink at the same rate in a network of finite width. What
# does that do to the shift at threshold 0.1, and what would it do at 0.5? Is the chaotic shift zero, or has it a sign? (Count the parameters of a decoder, and the images it was fitted on.)
# (c) Where do the two peaks stand against each other and against `critical`? Explain from (a) on which side of the critical point a lower floor pulls the peak, and why "the $\sigma_w^2$ that is read deepest" is not a measurement of criticality.
# (d) Which of the two losses would you try to repair by more precise arithmetic, by normalising each layer's activations, by a decoder with a hidden layer?

# %% [markdown] nbgrader="essay interpretation 4"
# ### BEGIN SOLUTION
# (a) The ordered network shrinks: its curve moves by many layers with the floor. What differs between images is still a nearly linear function of the image, only smaller by $\sqrt{\chi_1}$ per layer, and a sharper decoder amplifies it. The chaotic
# network scrambles: both floors give nearly the same curve. Activations of different images stay far apart, far above either floor; but they are not linear functions of the image any more, and no gain undoes that.
#
# (b) The measured shift is somewhat smaller than predicted. Mean-field theory has one rate; in a product of random matrices of finite width every direction has its own, the typical ones below the mean. At a threshold of 0.1
# the slowest directions decide, whose rate is nearest to the prediction; at 0.5 several directions must be alive at once, the faster ones among them, and the shift is shorter still. The chaotic shift is small and mostly negative: where
# nothing can be read, a decoder of $N$ inputs fitted on 400 images fits noise, which costs held-out variance of the order $N/400$; a larger floor is a stronger regulariser and loses less. The shift shrinks with more images: it is not a property of the network.
#
# (c) The peak at the fine floor stands at a smaller $\sigma_w^2$ than at the coarse one, and well below `critical`; the coarse one stands near `critical`, on either side, as the number of the floor happens to be. A lower floor lengthens the cutoff on the ordered side only, by $\ln10/(\frac12|\ln\chi_1|)$ layers, the more the closer to criticality; scrambling limits both sides at finite
# depth, since nonlinearity acts at every $\sigma_w^2$, and less where signals are small. So the peak lies where shrinking, which depends on the floor, and distortion, which does not, balance. It can be put elsewhere by choosing the floor
# and the threshold. What marks the transition is the change of behaviour: whether the floor matters (the chapter's search uses a change of sign).
#
# (d) More precise arithmetic and normalising repair shrinking; normalising is a gain, which brings the signal above the floor (in a network that goes on, it also moves $\chi_1$). Against scrambling neither helps. A nonlinear decoder can, if it has enough images; its cost grows with every layer.
#
# **Rubric.** 1 each. (a) both, with the sign and the reason. (b) the comparison in standard errors with the spread of rates; sign of the chaotic shift with overfitting. (c) the order of the peaks with the mechanism. (d) the right remedy on the right side. Take off 0.5 where
# no numbers are given, and nothing where a student's own numbers do not resolve an effect and the text says so.
# ### END SOLUTION
