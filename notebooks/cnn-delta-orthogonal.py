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
# # Convolutional networks and delta-orthogonal kernels
#
# ## What you will see
#
# A convolutional layer does two things: it mixes channels, as a fully connected layer mixes neurons, and it
# mixes places. The first is governed by the theory of the earlier chapters. The second has a theory of its own, in which
# every spatial frequency has its own depth scale. This chapter
#
# - follows the covariance of the signals at different places of one image through the layers, exactly, and
#   compares random networks with finitely many channels with it;
# - shows that ordinary kernels blur: deep down, how two places are correlated depends on their distance only; and that kernels with all their
#   variance in the centre, *delta kernels*, keep every spatial frequency alive;
# - draws the spectra of the Jacobian for three kinds of kernels, two of which cannot have isometry;
# - trains grids of convolutional networks against $4.5\,\xi_c$, against fully connected ones, and mixed with them;
# - trains a plain tanh network of a thousand convolutional layers in about a minute on two processor cores.

# %% tags=["parameters"]
seed: int = 0  # seed of every random draw of the chapter [0, 1000000]
device: str = "auto"  # where networks are sampled and trained {auto, cpu, cuda}
scale: str = "quick"  # what the figures are called; the profile sets the sizes {quick, paper}
activation: str = "tanh"  # activation of every figure {tanh, erf, arctan, softsign, hard-tanh}
sigma_b2: float = 0.05  # bias variance of the theory figures and of the grids [0, 4]
ring: int = 24  # places on the ring of the theory figures [6, 64]
kernel: int = 3  # taps of a kernel on the ring, odd, not 1 [3, 5]
picture_channels: int = 128  # channels of the network whose layers are pictured [8, 1024]
spectrum_channels: int = 48  # channels of the networks whose Jacobians are taken apart [4, 256]
spectrum_depth: int = 16  # layers of these Jacobians [1, 1000]
dataset: str = "digits"  # images to be learnt {digits, mnist, fashion-mnist, cifar10}
channels: int = 16  # channels of the trained networks [3, 1024]
stride2: int = 1  # convolutions of stride 2 behind the first one [0, 3]
readout: str = "flatten"  # how the last feature map meets the linear readout {flatten, pool}
width: int = 100  # neurons per layer of the fully connected networks beside them [8, 4096]
depths: list[int] = [5, 8, 12, 18, 27, 40, 60]  # depths of the grids, rising, at least 3, each [2, 1000]
n_sigma_w2: int = 9  # weight variances of each grid [3, 200]
grid_seeds: int = 1  # networks per point of the grids [1, 50]
steps: int = 80  # training steps of the grids [1, 1000000]
learning_rate: float = 1.5e-2  # step size of the grids (0, 10]
batch_size: int = 32  # samples per step [1, 100000]
scored_samples: int = 400  # training and test samples behind each accuracy [50, 100000]
curve_depth: int = 40  # depth of the learning curves [2, 1000]
curve_steps: int = 160  # training steps of the learning curves [10, 1000000]
curve_points: int = 16  # how often the learning curves are scored [4, 1000]
curve_window: int = 2  # scores in the moving average of the learning curves [1, 100]
n_seeds: int = 5  # networks per learning curve, with seeds seed, seed + 1, … [2, 50]
deep_depth: int = 1000  # layers of the very deep networks [10, 20000]
deep_steps: int = 60  # their training steps [3, 1000000]
deep_q_star: float = 1e-3  # variance of their pre-activations [0.00000001, 1]
deep_learning_rate: float = 1e-4  # their step size (0, 1]
deep_momentum: float = 0.9  # their momentum [0, 0.999]
deep_gain: float = 10.0  # factor on their readout's weights (0, 1000]
deep_seeds: int = 3  # very deep networks of each kind [2, 50]
deep_channels: int = 16  # their channels [3, 1024]
deep_batch_size: int = 32  # samples per step of theirs [1, 100000]
deep_biases: bool = True  # whether their biases are trained
recipe_depth: int = 100  # layers of the networks from which one ingredient is left out [10, 10000]
recipe_learning_rate: float = 4e-4  # their step size (0, 1]
rate_depths: list[int] = [30, 100, 300]  # depths at which learning rates are compared, rising, at least 2, each [5, 10000]

# %% [markdown]
# ## What the paper claims
#
# This part of the paper {cite}`pabari2024meanfield` follows Xiao and others {cite}`xiao2018dynamical`. Its claims:
#
# 1. The covariance of a signal between places follows the map $\Sigma^{l+1} = A\star\mathcal C(\Sigma^l)$, with the fixed point
#    $\Sigma^*_{\alpha\alpha'} = q^*(\delta_{\alpha\alpha'} + (1-\delta_{\alpha\alpha'})\,c^*)$, the same $q^*$ and $c^*$ as in a fully
#    connected network (its §3.3, eqs. 14 to 18).
# 2. Near it, deviations die with the rates $\chi_{q^*}$ and $\chi_{c^*}$, and every Fourier mode has a depth scale
#    $\xi^{-1} = -\log(\chi_{c^*}\lambda)$; one distribution of the variance over the kernel makes every one of these factors $\lambda$ equal to 1 (eqs. 19
#    to 22).
# 3. Independent Gaussian kernels cannot give isometry; delta-orthogonal ones can, and learn faster (§3.3, fig. 3).
# 4. $4.5\,\xi_c$ bounds the trainable depth, as it does without convolutions, and test accuracy is much better (§4.5, fig. 4).
# 5. The scheme serves networks that mix convolutional and fully connected layers (§1), and networks of
#    10,000 layers (§2, §5).
#
# ## Theory
#
# ### A covariance between places
#
# Layer $l$ has $C$ channels at each place $\alpha$ of the image, and
#
# ```{math}
# :label: eq-cnn-network
# h_j^{l+1}(\alpha) = \sum_{i=1}^{C}\;\sum_{|\beta|\le k} \omega_{ij}^{l+1}(\beta)\, \varphi\big(h_i^l(\alpha+\beta)\big) + b_j^{l+1},
# \qquad \omega_{ij}(\beta) \sim \mathcal N\!\Big(0, \tfrac{\sigma_w^2 v_\beta}{C}\Big),
# ```
#
# where the image closes on itself and the *variance vector* $v_\beta\ge0$, with $\sum_\beta v_\beta=1$, says how the variance of a kernel is
# spread over its taps. The paper begins with the uniform one, $v_\beta = 1/(2k+1)$. With many channels the
# $h_j(\alpha)$, $\alpha=1\dots n$, are jointly Gaussian, independent between channels, with a covariance
# $\Sigma_{\alpha\alpha'}$ that follows
#
# ```{math}
# :label: eq-cnn-map
# \begin{aligned}
# \Sigma^{l+1} &= A \star \mathcal C(\Sigma^l), &
# [\mathcal C(\Sigma)]_{\alpha\alpha'} &= \sigma_w^2\,\mathbb E_{h\sim\mathcal N(0,\Sigma)}\big[\varphi(h_\alpha)\varphi(h_{\alpha'})\big] + \sigma_b^2, \\
# && [A\star B]_{\alpha\alpha'} &= \sum_\beta v_\beta\, B_{\alpha+\beta,\,\alpha'+\beta} .
# \end{aligned}
# ```
#
# The paper writes the uniform weights as a matrix $A$, its eq. 15, hence the name of the average $A\star$. (It has nothing to do with the slopes $A^l$ of
# {doc}`dynamical-isometry`.) $\mathcal C$ acts on each pair of places by itself: it is the correlation map of {doc}`fc-theory`. $A\star$ averages over pairs that are shifted
# *together*. So it never touches the distance $\alpha-\alpha'$, and what has the same value at all pairs of one distance passes through
# it unchanged. That is why the fixed point is that of a fully connected network.
#
# ### Every frequency has its own depth scale
#
# Let $\epsilon_{\alpha\alpha'} = \Sigma_{\alpha\alpha'}-\Sigma^*_{\alpha\alpha'}$ be small, and let $d=\alpha'-\alpha$ be fixed. As a function of
# $\alpha$, $\epsilon$ is then a periodic function, and $A\star$ convolves it with $v$: it multiplies the Fourier mode of wave number $\kappa$ by
#
# ```{math}
# :label: eq-cnn-lambda
# \lambda_\kappa = \sum_\beta v_\beta\, e^{2\pi i \kappa\beta/n} .
# ```
#
# $\mathcal C$ multiplies an off-diagonal deviation ($d\ne0$) by $\chi_{c^*} = \sigma_w^2\,\mathbb E[\varphi'(h_1)\varphi'(h_2)]$ and a diagonal one by
# $\chi_{q^*} = \sigma_w^2\,\mathbb E[\varphi'(h)^2+\varphi(h)\varphi''(h)]$. (The diagonal also feeds the off-diagonal entries, but nothing
# comes back, so that the rates stay these two.) Together,
#
# ```{math}
# :label: eq-cnn-xi
# \xi_{\kappa}^{-1} = -\log\big(\chi_{c^*}\,|\lambda_\kappa|\big) \quad (d\ne0),
# \qquad
# \xi_{q,\kappa}^{-1} = -\log\big(\chi_{q^*}\,|\lambda_\kappa|\big) \quad (d=0).
# ```
#
# On the critical line, $\chi_{c^*}=1$, $\xi_\kappa$ is infinite for exactly those modes with $|\lambda_\kappa|=1$. The mode $\kappa=0$ is always one of them. All of
# them are only if $v$ has a single entry (exercise 1); if moreover $\lambda_\kappa=1$, so that patterns do not move, that entry is the one in the centre: a *delta
# kernel*. (A mode of $\Sigma$ is not a mode of the signal. It says how the correlation between two places changes when both are moved together.)

# %% tags=["hide-input"]
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mflib import report
from mflib.report import figures
from mflib.theory import convolution, mean_field

report.begin("cnn-delta-orthogonal", seed=seed, device=device, scale=scale)
WORD = {"gaussian": "Gaussian", "delta-orthogonal": "delta-orthogonal", "orthogonal": "orthogonal"}
line = float(mean_field.critical_sigma_w2(activation, sigma_b2).sigma_w2)
KERNELS = {
    kind: convolution.kernel_variances(kind, kernel)
    for kind in ("uniform", "delta")
}

# %% [markdown]
# Below, the exact map {eq}`eq-cnn-map` is iterated on a ring, at the critical point, from the covariance of a rough random
# signal. With uniform kernels the pattern is smeared along the diagonal, which is the direction in which $A\star$ averages, and is soon gone:
# how strongly two places are correlated depends only on how far apart they are. With delta kernels the pattern keeps its shape. Only its contrast falls, slowly, because
# at $\chi_{c^*}=1$ the approach to $\Sigma^*$ is a power of the depth and not an exponential.

# %%
generator = np.random.default_rng(seed)
signal = generator.standard_normal((4, ring))  # four channels of noise on the ring
starts = {
    kind: convolution.image_covariance(signal, line, sigma_b2, v)
    for kind, v in KERNELS.items()
}
shown_layers = [0, 2, 8, 32]
paths = {
    kind: convolution.relaxation(
        activation, line, sigma_b2, v, starts["delta"], shown_layers[-1]
    )
    for kind, v in KERNELS.items()
}


# %% tags=["hide-input"]
def correlation(sigma):
    """Return the correlation matrix of a covariance matrix."""
    root = np.sqrt(np.diagonal(sigma))
    return sigma / root[:, None] / root


fig, axes = plt.subplots(
    2, len(shown_layers), figsize=(11, 5.8), sharex=True, sharey=True
)
off_diagonal = np.triu_indices(ring, 1)
left_over = {}
for column, layer in zip(axes.T, shown_layers, strict=True):
    pictures = {kind: correlation(paths[kind].sigma[layer]) for kind in KERNELS}
    reach = pictures["delta"][off_diagonal]
    for axis, kind in zip(column, KERNELS, strict=True):
        mesh = axis.imshow(
            pictures[kind],
            vmin=reach.min(),
            vmax=reach.max(),
            cmap=figures.SEQUENTIAL,
            origin="lower",
        )
        axis.grid(False)
        axis.set_title(f"{kind}, layer {layer}")
        left_over[kind, layer] = float(pictures[kind][off_diagonal].std())
    column[-1].set_xlabel(r"place $\alpha$")
    fig.colorbar(mesh, ax=column, location="bottom", label="correlation")
for axis in axes[:, 0]:
    axis.set_ylabel(r"place $\alpha'$")
report.figure(
    fig,
    "cnn-relaxation",
    caption=rf"Correlation between the places of one signal, layer by layer, in a wide {activation} network on a ring of {ring} places at the "
    rf"critical point ($\sigma_b^2={sigma_b2:g}$, $\sigma_w^2={line:.4f}$), by iteration of the exact map. Top: uniform kernels of {kernel} taps; bottom: delta "
    "kernels. The colours of each column span the range of its lower panel: all correlations grow with depth, what differs is how long they differ.",
    alt="Standard deviation of the correlation over pairs of places: "
    + "; ".join(
        f"{kind} kernels "
        + ", ".join(f"{left_over[kind, n]:.2g} at layer {n}" for n in shown_layers)
        for kind in KERNELS
    )
    + ".",
    scale="exact",
    device="CPU",
)

# %% [markdown]
# The rates can be read from the iteration and compared with {eq}`eq-cnn-xi`, mode by mode, on a ring and on a torus, for uniform and
# delta kernels and for one with random variances (whose $\lambda_\kappa$ are complex: patterns travel as they
# fade). A mode is compared where its own linear rate is what rules its late layers; a product of two slow modes can overtake a
# fast one, and those modes are left out, as are modes that the kernel erases at once.

# %% tags=["hide-input"]
random_v = generator.dirichlet(np.ones(kernel))
cases = {
    "ring, uniform": (KERNELS["uniform"], ring),
    "ring, delta": (KERNELS["delta"], ring),
    "ring, random": (random_v, ring),
    "torus, uniform": (convolution.kernel_variances("uniform", (3, 3)), (5, 5)),
}
ordered, chaotic = 0.85 * line, 1.4 * line
measured, n_modes = [], 0
for (label, (v, size)), sigma_w2 in itertools.product(
    cases.items(), (ordered, chaotic)
):
    noise = generator.standard_normal((6, *np.atleast_1d(size)))
    near = convolution.fixed_point(activation, sigma_w2, sigma_b2)
    # so close to the fixed point that products of deviations are below rounding
    start = near.covariance(size) + 1e-7 * float(near.q) * (
        convolution.image_covariance(noise, 1.0, 0.0, v)
    )
    rates = convolution.measured_rates(
        convolution.relaxation(activation, sigma_w2, sigma_b2, v, start, 40)
    )
    usable = rates.clean & np.isfinite(rates.error)
    variance = np.zeros(usable.shape, dtype=bool)
    variance.reshape(-1)[: int(np.prod(size))] = True  # the difference d = 0
    n_modes += usable.size
    measured.append(
        pd.DataFrame(
            {
                "kernel": label,
                "phase": "ordered" if sigma_w2 < line else "chaotic",
                "of": np.where(variance[usable], "variance", "covariance"),
                "predicted": np.abs(rates.predicted[usable]),
                "measured": np.abs(rates.rate[usable]),
                "difference": np.abs(rates.rate[usable] - rates.predicted[usable]),
            }
        )
    )
measured = pd.concat(measured, ignore_index=True)

modes = np.arange(ring // 2 + 1)
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(12.5, 4.2))
for k, (label, v) in enumerate(
    {
        "uniform, 3 taps": convolution.kernel_variances("uniform", 3),
        "uniform, 5 taps": convolution.kernel_variances("uniform", 5),
        "delta": convolution.kernel_variances("delta", 3),
    }.items()
):
    left.plot(
        modes,
        np.abs(convolution.mode_eigenvalues(v, ring))[: modes.size],
        "osD"[k] + "-",
        ms=5,
        color=f"C{k}",
        label=label,
    )
left.set(
    xlabel=r"wave number $\kappa$",
    ylabel=r"$|\lambda_\kappa|$",
    ylim=(-0.03, 1.05),
    title="factor of a mode in one layer",
)
left.legend(fontsize="small")
scan = np.unique(
    np.concatenate(
        [
            np.linspace(0.4, 2.2, 300) * line,
            line * (1 + np.geomspace(1e-4, 0.3, 80)),
            line * (1 - np.geomspace(1e-4, 0.3, 80)),
        ]
    )
)
scales = convolution.depth_scales(
    activation, scan, sigma_b2, KERNELS["uniform"], ring
)
for k, mode in enumerate((0, 1, 2, 4)):
    middle.semilogy(
        scan,
        scales.xi_c[:, mode],
        color=f"C{k}",
        label=rf"$\kappa={mode}$" + (", and all of delta" if mode == 0 else ""),
    )
middle.axvline(line, color="0.5", lw=1, ls=":")
middle.set(
    xlabel=r"weight variance $\sigma_w^2$",
    ylabel=r"depth scale $\xi_\kappa$ (layers)",
    ylim=(0.3, 1e3),
    title=f"uniform kernels of {kernel} taps",
)
middle.legend(fontsize="small")
for k, (label, group) in enumerate(measured.groupby("kernel", sort=False)):
    right.plot(
        group.predicted,
        group.measured,
        "osD^"[k],
        ms=5,
        alpha=0.6,
        color=f"C{k}",
        label=label,
    )
right.axline((0, 0), slope=1, color="0.5", lw=1, ls="--")
right.set(
    xlabel=r"$\chi\,|\lambda_\kappa|$",
    ylabel="measured factor per layer",
    title="exact map against its linearisation",
)
right.legend(fontsize="small")
xi_1 = float(
    convolution.depth_scales(
        activation, line, sigma_b2, KERNELS["uniform"], ring
    ).xi_c[1]
)
report.figure(
    fig,
    "cnn-modes",
    caption=rf"Left: factor by which one convolution on a ring of {ring} places multiplies a Fourier mode. Middle: depth scale of four modes against "
    rf"weight variance ({activation}, $\sigma_b^2={sigma_b2:g}$); on the critical line (dotted) only the mode $\kappa=0$ of uniform kernels diverges, but every mode of delta "
    "kernels. Right: factor per layer measured on the exact map against the predicted one, for variances and covariances, in both phases.",
    alt=f"With three uniform taps the slowest non-constant mode has a depth scale of {xi_1:.1f} layers on the critical line. {len(measured)} measured factors, of {n_modes} modes, "
    f"differ from the predicted ones by {measured.difference.max():.2g} at most.",
    scale="exact",
    device="CPU",
)

# %% [markdown]
# ### Finitely many channels
#
# The map is exact for infinitely many channels. With $C$ of them one network's covariance fluctuates as $C^{-1/2}$, and the mean over
# networks is off by a bias of order $1/C$, just as in a fully connected network of width $C$: the average runs over channels, not
# over places.

# %%
from mflib.experiment import scaling, signals

channel_counts = np.array([8, 16, 32, 64])
drawn_per_channel, sampled_depth, sampled_ring = 250, 8, 4
start = 0.9 + 0.1 * np.eye(sampled_ring)
start[0] *= 1.2  # one place louder than the others, so that the modes are in play
start[:, 0] *= 1.2
law = dict(
    sigma_w2=1.2 * float(mean_field.critical_sigma_w2(activation, 0.0).sigma_w2),
    sigma_b2=0.0,
    sigma_0=start,
    depth=sampled_depth,
)
deviations = []
for kind, v in KERNELS.items():
    limit = start
    for _ in range(sampled_depth):
        limit = convolution.covariance_map(
            activation, limit, law["sigma_w2"], 0.0, v
        )
    for n_channels in channel_counts:
        drawn = signals.sample_covariance(
            activation,
            channels=int(n_channels),
            size=sampled_ring,
            variances=v,
            n_networks=drawn_per_channel * int(n_channels),
            seed=seed,
            **law,
        )[:, -1]
        # the trace and the mean over pairs, two numbers per network
        trace = np.einsum("naa->n", drawn) / sampled_ring
        pairs = (drawn.sum((1, 2)) / sampled_ring - trace) / (sampled_ring - 1)
        for name, values, exact in (
            ("variance", trace, np.trace(limit) / sampled_ring),
            (
                "covariance",
                pairs,
                (limit.sum() - np.trace(limit)) / sampled_ring / (sampled_ring - 1),
            ),
        ):
            deviations.append(
                {
                    "kernel": kind,
                    "moment": name,
                    "channels": n_channels,
                    "bias": abs(values.mean() - exact),
                    "error": values.std(ddof=1) / np.sqrt(len(values)),
                    "spread": values.std(ddof=1),
                }
            )
deviations = pd.DataFrame(deviations)


# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(10.5, 4.3))
slopes = {"bias": {}, "spread": {}}
for axis, quantity, power in zip(axes, slopes, (-1.0, -0.5), strict=True):
    for k, ((kind, name), rows) in enumerate(
        deviations.groupby(["kernel", "moment"], sort=False)
    ):
        values = rows[quantity].to_numpy()
        error = rows.error.to_numpy() / (1 if quantity == "bias" else np.sqrt(2))
        slopes[quantity][kind, name] = scaling.log_slope(
            channel_counts.astype(float), values, error
        )
        axis.errorbar(
            channel_counts,
            values,
            2 * error,
            fmt="osD^"[k] + "-",
            capsize=3,
            color=f"C{k}",
            label=f"{name}, {kind}: {slopes[quantity][kind, name][0]:.2f}",
        )
    guide = values[0] * 1.5 * (channel_counts / channel_counts[0]) ** power
    axis.plot(
        channel_counts, guide, color="0.5", lw=1, ls=":", label=f"slope {power:g}"
    )
    axis.set(xscale="log", yscale="log", xlabel="channels $C$", ylabel=quantity)
    axis.set_xticks(channel_counts, channel_counts)
    axis.minorticks_off()
    axis.legend(fontsize="small")
report.figure(
    fig,
    "cnn-channels",
    caption=rf"Distance from the map of infinitely many channels after {sampled_depth} layers of {activation}, on a ring of {sampled_ring} places ($\sigma_w^2={law['sigma_w2']:.3g}$, no biases): bias of the mean over networks (left) and standard "
    rf"deviation between networks (right), of the mean variance and the mean covariance, against the number of channels; {drawn_per_channel} networks per channel, two standard errors. The legend "
    "gives the measured slopes.",
    alt="Slopes of the bias: "
    + ", ".join(
        f"{kind} {name} {v[0]:.2f} ± {2 * v[1]:.2f}"
        for (kind, name), v in slopes["bias"].items()
    )
    + "; of the spread: "
    + ", ".join(
        f"{kind} {name} {v[0]:.2f}" for (kind, name), v in slopes["spread"].items()
    )
    + ".",
)

# %% [markdown]
# ### What a deep layer sees
#
# Two handwritten digits are sent through one sampled network with uniform and one with delta kernels. The pictures show, place by place, how far apart
# the two images are, in the root mean square over channels.

# %%

import torch

from mflib.experiment import data, networks

digits = data.load("digits", input_range=(-0.5, 0.5))
which = [int((digits.y_train == label).nonzero()[0]) for label in (3, 8)]
two = digits.x_train[which]
pictured = [1, 5, 15, 40]
differences = {}
for kind, scheme in (("uniform", "gaussian"), ("delta", "delta-orthogonal")):
    network = networks.Convolutional.draw(
        activation,
        sigma_w2=[line],
        sigma_b2=sigma_b2,
        channels=picture_channels,
        depth=pictured[-1],
        image_shape=digits.image_shape,
        n_out=digits.n_classes,
        seeds=[seed],
        stride2=0,
        initialisation=scheme,
    )
    layers = network.pre_activations(two)
    for layer in pictured:
        z = layers[layer - 1][0]
        differences[kind, layer] = (z[0] - z[1]).square().mean(0).sqrt().numpy()

# %% tags=["hide-input"]
fig, axes = plt.subplots(2, 1 + len(pictured), figsize=(11, 4.6))
side = digits.image_shape[1:]
for axis, image, label in zip(axes[:, 0], two, (3, 8), strict=True):
    axis.imshow(image.numpy().reshape(side), cmap="gray")
    axis.set_title(f"input, a {label}")
contrast = {}
for row, kind in zip(axes, ("uniform", "delta"), strict=True):
    for axis, layer in zip(row[1:], pictured, strict=True):
        map_here = differences[kind, layer]
        axis.imshow(
            map_here / map_here.max(), vmin=0, vmax=1, cmap=figures.SEQUENTIAL
        )
        axis.set_title(f"{kind}, layer {layer}")
        contrast[kind, layer] = float(map_here.std() / map_here.mean())
for axis in axes.flat:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)
report.figure(
    fig,
    "cnn-picture",
    caption=rf"Left: two handwritten digits. Right: distance between their pre-activations at each place, in one sampled {activation} network with uniform Gaussian kernels (top) and one with "
    rf"delta-orthogonal kernels (bottom), {picture_channels} channels, at the critical point; each picture is scaled to its largest value.",
    alt="Relative contrast of the pictures, standard deviation over mean: "
    + "; ".join(
        f"{kind} kernels "
        + ", ".join(f"{contrast[kind, n]:.2f} at layer {n}" for n in pictured)
        for kind in ("uniform", "delta")
    )
    + ".",
)

# %% [markdown]
# With uniform kernels fifteen layers suffice to make every place as different from one image to the other as any other place. With delta kernels
# the picture of the difference is the same after forty layers.

# %% [markdown]
# ### The spectrum of a convolutional Jacobian
#
# A convolution is a linear map from all places and channels to all places and channels, and on a Fourier basis of places it falls apart into one
# $C\times C$ matrix for each frequency. With independent Gaussian kernels each of these matrices is Gaussian, so the layer
# has the spectrum of Marchenko and Pastur, and a deep network that of Gaussian weights in {doc}`dynamical-isometry`. With
# delta-orthogonal kernels all these matrices are one orthogonal matrix: before training, such a network is a fully connected one of width $C$ at each
# place, all with the same weights, and the spectrum is that of orthogonal weights at that width. A third kind is in wide use: the
# kernel, reshaped to a matrix with a row for each tap and input channel, is made orthogonal. The matrix is then orthogonal; the
# convolution is not, because patches overlap: at each frequency what acts is a block of an orthogonal matrix, one in nine of its rows for $3\times3$ taps, and such a block
# has the relative variance $1-\frac19=\frac89$ (computed below), hardly less than the 1 of a Gaussian matrix.

# %%
from mflib.experiment import jacobian
from mflib.theory import isometry

isometric = isometry.critical_point(activation, spectrum_depth, variance=0.25)
places = 3
noise = torch.randn(
    1,
    spectrum_channels * places**2,
    dtype=torch.float64,
    generator=torch.Generator().manual_seed(seed),
)
noise *= (
    (isometric.q - isometric.sigma_b2) / isometric.sigma_w2 / noise.square().mean()
) ** 0.5
log_lambda = {}
for scheme in ("delta-orthogonal", "orthogonal", "gaussian"):
    network = networks.Convolutional.draw(
        activation,
        sigma_w2=[isometric.sigma_w2] * 2,
        sigma_b2=isometric.sigma_b2,
        channels=spectrum_channels,
        depth=spectrum_depth,
        image_shape=(spectrum_channels, places, places),
        n_out=2,
        seeds=range(seed, seed + 2),
        stride2=0,
        initialisation=scheme,
        dtype=torch.float64,
    )
    found = jacobian.singular_values(network, noise, hidden=True, method="exact")
    log_lambda[scheme] = found.log_lambda[:, 0]
theory = {
    scheme: isometry.spectrum(
        activation,
        isometric.sigma_w2,
        isometric.q,
        spectrum_depth,
        ensemble=ensemble,
    )
    for scheme, ensemble in (
        ("delta-orthogonal", "orthogonal"),
        ("gaussian", "gaussian"),
    )
}
# one layer of the third kind, frequency by frequency
from mflib.experiment import draws

reshaped = draws.draw_kernels(
    spectrum_channels,
    spectrum_channels,
    3,
    torch.ones(1, dtype=torch.float64),
    draws.generators([seed]),
    scheme="orthogonal",
    dtype=torch.float64,
)[0]
one_layer = (
    torch.linalg.svdvals(torch.fft.fft2(reshaped, s=(9, 9)).permute(2, 3, 0, 1)) ** 2
)
one_layer_variance = float(one_layer.var(correction=0) / one_layer.mean() ** 2)
print(f"relative variance of one such layer: {one_layer_variance:.3f}; 8/9 = {8 / 9:.3f}")
agreement = {
    scheme: jacobian.fit(log_lambda[scheme], law) for scheme, law in theory.items()
}

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 3, figsize=(12, 3.9))
for k, (axis, (scheme, values)) in enumerate(
    zip(axes, log_lambda.items(), strict=True)
):
    shown = values.ravel() / np.log(10)
    bins = np.linspace(max(shown.min(), -12.0) - 0.02, shown.max() + 0.02, 41)
    counts, _ = np.histogram(shown, bins)
    axis.stairs(
        counts / (shown.size * np.diff(bins)),
        bins,
        fill=True,
        color=f"C{k}",
        alpha=0.35,
    )
    if scheme in theory:
        law = theory[scheme]
        axis.plot(
            law.log_lambda / np.log(10),
            law.density * np.log(10),
            color=f"C{k}",
            lw=2,
            label="theory",
        )
        axis.legend(loc="upper left")
    axis.set(xlabel=r"$\log_{10}\lambda$", title=WORD[scheme], xlim=(bins[0], bins[-1]))
axes[0].set_ylabel(r"density of $\log_{10}\lambda$")
widest = {
    scheme: values.max() / np.log(10) for scheme, values in log_lambda.items()
}
report.figure(
    fig,
    "cnn-spectra",
    caption=rf"Squared singular values of the Jacobian of {spectrum_depth} convolutional layers, {spectrum_channels} channels on {places} × {places} places, two networks each: histograms, and "
    rf"the density that theory gives for fully connected networks of the same kind. {activation}, critical, $q^*={isometric.q:.3g}$; mind the axes. "
    "The middle panel, kernels that are orthogonal as reshaped matrices, is without theory here. Long left tails are cut.",
    alt="Largest log10 λ: "
    + ", ".join(f"{scheme} {w:.2f}" for scheme, w in widest.items())
    + "; distance of the distributions from theory: "
    + ", ".join(f"{scheme} {a.ks:.3f}" for scheme, a in agreement.items())
    + ".",
)

# %% [markdown]
# ## Experiment: which convolutional networks train?
#
# The paper's network is a convolution from the colours to $C$ channels, some convolutions of stride 2 that make the image smaller, convolutions of
# stride 1 up to depth $D$, and a linear readout; boundaries are circular. The depth counts every convolution. As in {doc}`fc-theory`, the fall of the
# accuracy with depth is fitted, so that the boundary $4.5\,\xi_c$ and the place where networks stop training can be compared as numbers. Beside it, on the same images with the
# same steps and learning rate, stand fully connected networks, and networks in which every second layer is fully connected over all places and channels
# and every other one a convolution, all with the same two variances.

# %% tags=["hide-input"]
from IPython.display import Markdown, display

from mflib import recorded
from mflib.experiment import boundary, curves, data


def describe(result):
    """Write the fitted multiple of the depth scale with its interval."""
    k = result.k
    return (
        f"{k.value:.2f} [{k.lower:.2f}, {k.upper:.2f}]"
        if np.isfinite(k.value)
        else "no boundary"
    )


def draw_grids(frames, fits, name, bias, guess):
    """Draw the training accuracies of grids side by side, with the published and fitted lines."""
    fig, axes = plt.subplots(
        1,
        len(frames),
        figsize=(12.5 * max(len(frames), 2) / 3, 4.3),
        sharey=True,
        squeeze=False,
    )
    for axis, (family, frame) in zip(axes[0], frames.items(), strict=True):
        accuracies = boundary.summary(frame).pivot(
            index="depth", columns="sigma_w2", values="train_accuracy"
        )
        fine = np.linspace(frame.sigma_w2.min(), frame.sigma_w2.max(), 600)
        fine_xi = mean_field.fixed_point(name, fine, bias).xi_c
        lines = {r"$4.5\,\xi_c$": (fine, 4.5 * fine_xi)}
        k = fits[family].k.value
        if np.isfinite(k):
            lines[rf"${k:.1f}\,\xi_c$ (fitted)"] = (fine, k * fine_xi)
        mesh = figures.accuracy_map(
            axis,
            accuracies.columns.to_numpy(),
            accuracies.index.to_numpy(),
            accuracies.to_numpy(),
            chance=guess,
            curves=lines,
        )
        axis.set_title(family)
    fig.colorbar(mesh, ax=axes, label="training accuracy")
    return fig


def gains_inside(frames):
    """Return by how much convolutional networks are better, cell by cell where D < 2.25 ξ_c.

    Returns the pairs, and a series for each of "train" and "test".
    """
    pairs = frames["convolutional"].merge(
        frames["fully connected"],
        on=["sigma_w2", "depth", "seed"],
        suffixes=("_cnn", "_fc"),
    )
    inside = pairs[pairs.depth < 2.25 * pairs.xi_c_cnn]
    return inside, {
        m: inside[f"{m}_accuracy_cnn"] - inside[f"{m}_accuracy_fc"]
        for m in ("train", "test")
    }


# %%
from mflib.experiment import store, training

shards = (
    store.Store()
)  # trained networks are kept: an interrupted run goes on where it was
images = data.load(dataset)
chance = float(images.y_train.bincount().max()) / len(images.y_train)
FAMILIES = {
    "convolutional": ("convolutional", "delta-orthogonal"),
    "alternating": ("alternating", "delta-orthogonal"),
    "fully connected": ("fully-connected", "orthogonal"),
}


def train(
    architecture, initialisation, *, sigma_w2, bias, depths, at, seeds, **changes
):
    """Train networks of one architecture and score them at the given steps."""
    settings = dict(
        architecture=architecture,
        initialisation=initialisation,
        # a delta kernel before a stride would skip pixels: the first kernel sees all of them
        stem="orthogonal" if initialisation == "delta-orthogonal" else None,
        activation=activation,
        sigma_w2=tuple(map(float, np.atleast_1d(sigma_w2))),
        sigma_b2=bias,
        depths=tuple(depths),
        seeds=seeds,
        channels=channels,
        stride2=stride2,
        readout=readout,
        width=width,
        dataset=dataset,
        learning_rate=learning_rate,
        batch_size=batch_size,
        steps=max(at),
        evaluation_samples=scored_samples,
    )
    grid = training.Grid(**settings | changes)
    return training.learning_curves(grid, at=at, store=shards, device=device)


grid_w2 = np.linspace(1.0, 4.0, n_sigma_w2)
grids = {
    family: train(
        *kind,
        sigma_w2=grid_w2,
        bias=sigma_b2,
        depths=depths,
        at=(steps,),
        seeds=tuple(range(seed, seed + grid_seeds)),
    )
    for family, kind in FAMILIES.items()
}
fits = {}
for family, frame in grids.items():
    frame["xi_c"] = mean_field.fixed_point(
        activation, frame.sigma_w2.to_numpy(), sigma_b2
    ).xi_c
    fits[family] = boundary.fit_multiple(
        frame.train_accuracy, frame.depth, frame.xi_c, chance=chance, seed=seed
    )

# %% tags=["hide-input"]
fig = draw_grids(grids, fits, activation, sigma_b2, chance)
report.figure(
    fig,
    "cnn-trainability",
    caption=rf"Training accuracy over weight variance and depth of three kinds of {activation} networks with orthogonal weights and delta-orthogonal kernels ($\sigma_b^2={sigma_b2:g}$, {dataset}; "
    rf"{steps} steps of {batch_size} samples, learning rate {learning_rate:g}; {channels} channels after {stride2} stride-2 layer{'s' * (stride2 != 1)}, {readout} readout; width {width}), with the published boundary and the fitted "
    "multiple.",
    alt="; ".join(
        f"{family}: best accuracy {frame.train_accuracy.max():.2f}, fitted multiple {describe(fits[family])}, rank correlation with D/ξ_c {fits[family].spearman.value:.2f}"
        for family, frame in grids.items()
    )
    + ".",
)

# %% [markdown]
# A multiple of one and the same curve bounds all three, and the three multiples have overlapping intervals (the figure's alternative text and the verdicts have the numbers). $\xi_c$ knows the activation and the two variances, and neither the
# architecture nor the data; the multiple depends on data and training time too, as {doc}`fc-theory` measures.

# %% [markdown]
# ### At the paper's size
#
# The paper's fig. 4 with its own numbers: 256 channels, five epochs on CIFAR-10, one network to a cell.

# %% tags=["hide-input", "full-scale"]
full = recorded.computation("mft-fig4")
full_grids = {}
if full is not None:
    kinds = full.table["part"].str.replace(r"-seed\d+$", "", regex=True)
    for family in ("convolutional", "fully connected"):
        frame = full.table[kinds == family.replace(" ", "-")].copy()
        if len(frame):
            frame["xi_c"] = mean_field.fixed_point(
                frame.activation.iloc[0],
                frame.sigma_w2.to_numpy(),
                float(frame.sigma_b2.iloc[0]),
            ).xi_c
            full_grids[family] = frame[frame.step == frame.step.max()]
if not full_grids:
    display(Markdown(recorded.absent("mft-fig4")))
else:
    full_guess = 1 / images.n_classes  # ten in all data sets of this chapter
    full_fits = {
        family: boundary.fit_multiple(
            frame.train_accuracy, frame.depth, frame.xi_c, chance=full_guess, seed=seed
        )
        for family, frame in full_grids.items()
    }
    full_first = next(iter(full_grids.values()))
    full_settings = full.record["settings"][
        next(iter(full_grids)).replace(" ", "-")
    ]
    report.figure(
        draw_grids(
            full_grids,
            full_fits,
            full_first.activation.iloc[0],
            float(full_first.sigma_b2.iloc[0]),
            full_guess,
        ),
        "cnn-trainability-full",
        caption=rf"Training accuracy over weight variance and depth on {full_settings['dataset']} after {full_settings['steps']} steps of {full_settings['batch_size']} samples, learning rate {np.ravel(full_settings['learning_rate'])[0]:g}: "
        rf"{' and '.join(full_grids)} tanh networks ({full_settings['channels']} channels after {full_settings['stride2']} stride-2 layers, {full_settings['readout']} readout; width {full_settings['width']}), with the published boundary and the fitted multiple. "
        + full.sentence(),
        alt="; ".join(
            f"{family}: best accuracy {frame.train_accuracy.max():.2f}, fitted multiple {describe(full_fits[family])}"
            for family, frame in full_grids.items()
        )
        + ".",
        origin=full.record,
    )
    full_said = []
    for family, frame in full_grids.items():
        compared = boundary.agreement(
            grids[family],
            frame,
            chance=(chance, full_guess),
            names=("here", "at the paper's size"),
            seed=seed,
        )
        full_said.append(f"- {family}: {compared.sentence()}")
    if len(full_grids) == 2:
        full_inside, full_gains = gains_inside(full_grids)
        if len(full_inside):
            full_said.append(
                f"- convolutional against fully connected networks, {len(full_inside)} cells with $D<2.25\\,\\xi_c$: test accuracy higher by "
                f"{full_gains['test'].mean():.3f} ± {2 * full_gains['test'].sem():.3f}, in {(full_gains['test'] > 0).mean():.0%} of them"
            )
    display(
        Markdown(
            "The multiple $k$ of $\\xi_c$ here and there:\n\n" + "\n".join(full_said)
        )
    )

# %% [markdown]
# ### Convolutional against fully connected
#
# The paper finds that within the trainable region convolutional networks are far better. Cell by cell, at the same weight variance and
# depth, well inside that region, $D<2.25\,\xi_c$, so that the place of the boundary itself does not decide:

# %%
inside, gains = gains_inside(grids)
pd.DataFrame(
    {
        word: {
            "convolutional": inside[f"{measure}_accuracy_cnn"].mean(),
            "fully connected": inside[f"{measure}_accuracy_fc"].mean(),
            "mean difference": gains[measure].mean(),
            "its standard error": gains[measure].sem(),
            "share of cells in favour": (gains[measure] > 0).mean(),
        }
        for measure, word in (
            ("train", "training accuracy"),
            ("test", "test accuracy"),
        )
    }
).T.style.format("{:.3f}")

# %% [markdown]
# On these small images there is little between the two. The paper compares on CIFAR-10, where what a convolution knows about images, that neighbours belong together and that places are alike, has more to
# offer; the paper profile of this chapter runs that comparison.
#
# ### Gaussian against delta-orthogonal
#
# The right half of the paper's fig. 3, at the point it prints, which is weakly chaotic ({ref}`fc-errata`), and on the critical line.

# %% tags=["hide-input"]
COLOURS = {"delta-orthogonal": "C0", "gaussian": "C1"}


def draw_race(axis, frames, window):
    """Draw learning curves of both kinds of kernels; return the leads of the first."""
    found = {kind: curves.smoothed(frame, window) for kind, frame in frames.items()}
    figures.learning_curves(axis, found, labels=WORD, colours=COLOURS)
    return curves.leads(found["delta-orthogonal"], found["gaussian"])


# %%
races = {"as printed": 2.0, "critical": line}
scored_at = tuple(
    int(s) for s in np.unique(np.linspace(0, curve_steps, curve_points + 1).round())
)
raced = {
    (label, scheme): train(
        "convolutional",
        scheme,
        sigma_w2=point,
        bias=sigma_b2,
        depths=[curve_depth],
        at=scored_at,
        seeds=tuple(range(seed, seed + n_seeds)),
    )
    for label, point in races.items()
    for scheme in ("delta-orthogonal", "gaussian")
}

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(10.5, 4.2), sharey=True)
lead = {}
for axis, label in zip(axes, races, strict=True):
    frames = {scheme: raced[label, scheme] for scheme in COLOURS}
    for measure, found in draw_race(axis, frames, curve_window).items():
        lead[label, measure] = found
    axis.axhline(chance, color="0.5", lw=1, ls="--")
    axis.set(
        xlabel="training steps",
        title=rf"{label}, $\sigma_w^2={races[label]:.4g}$",
        ylim=(0, 1.02),
    )
axes[0].set_ylabel("accuracy")
axes[1].legend(fontsize="small", loc="center right")
report.figure(
    fig,
    "cnn-curves",
    caption=rf"Learning curves of convolutional {activation} networks of depth {curve_depth} on {dataset}: Gaussian kernels against delta-orthogonal ones, $\sigma_b^2={sigma_b2:g}$; mean over {n_seeds} seeds, band of one standard deviation for the "
    rf"training accuracy, moving average over {curve_window} scores ({curve_window * curve_steps // curve_points} steps). Dashed: chance.",
    alt="Mean lead of delta-orthogonal over Gaussian kernels, averaged over the curve: "
    + "; ".join(
        f"{label}: training {lead[label, 'train_accuracy'].value:.3f} ± {2 * lead[label, 'train_accuracy'].error:.3f}, "
        f"test {lead[label, 'test_accuracy'].value:.3f} ± {2 * lead[label, 'test_accuracy'].error:.3f}"
        for label in races
    )
    + ".",
)

# %% [markdown]
# On the critical line the lead is steady; at the printed, chaotic point Gaussian networks differ widely from seed to seed, and so does the lead.
#
# ### The race at the paper's size
#
# The right half of fig. 3 with its own numbers: 256 channels, a hundred epochs on CIFAR-10.

# %% tags=["hide-input", "full-scale"]
full = recorded.computation("mft-fig3")
full_of = {}
if full is not None:
    full_rows = full.table.join(
        full.table["part"].str.extract(
            r"^(?P<kind>fc|cnn)-(?P<point>[a-z]+)-(?P<kernels>.+)-seed\d+$"
        )
    )
    for point, frame in full_rows[full_rows.kind == "cnn"].groupby("point"):
        frames = curves.at_common_seeds(
            {scheme: frame[frame.kernels == scheme] for scheme in COLOURS}
        )
        if frames:
            full_of[point] = frames
if not full_of:
    display(Markdown(recorded.absent("mft-fig3")))
else:
    full_labels = dict(zip(("printed", "critical"), races, strict=True))
    full_points = [point for point in full_labels if point in full_of]
    full_fig, full_axes = plt.subplots(
        1,
        len(full_points),
        figsize=(5 * len(full_points) + 0.5, 4.2),
        sharey=True,
        squeeze=False,
    )
    full_leads = {}
    for axis, point in zip(full_axes[0], full_points, strict=True):
        frame = full_of[point]["delta-orthogonal"]
        window = max(1, frame.step.nunique() // 10)
        full_leads[point] = draw_race(axis, full_of[point], window)
        axis.axhline(1 / images.n_classes, color="0.5", lw=1, ls="--")
        axis.set(
            xlabel="training steps",
            title=rf"{full_labels[point]}, $\sigma_w^2={frame.sigma_w2.iloc[0]:.4g}$",
        )
    full_axes[0, 0].set_ylim(bottom=0)  # shared, so only now
    full_axes[0, 0].set_ylabel("accuracy")
    full_axes[0, -1].legend(fontsize="small", loc="lower right")
    full_settings = full.record["settings"][f"cnn-{full_points[0]}-delta-orthogonal"]
    of_these = full.only(lambda part: part.startswith("cnn-"))
    full_n = {
        p: full_of[p]["delta-orthogonal"].seed.nunique() for p in full_points
    }
    report.figure(
        full_fig,
        "cnn-curves-full",
        caption=rf"Learning curves of convolutional tanh networks of depth {full_settings['depths'][0]} on {full_settings['dataset']} ({full_settings['channels']} channels after {full_settings['stride2']} stride-2 layers, "
        rf"{full_settings['readout']} readout; {full_settings['steps']:,} steps of {full_settings['batch_size']} samples, learning rate {np.ravel(full_settings['learning_rate'])[0]:g}): Gaussian kernels against delta-orthogonal ones; seeds: "
        + ", ".join(f"{n} {full_labels[p]}" for p, n in full_n.items())
        + "; moving average over a tenth of the scores. Dashed: chance. "
        + of_these.sentence(),
        alt="Mean lead of delta-orthogonal over Gaussian kernels, averaged over the curve: "
        + "; ".join(
            f"{full_labels[point]}: training {found['train_accuracy'].value:.3f}, test {found['test_accuracy'].value:.3f}"
            for point, found in full_leads.items()
        )
        + ".",
        origin=of_these.record,
    )

    display(
        pd.DataFrame(
            [
                {
                    "point": full_labels[point],
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
# ### A thousand layers
#
# Now everything is put together: delta-orthogonal kernels, the critical line, and a $q^*$ of the order of one over the
# depth, so that even a network this deep stays near isometry: by {doc}`dynamical-isometry` the relative variance of $\lambda$ is about $8q^{*2}D$. Nothing else helps
# the network: no normalisation, no skip connections, no schedule. Three settings need a word; what they are worth is measured below.
#
# - *The learning rate falls with the depth.* When every singular value is near 1, a step in the weights of any layer moves the output about as much as a step in the
#   last one does, and all $D$ layers move it at once. So a deep network tolerates smaller steps only, and for the same reason needs few of them.
# - *The readout is scaled up.* With $q^*\ll1$ the last layer's signals have size $\sqrt{q^*}$, and with weights of the usual size all classes would start with nearly the
#   same probability; to change the logits by 1, all layers together would have to grow.
# - *The first kernel is not a delta.* A delta kernel with a stride of 2 behind it reads one pixel in four and never sees the others. So the first kernel, here and in
#   the grids above, is orthogonal over all its taps, and the kernels behind it are delta-orthogonal.

# %%
deep_point = mean_field.critical_at(activation, deep_q_star)
deep_at = tuple(int(s) for s in np.unique(np.linspace(0, deep_steps, 7).round()))
deep_names = tuple(range(seed, seed + deep_seeds))


def train_deep(scheme, *, depth, rate, at=deep_at, **changes):
    """Train convolutional networks by the recipe for great depth."""
    settings = dict(
        sigma_w2=deep_point.sigma_w2,
        bias=float(deep_point.sigma_b2),
        depths=np.atleast_1d(depth),
        at=at,
        seeds=deep_names,
        learning_rate=rate,
        momentum=deep_momentum,
        channels=deep_channels,
        batch_size=deep_batch_size,
        train_biases=deep_biases,
        readout="flatten",
        readout_gain=deep_gain,
        # On a GPU: TF32 would round weights by more than their variance is above 1, in every layer.
        precision="ieee",
    )
    return train("convolutional", scheme, **settings | changes)


deep = {
    scheme: train_deep(scheme, depth=deep_depth, rate=deep_learning_rate)
    for scheme in COLOURS
}

# %% tags=["hide-input"]
fig, axis = plt.subplots(figsize=(7.2, 4.2))
reached = {}
for scheme, frame in deep.items():
    table = frame.pivot(index="step", columns="seed", values="test_accuracy")
    mean, error = table.mean(axis=1), table.sem(axis=1)
    axis.errorbar(
        table.index,
        mean,
        error,
        fmt="o-",
        capsize=4,
        color=COLOURS[scheme],
        label=WORD[scheme],
    )
    axis.plot(table.index, table, color=COLOURS[scheme], lw=0.8, alpha=0.5)
    reached[scheme] = (float(mean.iloc[-1]), float(error.iloc[-1]))
test_labels = images.y_test.bincount()
test_chance = float(test_labels.max()) / len(images.y_test)
axis.axhline(test_chance, color="0.5", lw=1, ls="--", label="most frequent class")
axis.set(xlabel="training steps", ylabel="test accuracy", ylim=(0, 1.02))
axis.legend(loc="center right")
report.figure(
    fig,
    "cnn-very-deep",
    caption=rf"Test accuracy of plain {activation} convolutional networks of {deep_depth:,} layers ({dataset}, {deep_channels} channels, $q^*={deep_q_star:g}$, $\sigma_w^2={deep_point.sigma_w2:.6f}$, $\sigma_b^2={figures.power_of_ten(deep_point.sigma_b2)}$; "
    rf"learning rate {deep_learning_rate:g}, momentum {deep_momentum:g}, batches of {deep_batch_size}, readout weights times {deep_gain:g}): mean and standard error over {deep_seeds} seeds, thin lines single networks.",
    alt="; ".join(
        f"{scheme}: {m:.3f} ± {e:.3f} after {deep_steps} steps"
        for scheme, (m, e) in reached.items()
    )
    + f"; most frequent class {test_chance:.3f}.",
)

# %% [markdown]
# Gaussian kernels cannot do it for three reasons at once, which this run does not separate: they blur; their Jacobian is far from isometry; and with few channels
# the logarithm of a signal's length makes a random walk whose variance grows as depth over channels, here in the tens.
#
# ### Ten thousand layers
#
# Xiao and others {cite}`xiao2018dynamical` go to 10,000 layers and reach 99 % on MNIST and 82 % on CIFAR-10. Two more settings matter at this depth. The first is the
# precision: TF32, in which GPUs like to multiply, rounds a weight by up to $2^{-11}$ of itself, which is more than $\sigma_w^2$ is above 1. The second are the biases.
# With $\delta$ the gradient at a layer's output, a bias has the gradient $\delta$ and a weight $\delta\,y$, where $y$ has the variance $q$. So all biases of a
# layer together move the output $1/((2k+1)^2Cq)$ times as much as its weights do ($(2k+1)^2C$ inputs each). With $q\approx1/D$ that grows with the depth; what biases do is the same for all inputs, and a learning rate that
# suits the weights then drowns the differences between images. So here the biases stay as they are drawn (`deep_biases`).

# %% tags=["hide-input", "full-scale"]
full = recorded.computation("mft-10k")
if full is None:
    display(Markdown(recorded.absent("mft-10k")))
else:
    full_published = {"mnist": 0.99, "cifar10": 0.82}  # Xiao and others 2018
    full_rows = full.table.join(
        full.table["part"].str.extract(
            r"^(?P<images>[a-z0-9]+)-\d+-?(?P<kernels>.*)-seed\d+$"
        )
    )
    full_rows["kernels"] = full_rows.kernels.replace("", "delta-orthogonal")
    full_sets = sorted(full_rows.images.unique())
    full_fig, full_axes = plt.subplots(
        1,
        len(full_sets),
        figsize=(5.2 * len(full_sets) + 0.5, 4.2),
        sharey=True,
        squeeze=False,
    )
    full_summary = []
    for axis, images_of in zip(full_axes[0], full_sets, strict=True):
        networks_of = full_rows[full_rows.images == images_of].groupby(
            ["kernels", "depth", "part"]
        )
        for k, ((kernels, depth, part), frame) in enumerate(networks_of):
            frame = frame.sort_values("step")
            for measure, style in (("train_accuracy", "-"), ("test_accuracy", ":")):
                axis.plot(
                    frame.step,
                    frame[measure],
                    style,
                    marker="o",
                    ms=3,
                    color=f"C{k}",
                    label=f"{depth:,} layers"
                    + (f", {WORD[kernels]}" if kernels == "gaussian" else "")
                    if style == "-"
                    else None,
                )
            settings = full.record["settings"][part.rsplit("-seed", 1)[0]]
            rate = float(np.ravel(settings["learning_rate"])[0])
            last, best = frame.iloc[-1], frame.loc[frame.test_accuracy.idxmax()]
            full_summary.append(
                {
                    "images": images_of,
                    "kernels": WORD[kernels],
                    "layers": f"{depth:,}",
                    "channels": settings["channels"],
                    "seed": int(last.seed),
                    "steps": f"{int(last.step):,}",
                    "training accuracy": f"{last.train_accuracy:.1%}",
                    "test accuracy": f"{last.test_accuracy:.1%}",
                    "best on the way": f"{best.test_accuracy:.1%} at {int(best.step):,}",
                    "published, 10,000 layers": f"{full_published[images_of]:.0%}",
                    "learning rate × depth": f"{rate * depth:.3g}",
                }
            )
        axis.axhline(1 / images.n_classes, color="0.5", lw=1, ls="--")
        axis.set(xlabel="training steps", title=images_of, ylim=(0, 1.02))
        axis.legend(fontsize="small")
    full_axes[0, 0].set_ylabel("accuracy")
    report.figure(
        full_fig,
        "cnn-very-deep-full",
        caption=rf"Accuracy of plain tanh convolutional networks of up to {int(full_rows.depth.max()):,} layers with delta-orthogonal kernels during training (solid: training, dotted: test; batches of {settings['batch_size']}, momentum {settings['momentum']:g}, "
        rf"{settings['channels']} channels, {settings['readout']} readout; $\sigma_w^2={settings['sigma_w2'][0]:.6f}$). Dashed: chance. "
        + full.sentence(),
        alt="; ".join(
            f"{one['images']}, {one['layers']} layers, {one['kernels']} kernels: test accuracy {one['test accuracy']} after {one['steps']} steps"
            for one in full_summary
        )
        + ".",
        origin=full.record,
    )
    display(pd.DataFrame(full_summary).style.hide(axis="index"))
    full_value, full_error = reached["delta-orthogonal"]
    display(
        Markdown(
            f"Here, above: {dataset}, {deep_depth:,} layers of {deep_channels} channels, test accuracy {full_value:.1%} ± {2 * full_error:.1%} after {deep_steps} steps, "
            f"learning rate × depth {deep_learning_rate * deep_depth:.3g}."
        )
    )

# %% [markdown]
# ### One ingredient at a time
#
# What does each ingredient do? At a smaller depth one of them at a time is replaced, and everything else is kept. The panel on the right varies the
# learning rate.

# %%
larger_q = 0.05
larger = mean_field.critical_at(activation, larger_q)
without = {
    "the recipe": {},
    "pooled readout": {"readout": "pool"},
    "readout not scaled": {"readout_gain": 1.0},
    "first kernel a delta": {"stem": "delta-orthogonal"},
    f"$q^*={larger_q:g}$": {
        "sigma_w2": larger.sigma_w2,
        "bias": float(larger.sigma_b2),
    },
    "Gaussian kernels": {"scheme": "gaussian"},
}
ablation = {}
for label, changes in without.items():
    frame = train_deep(
        **{
            "scheme": "delta-orthogonal",
            "depth": recipe_depth,
            "rate": recipe_learning_rate,
            "at": (deep_steps,),
        }
        | changes
    )
    ablation[label] = frame.test_accuracy
rates = tuple(float(r) for r in recipe_learning_rate * 2.0 ** np.arange(-2, 5))
by_rate = train_deep(
    "delta-orthogonal",
    depth=rate_depths,
    rate=rates,
    at=(max(3, deep_steps // 2),),
    seeds=deep_names[:2],
    channels=max(3, deep_channels // 2),
)

# %% tags=["hide-input"]
fig, (left, right) = plt.subplots(
    1, 2, figsize=(11.5, 4.2), gridspec_kw={"width_ratios": [1.15, 1]}
)
names = list(ablation)[::-1]
values = [ablation[n].mean() for n in names]
errors = [ablation[n].sem() for n in names]
left.barh(
    names,
    values,
    xerr=errors,
    color=["C0" if n == "the recipe" else "C4" for n in names],
    capsize=3,
)
left.axvline(test_chance, color="0.5", lw=1, ls="--")
left.set(
    xlabel=f"test accuracy after {deep_steps} steps",
    title=f"{recipe_depth} layers, one change at a time",
    xlim=(0, 1),
)
for k, (depth, rows) in enumerate(by_rate.groupby("depth")):
    accuracy = rows.groupby("learning_rate").train_accuracy
    right.errorbar(
        accuracy.mean().index,
        accuracy.mean(),
        accuracy.std(ddof=1) / np.sqrt(accuracy.count()),
        fmt="osD^"[k % 4] + "-",
        color=f"C{k}",
        capsize=3,
        label=f"{depth} layers",
    )
right.axhline(chance, color="0.5", lw=1, ls="--")
right.set(
    xscale="log",
    xlabel="learning rate",
    ylabel="training accuracy",
    ylim=(0, 1.02),
    title=f"after {max(3, deep_steps // 2)} steps",
)
right.legend()
best_rates = {
    int(depth): float(rows.groupby("learning_rate").train_accuracy.mean().idxmax())
    for depth, rows in by_rate.groupby("depth")
}
report.figure(
    fig,
    "cnn-recipe",
    caption=rf"Left: test accuracy of networks of {recipe_depth} layers after {deep_steps} steps by the recipe of {{numref}}`cnn-very-deep` (learning rate {recipe_learning_rate:g}), and with one ingredient replaced; mean and standard error "
    rf"over {deep_seeds} seeds. Right: training accuracy against learning rate at {len(rate_depths)} depths ({max(3, deep_channels // 2)} channels, 2 seeds). Dashed: chance.",
    alt="; ".join(
        f"{n.replace('$', '').replace('^*', '*')}: {ablation[n].mean():.2f} ± {ablation[n].sem():.2f}"
        for n in ablation
    )
    + "; best learning rates: "
    + ", ".join(f"{r:.1e} at {d} layers" for d, r in best_rates.items())
    + ".",
)

# %% [markdown]
# Averaging over places costs nearly everything, for the reason given below; a first kernel that skips pixels and a readout that starts too small cost part of it.
# Two ingredients matter less at this depth than at ten times as many layers: a larger $q^*$, whose relative variance is still of order 1 here, and the Gaussian kernels, which still learn.
# On the right, the largest learning rate that a network bears falls as it gets deeper, and with it the range in which to look for the best one.

# %% [markdown]
# ## Where theory and experiment part
#
# **Pooling is not innocent.** The paper averages over places before the readout. What delta kernels carried down, place by place, is
# thrown together at the last step. For a linear network this is exact: with $s$ strides of 2, the pooled logits depend on
# the image only through $4^s$ numbers per colour, the sums of its pixels over each of the $4^s$ interleaved grids. Beyond those sums a pooled network learns through the curvature of
# $\varphi$ alone, which near isometry is small ({numref}`cnn-recipe`). The networks here read every place (`readout="flatten"`); `-p readout=pool` shows the grids with pooling.
#
# **At initialisation no place talks to another.** A network of delta kernels is, strictly speaking, a stack of
# fully connected networks, one at each place, with shared weights. Whether it comes to use its neighbours is a matter of training, of which the theory says
# nothing.
#
# **At finite $C$ the depth is bounded.** As in a fully connected network of width $N$, fluctuations of order $C^{-1/2}$ add up over layers. Orthogonal
# kernels near isometry, which are nearly linear, suffer little from it: that is what makes thousands of layers possible with
# few channels.

# %% [markdown]
# ## Verdicts
#
# What the paper claims, against the numbers of this page. The same records make the {doc}`scorecard <scorecard>`.

# %% tags=["hide-input"]
fixed = convolution.fixed_point(activation, np.array([ordered, chaotic]), sigma_b2)
plain = mean_field.fixed_point(activation, np.array([ordered, chaotic]), sigma_b2)
stays = max(
    float(
        np.abs(
            convolution.covariance_map(
                activation, fixed.covariance(ring)[k], w2, sigma_b2, v
            )
            - fixed.covariance(ring)[k]
        ).max()
    )
    for k, w2 in enumerate((ordered, chaotic))
    for v in (*KERNELS.values(), random_v)
)
report.claim(
    "mft-eq14-18",
    statement="The covariance between places follows Σ ← A⋆C(Σ); its fixed point has the q* and c* of the fully connected network.",
    source="eqs. 14–18",
    ours=f"Σ* moves by {stays:.1e} in one step, for three kernels in both phases; finite channels are off by C^p, p = "
    + ", ".join(f"{v[0]:.2f} ± {2 * v[1]:.2f}" for v in slopes["bias"].values()),
    checks={
        "Σ* is a fixed point to rounding, with the fully connected q* and c*": stays
        < 1e-11
        and np.array_equal(fixed.q, plain.q)
        and np.array_equal(fixed.c, plain.c),
        "networks of C channels approach the map as 1/C": all(
            abs(v[0] + 1) < 0.2 for v in slopes["bias"].values()
        ),
    },
    note=f"Bias of the mean over networks, {channel_counts[0]} to {channel_counts[-1]} channels, uniform and delta kernels.",
)
report.claim(
    "mft-eq19-22",
    statement="Deviations die with the factors χ_q*λ and χ_c*λ, one λ for each Fourier mode.",
    source="eqs. 19–22",
    ours=f"{len(measured)} measured factors, of {n_modes} modes, agree with theirs to {measured.difference.max():.1e}",
    checks={
        "all within 1e-4": bool(measured.difference.max() < 1e-4),
        "variances and covariances, both phases, every kernel": measured.groupby(
            ["kernel", "phase", "of"]
        ).ngroups
        == 4 * len(cases),
    },
    scale="exact",
    note="Factor per layer of the exact map near its fixed point, for uniform, delta and random kernels on a ring and uniform ones on a torus. Left out: modes whose late layers are "
    "ruled by products of slower ones, and modes that one layer erases.",
)
delta_lambda = np.abs(convolution.mode_eigenvalues(KERNELS["delta"], ring))
uniform_lambda = np.abs(convolution.mode_eigenvalues(KERNELS["uniform"], ring))
critical_scales = convolution.depth_scales(
    activation, line, sigma_b2, KERNELS["delta"], ring
).xi_c
report.claim(
    "mft-text-delta-isometry",
    statement="Gaussian kernels cannot give isometry, delta-orthogonal ones can.",
    source="§3.3",
    ours="; ".join(
        f"{scheme}: λ up to {np.exp(log_lambda[scheme].max()):.3g}, {a.ks:.3f} from the theory of {e} weights"
        for (scheme, a), e in zip(
            agreement.items(), ("orthogonal", "Gaussian"), strict=True
        )
    ),
    checks={
        "both spectra within 0.05 of their theory": all(
            a.ks < 0.05 for a in agreement.values()
        ),
        "delta-orthogonal: nine tenths of λ within a factor of 4 of 1": bool(
            np.quantile(np.abs(log_lambda["delta-orthogonal"]), 0.9) < np.log(4)
        ),
        "Gaussian: not even half of them": bool(
            np.quantile(np.abs(log_lambda["gaussian"]), 0.5) > np.log(4)
        ),
    },
    note=f"{spectrum_depth} layers, {spectrum_channels} channels, {places} × {places} places. Theory for infinitely many channels: relative variance 0.25 against "
    f"{float(isometry.relative_variance(activation, isometric.q, spectrum_depth, ensemble='gaussian')):.2f}.",
)
report.claim(
    "mft-eq21-delta",
    statement="One variance vector makes every λ equal to 1, so that information travels along all Fourier modes.",
    source="§3.3",
    ours=f"delta: all |λ| = {delta_lambda.min():.15g}; uniform: only κ = 0, the next has {uniform_lambda[1]:.4f}",
    checks={
        "delta: every |λ| is 1": bool(np.all(np.abs(delta_lambda - 1) < 1e-14)),
        "on the critical line every mode then has a depth scale beyond 1e8 layers": bool(
            np.all(critical_scales > 1e8)
        ),
        "uniform: every other mode has |λ| < 1": bool(
            np.all(uniform_lambda[1:] < 1)
        ),
    },
    scale="exact",
    note=f"Ring of {ring} places, {kernel} taps.",
)
for measure, word in (("train_accuracy", "training"), ("test_accuracy", "test")):
    report.claim(
        f"mft-fig3-cnn-{word}",
        statement=f"At depth 40 the {word} accuracy of delta-orthogonal convolutional networks leaves that of Gaussian ones behind.",
        source="fig. 3, §4.4",
        ours="; ".join(
            f"{label}: lead {lead[label, measure].value:.3f} ± {2 * lead[label, measure].error:.3f}"
            for label in races
        ),
        checks={
            label: lead[label, measure].value > 2 * lead[label, measure].error
            for label in races
        },
        note=f"Lead in accuracy, averaged over {curve_steps} steps, with two standard errors over {n_seeds} seeds; {dataset}, {channels} channels.",
    )


def boundary_claim(identifier, statement, family, source):
    """Record whether D against k ξ_c describes a grid, and whether k is the published one."""
    result, frame = fits[family], grids[family]
    alone = frame.train_accuracy.corr(frame.depth, method="spearman")
    report.claim(
        identifier,
        statement=statement,
        source=source,
        paper="k = 4.5",
        ours=f"k = {describe(result)}, ρ = {result.spearman.value:.2f} (with D alone {alone:.2f})",
        checks={
            "D/ξ_c ranks the accuracies, and better than D alone": result.spearman.upper
            < 0
            and result.spearman.value < alone,
            "k ξ_c halves the errors of the best constant guess": result.base_rate
            > 0
            and result.misclassified <= 0.5 * result.base_rate,
            "4.5 lies in the interval of k, which is no wider than a factor of 2": result.k.upper
            < 2 * result.k.lower
            and result.k.lower
            <= 4.5
            <= result.k.upper,
        },
        note=f"{dataset}, {channels} channels, {steps} steps; {result.misclassified:.1%} of {result.n} networks on the wrong side of k ξ_c, "
        f"{result.base_rate:.1%} for a constant guess.",
    )


boundary_claim(
    "mft-fig4",
    "tanh convolutional networks train where they are shallower than 4.5 ξ_c.",
    "convolutional",
    "fig. 4",
)
boundary_claim(
    "mft-text-alternating",
    "The scheme serves networks that alternate convolutional and fully connected layers.",
    "alternating",
    "§1",
)
guess = 1 / images.n_classes
n_test = min(scored_samples, len(images.y_test))
guess_error = np.hypot(
    np.sqrt(guess * (1 - guess) / n_test), reached["gaussian"][1]
)
(good, good_error), (bad, bad_error) = (
    reached["delta-orthogonal"],
    reached["gaussian"],
)
report.claim(
    "mft-10k",
    statement="A plain tanh convolutional network of 10,000 layers trains from delta-orthogonal initialisation.",
    source="§2, §5",
    paper="10,000 layers, 82 % or 80 % test accuracy on CIFAR-10",
    ours=f"{deep_depth:,} layers: {good:.1%} ± {good_error:.1%} test accuracy after {deep_steps} steps; Gaussian kernels {bad:.1%} ± {bad_error:.1%}",
    checks={
        "10,000 layers": deep_depth >= 10_000,
        "at least 70 % test accuracy, mean over seeds": good >= 0.7,
        "Gaussian kernels within two standard errors of guessing": abs(bad - guess)
        <= 2 * guess_error,
    },
    note=f"{dataset}, {deep_channels} channels, {deep_seeds} seeds of each kind; Gaussian kernels at the same variances and learning rate. The error of guessing is that of "
    f"{n_test} test images and of the seeds. The paper's number is that of Xiao and others.",
)
report.claim(
    "mft-text-cnn-beats-fc",
    statement=f"Within the trainable region convolutional networks are far better than fully connected ones (the paper: CIFAR-10; here: {dataset}).",
    source="§4.5",
    paper="far exceeds",
    ours=f"test accuracy higher by {gains['test'].mean():.3f} ± {2 * gains['test'].sem():.3f} over {len(inside)} cells",
    checks={
        "better by more than two standard errors": gains["test"].mean()
        > 2 * gains["test"].sem(),
        "by at least 0.1": gains["test"].mean() > 0.1,
    },
    note=f"Cells with D < 2.25 ξ_c; {dataset}, the same steps and learning rate, {channels} channels against width {width}, orthogonal weights in both. "
    "The paper compares on CIFAR-10, where the convolution's symmetry has more to offer than on 8 × 8 digits.",
)

# %% [markdown]
# (cnn-errata)=
# ## Slips in the printed formulas
#
# **The $\lambda$ of eq. 21 are not the eigenvalues of $A$.** $A$ in eq. 15 is a multiple of the unit matrix, and all its eigenvalues are $1/(2k+1)$. What eq.
# 21 needs are the eigenvalues of $A\star$, the convolution with its diagonal: {eq}`eq-cnn-lambda`. With the former, a deviation would die by a further factor of
# $1/(2k+1)$ in every layer, and no network of uniform kernels could have a depth scale beyond one layer.

# %%
taps = 3
printed = np.linalg.eigvalsh(np.eye(taps) / taps)
convolved = np.sort(
    np.linalg.eigvals(convolution.circulant(np.full(taps, 1 / taps), ring)).real
)
modes_of = np.sort(convolution.mode_eigenvalues(np.full(taps, 1 / taps), ring).real)
print(
    "A of eq. 15:",
    printed.round(4),
    "  A⋆ on a ring:",
    convolved[[0, -2, -1]].round(4),
    "(least, second largest, largest)",
)
chi = np.maximum(fixed.chi_q, fixed.chi_c)  # the larger factor, ordered and chaotic
uniform_ring = measured[measured.kernel == "ring, uniform"].copy()
uniform_ring["at_most"] = (
    np.where(uniform_ring.phase == "ordered", *chi) * printed[0]
)
beyond = uniform_ring.loc[(uniform_ring.measured / uniform_ring.at_most).idxmax()]
report.erratum(
    "mft-11",
    source="after eq. 21",
    statement="λ are called the eigenvalues of A, which is (1/(2k+1)) times the unit matrix.",
    paper=f"all λ = {printed[0]:.4f}",
    ours=f"λ from {convolved[0]:.4f} to {convolved[-1]:.4f}, the Fourier modes of the kernel",
    shown=bool(
        np.allclose(convolved, modes_of, atol=1e-12)
        and np.allclose(printed, 1 / taps)
        and beyond.measured > 1.5 * beyond.at_most
    ),
    note=f"Three taps, ring of {ring}. In the {beyond.phase} phase a mode is measured to have the factor {beyond.measured:.4f} per layer, where the printed λ allow at most "
    f"{beyond.at_most:.4f}.",
)

# %% [markdown]
# ## Exercises
#
# 1. *(warm-up)* Show that $\sum_\kappa |\lambda_\kappa|^2/n = \sum_\beta v_\beta^2$, and conclude that all $|\lambda_\kappa|$ are 1 only for a single tap.
# 2. Let $\Sigma^0$ depend on the distance between places alone. Show that then every $\Sigma^l$ does, whatever the kernel, and that every distance follows a map of its own.
#    Which map of {doc}`fc-theory` is it? What goes wrong for the *mean* at one distance if $\Sigma^0$ is not of this kind?
# 3. How does the depth scale of the first mode grow with the size of the image, for uniform kernels on the critical line? Derive $\xi_1\approx 3n^2/(4\pi^2)$ for three taps and
#    check it with `convolution.depth_scales`.
# 4. A kernel with $v=(\tfrac12,0,\tfrac12)$ has $|\lambda|=1$ for two modes on an even ring. Which, and what do they look like?
# 5. Run `mflib run cnn-delta-orthogonal -p readout=pool -o pool.ipynb`. How much of the loss of accuracy do more channels win back?
# 6. Reach 80 % with 2,000 layers. Which of learning rate, $q^*$ and number of steps must change, and how, if the reasoning under {numref}`cnn-very-deep` is
#    right?
# 7. *(open)* After training, how much of the weight of a kernel has left its centre? Does the network's accuracy survive if it is put back?
