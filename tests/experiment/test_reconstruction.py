"""Cascades against decoders trained one by one with autograd, entropies against arithmetic."""

import hashlib
import itertools
import json
import math
import runpy
import sys

import mpmath
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mflib import paths
from mflib.experiment import _decoders, data, reconstruction
from mflib.experiment.descent import sample_order
from mflib.experiment.draws import derive_seed
from mflib.experiment.networks import Convolutional, FullyConnected
from mflib.theory import mean_field

# Adam divides by √v: where a gradient is mostly rounding, so is the direction of its step, and
# 10 steps of 1e-3 can move a weight by as much in all. Few weights are hit, and none by more.
STEPS = 10
ROUNDING = 2e-5


def images(n=96, shape=(1, 8, 8)):
    flat = data.load("digits", input_range=(0.0, 1.0), n_train=n).x_train
    return flat.view(len(flat), *shape) if len(shape) == 3 else flat


def dense(widths, sigma_w2=1.7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for m, n in itertools.pairwise(widths):
        layer = nn.Linear(m, n)
        with torch.no_grad():
            layer.weight.normal_(0, math.sqrt(sigma_w2 / m), generator=generator)
            layer.bias.normal_(0, 0.2, generator=generator)
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers)


def states(model, x, kinds=(nn.Tanh,)):
    """Return z^0 … z^L of a sequential model, by hand."""
    out = [x]
    with torch.no_grad():
        for child in model:
            x = child(x)
            if isinstance(child, kinds):
                out.append(x)
    return out


def fold(full, height, width):
    """Bring what a transposed convolution of side 3 wrote around the edge of a torus home."""
    out = full.new_zeros(*full.shape[:2], height, width)
    for i in range(full.shape[2]):
        for j in range(full.shape[3]):
            out[:, :, (i - 1) % height, (j - 1) % width] += full[:, :, i, j]
    return out


def one_by_one(zs, *, seed, batch, wraps=False):
    """Train a decoder per layer with torch's modules, autograd and Adam, one after another."""
    decoders = []
    for depth in range(1, len(zs)):
        above, below = zs[depth], zs[depth - 1]
        geometry = _decoders.Geometry(tuple(above.shape[1:]), tuple(below.shape[1:]), wraps)
        weight, bias = _decoders.draw(
            geometry, [derive_seed(seed, "decoder", depth, 0)], above.dtype
        )
        if geometry.spatial:
            stride = geometry.strides[0]
            module = nn.ConvTranspose2d(
                above.shape[1], below.shape[1], 3, stride, padding=0 if wraps else 1,
                output_padding=0 if wraps else stride - 1,
            )  # fmt: skip
            start = weight[0].transpose(1, 2).unflatten(2, (3, 3))
        else:
            module = nn.Linear(above[0].numel(), below[0].numel())
            start = weight[0, :, 0].T
        module = module.to(above.dtype)
        with torch.no_grad():
            module.weight.copy_(start)
            module.bias.copy_(bias[0, :, 0])

        def run(z, module=module, geometry=geometry, below=below):
            if not geometry.spatial:
                return torch.tanh(module(z.flatten(1))).view(len(z), *below.shape[1:])
            if wraps:
                full = nn.functional.conv_transpose2d(z, module.weight, None, module.stride)
                return torch.tanh(fold(full, *below.shape[2:]) + module.bias.view(-1, 1, 1))
            return torch.tanh(module(z))

        optimiser = torch.optim.Adam(module.parameters(), lr=1e-3)
        steps = len(above) // batch
        for chosen in sample_order(len(above), seed, 0, steps, batch):
            optimiser.zero_grad()
            nn.functional.mse_loss(run(above[chosen]), below[chosen]).backward()
            optimiser.step()
        decoders.append(run)
    return decoders


def compare(model, x, *, wraps=False, **settings_):
    zs = states(model, x)
    fitted = reconstruction.cascade(model, x, batch_size=16, seed=3, progress=False, **settings_)
    reference = one_by_one(zs, seed=3, batch=16, wraps=wraps)
    got = fitted.reconstruct(x[:7])
    assert got.shape == (len(reference), 7, *x.shape[1:])
    for depth in range(1, len(zs)):
        z = zs[depth][:7]
        with torch.no_grad():
            for run in reference[:depth][::-1]:
                z = run(z)
        assert z.std() > 100 * ROUNDING
        torch.testing.assert_close(got[depth - 1], z, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    "widths", [[64] * 6, [64, 64, 64, 40], [64, 50, 40, 30, 20], [64, 9, 64, 9]]
)
def test_dense_decoders_are_those_trained_one_by_one(widths):
    compare(dense(widths), images(shape=(64,)))


def test_runs_that_fit_no_cache_change_no_decoder(monkeypatch):
    model, x = dense([64] * 6), images(shape=(64,))
    whole = reconstruction.cascade(model, x, batch_size=16, progress=False)
    monkeypatch.setitem(_decoders._CHUNK_BYTES, "cpu", 1)
    cut = reconstruction.cascade(model, x, batch_size=16, progress=False)
    for a, b in zip(whole.weights, cut.weights, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("steps", [1, 7, 23])
def test_batches_that_pass_the_network_together_change_no_decoder(steps, monkeypatch):
    model, x = dense([64, 64, 64, 40]), images(shape=(64,))[:160]
    arguments = {"batch_size": 16, "steps": steps, "progress": False}
    together = reconstruction.cascade(model, x, **arguments)
    monkeypatch.setattr(reconstruction, "_STATES_BYTES", 1)
    alone = reconstruction.cascade(model, x, **arguments)
    for a, b in zip(together.weights, alone.weights, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
def test_transposed_convolutions_are_those_trained_one_by_one(padding_mode):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, padding_mode=padding_mode), nn.Tanh(),
        nn.Conv2d(4, 6, 3, 2, padding=1, padding_mode=padding_mode), nn.Tanh(),
        nn.Conv2d(6, 6, 3, padding=1, padding_mode=padding_mode), nn.Tanh(),
        nn.Conv2d(6, 6, 3, padding=1, padding_mode=padding_mode), nn.Tanh(),
        nn.Flatten(), nn.Linear(96, 20), nn.Tanh(),
    )  # fmt: skip
    compare(model, images(), wraps=padding_mode == "circular")


def test_ensembles_give_their_members_cascades():
    x = images(shape=(64,))
    network = FullyConnected.draw(
        "tanh", sigma_w2=[1.2, 1.8, 3.0], sigma_b2=0.05, width=20, depth=4, n_in=64, n_out=10,
        seeds=[0, 1, 2],
    )  # fmt: skip
    together = reconstruction.cascade(network, x, mode="closed-form", progress=False)
    found = together.reconstruct(x[:5])
    assert found.shape == (3, 4, 5, 64)
    for k in range(3):
        for model in (network.member(k), network.module(k)):
            alone = reconstruction.cascade(model, x, mode="closed-form", progress=False)
            torch.testing.assert_close(alone.reconstruct(x[:5]), found[k], rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", reconstruction.MODES)
def test_convolutional_network_and_its_module_give_the_same_cascade(mode):
    network = Convolutional.draw(
        "tanh", sigma_w2=[1.3], sigma_b2=1e-3, channels=9, depth=4, image_shape=(1, 8, 8),
        n_out=10, seeds=[0], stride2=1, readout="flatten",
    )  # fmt: skip
    x = images(shape=(64,))
    ours = reconstruction.cascade(network, x, mode=mode, progress=False)
    theirs = reconstruction.cascade(
        network.module(0), x, mode=mode, image_shape=(1, 8, 8), progress=False
    )
    assert [g.spatial for g in ours.geometries] == [True] * 4
    assert ours.geometries == theirs.geometries
    torch.testing.assert_close(
        ours.reconstruct(x[:5]), theirs.reconstruct(x[:5]), rtol=0, atol=1e-4
    )


# ---------------------------------------------------------------- entropies and cutoff


def test_relative_entropy_against_arithmetic_of_high_precision():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 20, generator=generator)
    y = torch.randn(2, 3, 20, generator=generator)
    x[0, :5] = 0
    for convention in reconstruction.CONVENTIONS:
        kept = x.clone(), y.clone()
        got = reconstruction.relative_entropy(x, y, convention=convention)
        assert torch.equal(x, kept[0])
        assert torch.equal(y, kept[1])
        for layer in range(2):
            for n in range(3):
                with mpmath.workdps(40):
                    p, q = ([mpmath.mpf(v) for v in row.tolist()] for row in (x[n], y[layer, n]))
                    if convention == "published":
                        p, q = ([v - min(row) + mpmath.mpf("1e-12") for v in row] for row in (p, q))
                    else:
                        q = [max(v, mpmath.mpf("1e-12")) for v in q]
                    p, q = ([v / sum(row) for v in row] for row in (p, q))
                    want = sum(a * mpmath.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
                assert got[layer, n].item() == pytest.approx(float(want), rel=1e-12)


def test_relative_entropy_is_second_order_in_the_error():
    x = torch.rand(1, 50, generator=torch.Generator().manual_seed(1)).double() + 0.1
    error = torch.randn(1, 50, generator=torch.Generator().manual_seed(2)).double()
    second = 0.5 * ((error**2 / x).sum() / x.sum() - (error.sum() / x.sum()) ** 2)
    got = [
        reconstruction.relative_entropy(x, x + size * error).item() / size**2
        for size in (1e-3, 1e-4)
    ]
    away = [abs(value - second.item()) for value in got]
    assert away[-1] < 1e-3 * second
    assert 7 < away[0] / away[1] < 13  # what is left is of third order


def test_differential_entropy_of_gaussian_pixels():
    generator = torch.Generator().manual_seed(0)
    sigma = torch.tensor([0.1, 0.5, 2.0])
    n = 20_000
    x = torch.randn(n, 3, generator=generator) * sigma + 1
    want = (0.5 * torch.log(2 * math.pi * math.e * sigma**2)).mean().item()
    # ln σ̂ deviates by 1/√(2n), and the mean over three pixels by √3 less.
    assert reconstruction.differential_entropy(x).item() == pytest.approx(
        want, abs=5 / math.sqrt(6 * n)
    )


def test_published_differential_entropy_divides_each_image_by_its_sum():
    x = torch.rand(2, 10, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.5
    total = x.sum((2, 3, 4), keepdim=True)
    got = reconstruction.differential_entropy(x, convention="published")
    assert got.shape == (2,)
    torch.testing.assert_close(got, reconstruction.differential_entropy(x / total))
    assert (got < reconstruction.differential_entropy(x) - 2).all()


def test_dead_pixels_count_as_the_rounding_of_float32():
    x = torch.rand(10, 4, generator=torch.Generator().manual_seed(0))
    x[:, 0] = 0.25
    floor = 0.5 * math.log(2 * math.pi * math.e) + math.log(2**-24 * x.max().item())
    rest = reconstruction.differential_entropy(x[:, 1:])
    got = reconstruction.differential_entropy(x)
    assert got.item() == pytest.approx((3 * rest.item() + floor) / 4, abs=1e-12)
    assert reconstruction.differential_entropy(torch.zeros(5, 4)).item() == -math.inf


def test_correlation_against_numpy_and_at_its_ends():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(9, 1, 4, 4, generator=generator), torch.rand(9, 1, 4, 4, generator=generator)
    got = reconstruction.correlation(x, torch.stack([y, x, 3 - 2 * x, torch.ones_like(x)]))
    deviations = [(v - v.mean(0)).double().numpy().ravel() for v in (x, y)]
    assert got.tolist() == pytest.approx([np.corrcoef(*deviations)[0, 1], 1, -1, 0], abs=1e-6)


def by_hand(curve, threshold):
    """Return the cutoff as A.2 walks, a flat curve at 0."""
    for index in range(len(curve) - 1, 0, -1):
        if abs(curve[-1] - curve[index - 1]) > threshold:
            return index + 1
    return 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-20, 5), min_size=1, max_size=12), st.floats(0, 3))
def test_cutoff_walks_as_the_paper_does(curve, threshold):
    got = reconstruction.cutoff(curve, threshold)
    assert got == by_hand(curve, threshold)
    both = reconstruction.cutoff([curve, [0.0] * len(curve)], threshold)
    assert both.tolist() == [got, 0]


def test_cutoff_at_its_ends():
    assert reconstruction.cutoff(np.full(10, -3.0), 0.005) == 0
    assert reconstruction.cutoff(np.arange(10.0), 0.5) == 10
    assert reconstruction.cutoff(np.full(10, 1e-4), 0.005, lossless=0.0) == 10
    assert reconstruction.cutoff(np.full(10, 1.0), 0.005, lossless=0.0) == 0
    assert reconstruction.cutoff([0.9, 0.85, 0.81], 0.1, lost=0.0) == 3
    assert reconstruction.cutoff([0.9, 0.3, 0.05, 0.01], 0.1, lost=0.0) == 3
    assert reconstruction.cutoff([0.05, 0.01], 0.1, lost=0.0) == 0
    assert reconstruction.cutoff([-1.0, -math.inf, -math.inf], 0.005) == 2
    assert reconstruction.cutoff([90.0, 99.6, 100.0], 0.005, relative=True) == 2


# ---------------------------------------------------------------- regression


def test_regression_is_the_optimum_of_noisy_activations():
    generator = torch.Generator().manual_seed(0)
    z, below = (torch.randn(2, 5, 400, generator=generator).double() for _ in range(2))
    below += torch.randn(2, 5, 5, generator=generator).double() @ z
    flat = _decoders.Geometry((5,), (5,))
    weight, bias = _decoders.regress(flat, z, below, 0.3)

    def loss(v, a):  # the noise adds 0.3² |v|² to the squared error, in the mean over itself
        away = below - _decoders.decode(flat, v, a, z)
        return away.square().sum((1, 2)) / 400 + 0.09 * v.square().sum((1, 2, 3))

    least = loss(weight, bias)
    for size in (1e-3, 1e-4):
        moves = [torch.randn(p.shape, generator=generator).double() for p in (weight, bias)]
        up = loss(weight + size * moves[0], bias + size * moves[1])
        down = loss(weight - size * moves[0], bias - size * moves[1])
        assert (up > least).all()
        torch.testing.assert_close(up, down, rtol=1e-6 * size**0.5, atol=0)  # no first order


@pytest.mark.parametrize("wraps", [True, False])
@pytest.mark.parametrize(("small", "large"), [(8, 8), (4, 8), (4, 7), (3, 9)])
def test_a_linear_map_of_the_decoders_form_is_found_again(wraps, small, large):
    geometry = _decoders.Geometry((3, small, small), (2, large, large), wraps)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, 3 * small**2, 300, generator=generator).double()
    weight = torch.randn(1, 3, geometry.taps, 2, generator=generator).double()
    bias = torch.randn(1, 2, 1, generator=generator).double()
    below = _decoders.decode(geometry, weight, bias, z)
    found, shift = _decoders.regress(geometry, z, below, 1e-6)
    torch.testing.assert_close(found, weight, rtol=0, atol=1e-9)
    torch.testing.assert_close(shift, bias, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("parts", "side", "grid", "kernel"),
    [
        ((nn.Conv2d(1, 16, 5),), 24, (1, 2), 5),
        ((nn.Conv2d(1, 16, 3),), 26, (1, 1), 3),
        ((nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3)), 24, (1, 2), 5),
        ((nn.ReflectionPad2d(1), nn.Conv2d(1, 16, 3)), 28, (1, 0), 3),
        ((nn.Conv2d(1, 16, 5, 2),), 12, (2, 2), 7),
        ((nn.Conv2d(1, 16, 5, 2, padding=2),), 14, (2, 0), 3),
        ((nn.Conv2d(1, 32, 7, 4, padding=1),), 6, (4, 2), 11),
    ],
)
def test_decoders_lie_where_their_convolutions_looked(parts, side, grid, kernel):
    x = data.load("digits", input_range=(0.0, 1.0), n_train=500, side=28).x_train.view(
        -1, 1, 28, 28
    )
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(*parts, nn.Tanh())
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim == 4):
            weight.normal_(0, weight[0].numel() ** -0.5, generator=generator)
    fitted = reconstruction.cascade(model, x[:400], mode="closed-form", progress=False)
    (geometry,) = fitted.geometries
    assert geometry.source[1:] == (side, side)
    assert (geometry.strides[0], geometry.starts[0]) == grid
    assert geometry.kernel == (kernel, kernel)
    # As many numbers as pixels, or nearly: little may be lost. At a wrong scale r is below 0.2.
    assert reconstruction.correlation(x[400:], fitted.reconstruct(x[400:]))[0] > 0.95


def test_pooling_that_drops_the_last_row_keeps_its_stride():
    x = images(60)[..., :7, :7]
    (geometry,) = reconstruction.cascade(
        nn.Sequential(nn.MaxPool2d(2)), x, mode="closed-form", progress=False
    ).geometries
    assert (geometry.strides, geometry.starts, geometry.kernel) == ((2, 2), (0, 0), (5, 5))


class Branches(nn.Module):
    """Two branches whose sum halves the map, or one that only functions shrink."""

    def __init__(self, padding):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, 2, padding=padding)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.shortcut = nn.Conv2d(1, 4, 1, 2)

    def forward(self, x):
        y = self.second(torch.tanh(self.first(x)))
        return torch.tanh(y + self.shortcut(x)[..., : y.shape[-2], : y.shape[-1]])


def test_blocks_with_branches_have_a_stride_where_their_sizes_tell_it():
    x = images(60)
    model = nn.Sequential(Branches(1))
    (geometry,) = reconstruction.cascade(model, x, mode="closed-form", progress=False).geometries
    assert (geometry.strides, geometry.starts) == ((2, 2), (0, 0))
    with pytest.raises(ValueError, match="block '0' maps 8 positions to 3 along an axis"):
        reconstruction.cascade(nn.Sequential(Branches(0)), x, progress=False)
    up = nn.Sequential(nn.ReplicationPad2d(2), nn.Conv2d(1, 4, 3), nn.Tanh())
    with pytest.raises(ValueError, match="block '2' enlarges its maps from 8 to 10"):
        reconstruction.cascade(up, x, progress=False)


@pytest.mark.parametrize(("width", "steps"), [(60, 500), (60, 150), (150, 150)])
def test_closed_form_loses_the_image_where_adam_does(width, steps):
    # In the ordered phase what is left is what the noise floor lets through, so agreement of the
    # correlations with the images at all depths tests the floor and its scaling: from the first
    # case to the others it changes by 3.3 and by 2.1.
    everything = data.load("digits", input_range=(0.0, 1.0))
    kept = everything.x_test[:200]
    network = FullyConnected.draw(
        "tanh", sigma_w2=[1.2], sigma_b2=0.05, width=width, depth=20, n_in=64, n_out=10, seeds=[0]
    )

    def correlation(**how):
        fitted = reconstruction.cascade(
            network, everything.x_train, steps=steps, progress=False, **how
        )
        out, image = (v - v.mean(-2, keepdim=True) for v in (fitted.reconstruct(kept), kept))
        norms = out.square().sum((1, 2)) * image.square().sum()
        return ((out * image).sum((1, 2)) / norms.sqrt()).clamp_min(0.05)

    trained = correlation()
    away = {
        factor: (
            correlation(
                mode="closed-form", noise=factor * reconstruction.noise_floor(width, steps=steps)
            )
            - trained
        ).abs().mean()
        for factor in (1 / 2, 1, 2)
    }  # fmt: skip
    assert away[1] < 0.08
    assert away[1] < min(away[1 / 2], away[2])


def test_regression_sees_the_noise_below_large_activations():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 300), nn.ReLU())
    x = 255 * images(200, (64,))
    flat = _decoders.Geometry((300,), (64,))
    z = states(model, x, kinds=(nn.ReLU,))[1].T.unsqueeze(0)
    assert _decoders._regress(flat, z, x.T.unsqueeze(0), 0.03, torch.float32) is None
    settings_ = {"mode": "closed-form", "noise": 0.03, "progress": False}
    found = reconstruction.cascade(model, x, **settings_).reconstruct(x)
    with pytest.raises(ValueError, match="noise=1e-20 is below the rounding of activations"):
        reconstruction.cascade(model, x, **(settings_ | {"noise": 1e-20}))
    model, x = model.double(), x.double()
    exact = reconstruction.cascade(model, x, **settings_).reconstruct(x)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=0.1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_regression_of_networks_of_half_precision(dtype):
    model, x = dense([64, 64, 64]), images(300, (64,))
    settings_ = {"mode": "closed-form", "noise": 0.1, "progress": False}
    want = reconstruction.cascade(model, x, **settings_).reconstruct(x)
    found = reconstruction.cascade(model.to(dtype), x, **settings_).reconstruct(x)
    assert found.dtype == dtype
    known = [reconstruction.correlation(x, out) for out in (found, want)]
    torch.testing.assert_close(*known, rtol=0, atol=0.05)


@pytest.mark.parametrize("mode", reconstruction.MODES)
def test_activations_of_late_images_that_are_no_numbers(mode):
    class Root(nn.Module):
        def forward(self, x):
            return torch.sqrt(1 - 2 * (x.mean(1, keepdim=True) > 0.5)) * x

    x = images(64, (64,)).clone()
    x[50] = 1
    with pytest.raises(ValueError, match=r"(activations|decoders).* (NaN|not finite)"):
        reconstruction.cascade(nn.Sequential(Root()), x, mode=mode, progress=False)


# ---------------------------------------------------------------- predictions


@pytest.mark.parametrize("measure", reconstruction.MEASURES)
def test_predictions_tell_the_phases_apart(measure):
    x = data.load("digits", input_range=(0.0, 1.0)).x_train
    frozen, critical = (
        reconstruction.predict(
            {"activation": "tanh", "sigma_w2": w2, "sigma_b2": 0.05, "width": 60, "depth": 30},
            x, measure=measure, seeds=(0, 1, 2), n_batches=2, mode="closed-form", progress=False,
        )
        for w2 in (0.3, 1.76)
    )  # fmt: skip
    assert frozen.curves.shape == (6, 30)
    ends = {"lost": 0.0} if measure == "correlation" else {}
    thresholds = {"relative": 0.005, "differential": 0.3, "correlation": 0.1}
    assert frozen.table["cutoff"].tolist() == [
        reconstruction.cutoff(curve, thresholds[measure], **ends) for curve in frozen.curves
    ]
    for found in (frozen, critical):
        low, high = found.interval
        assert 0 <= low <= found.cutoff <= high <= 30
        assert (found.band[0] <= found.curve).all()
        assert (found.curve <= found.band[1]).all()
    if measure == "differential":  # which creeps at criticality, by less than 0.3 in ten layers
        assert frozen.curve[-1] < critical.curve[-1] - 8
    else:
        assert frozen.interval[1] < 15 < critical.interval[0]


def test_published_convention_of_the_cutoff_is_relative():
    x = images(200, (64,))
    found = reconstruction.predict(
        dense([64] * 6), x, convention="published", threshold=0.05, n_batches=2, progress=False
    )
    assert (found.curves[:, -1] == 1).all()
    assert found.table["batch"].tolist() == [0, 1]


@pytest.mark.parametrize(("measure", "sigma_w2"), [("relative", 1.5), ("differential", 1.0)])
def test_interval_of_a_prediction_covers_as_often_as_it_says(measure, sigma_w2):
    # The second case saturates: nearly all cutoffs are the depth, so that without half a layer of
    # rounding most intervals have no width, and miss the mean by a few hundredths of a layer.
    x, depth = images(300, (64,)), 12
    every = reconstruction.predict(
        {"activation": "tanh", "sigma_w2": sigma_w2, "sigma_b2": 0.05, "width": 30, "depth": depth},
        x, measure=measure, seeds=range(120), n_batches=1, mode="closed-form", progress=False,
    )  # fmt: skip
    cutoffs = every.table["cutoff"].to_numpy(dtype=float)
    ends = [
        reconstruction._whole_layers(reconstruction._student(part, 0.95), depth)
        for part in cutoffs.reshape(30, 4)
    ]
    assert every.interval == reconstruction._whole_layers(
        reconstruction._student(cutoffs, 0.95), depth
    )
    # 30 intervals at 95 %: fewer than 25 cover with probability 0.003.
    assert sum(low <= cutoffs.mean() <= high for low, high in ends) >= 25


@pytest.mark.parametrize(("of_seeds", "of_batches"), [(1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
def test_interval_over_seeds_and_batches_covers_as_often_as_it_says(of_seeds, of_batches):
    # 2000 experiments of 5 seeds and 4 batches; each draws effects of its own.
    rng = np.random.default_rng(0)
    values = (
        of_seeds * rng.normal(size=(5, 1, 2000))
        + of_batches * rng.normal(size=(1, 4, 2000))
        + 0.5 * rng.normal(size=(5, 4, 2000))
    )
    low, high = reconstruction._crossed(values, 0.95)
    assert 0.93 < ((low < 0) & (high > 0)).mean() < 0.995
    if of_batches:  # the seeds' means alone do not see that all of them are off together
        low, high = reconstruction._student(values.mean(1), 0.95)
        assert ((low < 0) & (high > 0)).mean() < 0.9


def test_predictions_of_a_given_network_in_closed_form_are_over_its_batches():
    x, model = images(300, (64,)), dense([64] * 5)
    common = {"mode": "closed-form", "progress": False}
    once, several = (
        reconstruction.predict(model, x, seeds=seeds, **common) for seeds in ((0,), (0, 1, 2))
    )
    assert several.table["batch"].tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(several.curves, once.curves)
    np.testing.assert_array_equal(several.band, once.band)
    assert (several.band[0] < several.curve).all()


def test_seeds_of_a_prediction_are_distinct_and_several():
    x, model = images(100, (64,)), dense([64] * 3)
    for seeds, message in (
        (3, r"seeds=3 must be several integers.*range\(3\)"),
        ((0, 0), r"seeds=\(0, 0\) must be .* different"),
        ((), r"seeds=\(\) must be at least one"),
        ((0.5,), r"seeds=0\.5 must be an integer"),
    ):
        with pytest.raises(ValueError, match=message):
            reconstruction.predict(model, x, seeds=seeds)
        with pytest.raises(ValueError, match=message):
            reconstruction.critical_sigma_w2("tanh", 0.05, width=10, depth=8, images=x, seeds=seeds)
    with pytest.raises(ValueError, match=r"seed=1: .*seeds=\(1,\)"):
        reconstruction.predict(model, x, seed=1)


def test_bisection_and_chords_find_the_zeros_of_smooth_slopes():
    # The second unit's zero lies outside the final bracket, which is that of the mean.
    scores = {}

    def slope(x):
        scores[x] = np.array([-0.2 - x, 0.8 - x]) + 0.02 * (x - 0.3) ** 2
        return scores[x]

    left, right = reconstruction._bisect(slope, -1.0, 2.0, 5)
    assert len(scores) == 7
    assert right - left == 3 / 2**5
    assert left < 0.3 < right < 0.8
    zeros = reconstruction._zeros(scores, (left + right) / 2)
    assert zeros == pytest.approx([-0.195, 0.805], abs=0.02)
    # Of several changes of sign, the one next to the bracket.
    bumpy = {0.0: [1.0], 1.0: [-1.0], 2.0: [1.0], 3.0: [0.0]}
    bumpy = {x: np.array(values) for x, values in bumpy.items()}
    assert reconstruction._zeros(bumpy, 0.9) == [0.5]
    assert reconstruction._zeros(bumpy, 2.6) == [3.0]


def test_critical_interval_is_the_scatter_of_networks_at_any_tolerance():
    common = {"width": 30, "depth": 20, "low": 0.4, "high": 9.0, "progress": False}
    x, seeds = images(500, (64,)), range(10, 16)
    together = [
        reconstruction.critical_sigma_w2(
            "tanh", 0.05, images=x, tolerance=tolerance, seeds=seeds, **common
        )
        for tolerance in (0.3, 0.03, 0.01)
    ]
    alone = [
        reconstruction.critical_sigma_w2(
            "tanh", 0.05, images=x, tolerance=0.03, seeds=(seed,), **common
        ).value
        for seed in seeds
    ]
    low, high = np.exp(reconstruction._student(np.log(alone), 0.95))
    for found in together:
        near, far = found.interval
        assert (near, far) == pytest.approx(together[0].interval, rel=0.03)
        # Chords over the first, wide steps are not the curves: a network that lies far from the
        # others is placed to a tenth of its σ_w² (measured on 13).
        assert far - near > 0.7 * (high - low)
        assert low < found.value < high


def test_balance_is_the_rate_of_what_is_known_against_what_differs():
    layers = np.unique(np.geomspace(1, 64, 28).round().astype(int))
    chaotic, ordered = np.exp(-layers / 100), np.exp(-layers / 10)
    same = np.ones(len(layers))
    balance = reconstruction._balance
    assert balance(layers, chaotic, same) == (pytest.approx(-1 / 100), 64)
    assert balance(layers, same, ordered) == (pytest.approx(1 / 10), 64)
    assert balance(layers, layers**-0.5, layers**-0.5) == (pytest.approx(0, abs=1e-15), 64)
    # What lies beyond the last layer that knows anything is not read.
    lost = np.where(layers > 20, 0.01, 1.0)
    assert balance(layers, lost, ordered) == (
        pytest.approx(1 / 10),
        layers[layers <= 20].max(),
    )


@pytest.mark.parametrize(
    ("activation", "sigma_b2"), [("tanh", 0.5), ("erf", 0.05), ("hard-tanh", 0.2)]
)
def test_critical_sigma_w2_is_near_the_line_of_infinite_width(activation, sigma_b2):
    x = images(900, (64,))
    exact = float(mean_field.critical_sigma_w2(activation, sigma_b2).sigma_w2)
    found = reconstruction.critical_sigma_w2(
        activation, sigma_b2, width=50, depth=40, images=x, low=0.7, high=5.0, tolerance=0.15,
        seeds=(0, 1, 2, 3), progress=False,
    )  # fmt: skip
    # ln(5/0.7)/2^4 < 0.15, after both ends.
    assert found.n_predictions == found.trace["sigma_w2"].nunique() == 6
    assert len(found.trace) == 6 * 4 * 4
    assert found.interval[0] < found.value < found.interval[1]
    # The lines lie at 2.84, 1.38 and 1.41. Single networks of this width scatter by 13 % (measured
    # on 16), the mean of four by 6.5 %: three times that.
    assert found.value == pytest.approx(exact, rel=0.2)


def test_critical_sigma_w2_by_decoders_that_are_trained():
    x = images(None, (64,))
    found = reconstruction.critical_sigma_w2(
        "tanh", 0.05, width=64, depth=40, images=x, mode="faithful", steps=150, batch_size=32,
        learning_rate=3e-3, low=1.0, high=4.0, tolerance=0.3, seeds=(0, 1), progress=False,
    )  # fmt: skip
    exact = float(mean_field.critical_sigma_w2("tanh", 0.05).sigma_w2)
    assert found.value == pytest.approx(exact, rel=0.2)


def test_critical_sigma_w2_says_where_there_is_none():
    common = {"width": 30, "depth": 20, "images": images(200, (64,)), "progress": False}
    with pytest.raises(ValueError, match=r"sigma_w2 = 4 are chaotic already.*lower low"):
        reconstruction.critical_sigma_w2("tanh", 0.05, low=4.0, high=8.0, **common)
    with pytest.raises(ValueError, match=r"sigma_w2 = 0\.8 are ordered already.*raise high"):
        reconstruction.critical_sigma_w2("tanh", 0.05, low=0.4, high=0.8, **common)


def test_pictures_of_single_channels_and_of_outputs():
    network = Convolutional.draw(
        "tanh", sigma_w2=[1.3], sigma_b2=1e-3, channels=9, depth=3, image_shape=(1, 8, 8),
        n_out=10, seeds=[0], stride2=1, readout="flatten",
    )  # fmt: skip
    x = images(200)
    fitted = reconstruction.cascade(
        network, x, mode="closed-form", readout="softmax", progress=False
    )
    picture = reconstruction.reconstruct(fitted, x[0], 2, channels=4)
    assert picture.shape == (1, 8, 8)
    by_hand = {}

    def keep(depth, z):
        by_hand[depth] = z.clone()

    fitted.chain.run(x[:1], keep)
    only = torch.zeros(1, 9, 4, 4)
    only[0, 4] = by_hand[2].view(9, 4, 4)[4]
    torch.testing.assert_close(fitted.decode(only, 2)[0], picture)
    every = reconstruction.reconstruct(fitted, x[0], [0, 1, 4])
    assert every.shape == (3, 1, 8, 8)
    assert torch.equal(every[0], x[0])
    assert by_hand[4].sum().item() == pytest.approx(1, abs=1e-6)
    assert fitted.decode(torch.eye(10), 4).shape == (10, 1, 8, 8)


def test_layers_and_channels_are_whole_numbers_of_any_kind():
    x = images(60)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2))
    fitted = reconstruction.cascade(model, x, mode="closed-form", progress=False)
    want = fitted.reconstruct(x, 2, channels=[1, 3])
    got = fitted.reconstruct(x, np.int64(2), channels=np.array([1, 3]))
    assert torch.equal(got, want)
    assert torch.equal(fitted.reconstruct(x, np.array([2]), channels=[1, 3])[0], want)
    z = fitted.states(x, 2)[2]
    assert torch.equal(fitted.decode(z[0].T, 2), fitted.reconstruct(x, 2))
    for layer in (1.0, True, 3, [], "2", [1, 1.5]):
        with pytest.raises(ValueError, match=r"layer=.* must be in 0 … 2"):
            fitted.reconstruct(x, layer)
    for channels in (True, 4, [], 1.0, [0, 4]):
        with pytest.raises(ValueError, match=r"channels=.* must be among 0 … 3"):
            fitted.reconstruct(x, 2, channels=channels)
    for layer in (None, [2], 2.0):
        with pytest.raises(ValueError, match=r"layer=.* must be one of 0 … 2"):
            fitted.decode(z[0].T, layer)


# ---------------------------------------------------------------- faults


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 8), nn.Linear(8, 8)

    def forward(self, x):
        return torch.tanh(self.second(torch.tanh(self.first(x))))


class Pair(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(64, 8), nn.Tanh())

    def forward(self, x):
        return super().forward(x), x


def repeated():
    same = nn.Tanh()
    return nn.Sequential(nn.Linear(64, 8), same, nn.Linear(8, 8), same)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda x: reconstruction.cascade(Odd(), x), "blocks of this Odd cannot be found.*first"),
        (lambda x: reconstruction.cascade(Odd(), x, blocks=["third"]), "'third' is no submodule"),
        (lambda x: reconstruction.cascade(Odd(), x, blocks=["second", "first"]), "order in which"),
        (lambda x: reconstruction.cascade(dense([64, 8]), x[:, :60]), r"shape \(60,\) do not fit"),
        (lambda x: reconstruction.cascade(dense([64, 8]), x[0]), "must be .n, pixels."),
        (lambda x: reconstruction.cascade(dense([64, 8]), x[:1]), "at least 2"),
        (lambda x: reconstruction.cascade(dense([64, 8]), x / 0), "NaN or infinite"),
        (lambda x: reconstruction.cascade(dense([64, 8], sigma_w2=math.inf), x), "NaN"),
        (lambda x: reconstruction.cascade("net", x), "is no network"),
        (lambda x: reconstruction.cascade(dense([64, 8]), x, mode="quick"), "mode='quick' must be"),
        (lambda x: reconstruction.cascade(dense([64, 8]), x, noise=0.0), "noise=0.0 must be"),
        (lambda x: reconstruction.cascade(dense([64, 8]), x, device="tpu"), '"auto", "cpu" or "cu'),
        (lambda x: reconstruction.cascade(Pair(), x, readout="linear"), "one tensor, not a tuple"),
        (lambda x: reconstruction.cascade(repeated(), x), "'1' runs more than once: .* a Tanh of"),
        (lambda x: reconstruction.differential_entropy(x[:1]), "at least 2"),
        (
            lambda x: reconstruction.differential_entropy(0 * x, convention="published"),
            "pixels sum to 0",
        ),
        (lambda x: reconstruction.relative_entropy(x - 1, x), "scale images"),
        (lambda x: reconstruction.cutoff([1.0, math.nan], 0.1), "NaN"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(images(8, (64,)))


def test_models_are_left_as_they_were():
    model, x = dense([64, 20, 20]), images(shape=(64,))
    model.train()
    before = [p.clone() for p in model.parameters()]
    kept = x.clone()
    reconstruction.cascade(model, x, progress=False).reconstruct(x[:3])
    assert model.training
    assert all(m.training and not m._forward_hooks for m in model.modules())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert torch.equal(x, kept)


def test_images_outlive_a_first_layer_that_acts_in_place():
    torch.manual_seed(0)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(64, 8), nn.Tanh())
    x = images(20, (64,)) - 0.5
    kept = x.clone()
    fitted = reconstruction.cascade(model, x, mode="closed-form", progress=False)
    assert torch.equal(fitted.reconstruct(x, 0), kept)
    assert torch.equal(x, kept)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match='"cuda" was asked for'):
        reconstruction.cascade(dense([64, 8]), images(8, (64,)), device="cuda")


def test_padding_around_the_edge_and_normalisation_belong_to_a_block():
    torch.manual_seed(0)
    x = images(200)
    conv, own = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular")
    own.load_state_dict(conv.state_dict())
    norm = nn.RMSNorm(8, elementwise_affine=False)
    outs = []
    for parts in ((nn.CircularPad2d(1), conv), (own,)):
        fitted = reconstruction.cascade(
            nn.Sequential(*parts, norm, nn.Tanh()), x, mode="closed-form", progress=False
        )
        assert fitted.depth == 1
        assert fitted.geometries[0].wraps
        outs.append(fitted.reconstruct(x))
    torch.testing.assert_close(*outs)


# ---------------------------------------------------------------- any module


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first, self.second = (
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="circular") for _ in range(2)
        )

    def forward(self, x):
        return torch.tanh(x + self.second(torch.tanh(self.first(x))))


class Tower(nn.Module):
    """A network that the library has not seen: attributes in another order than they run."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 10)
        self.tower = nn.ModuleList(Residual(4) for _ in range(3))
        self.stem = nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular")

    def forward(self, x):
        x = self.stem(x)
        for block in self.tower:
            x = block(x)
        return self.head(nn.functional.max_pool2d(x, 4).flatten(1))


@pytest.mark.parametrize("mode", reconstruction.MODES)
def test_residual_networks_by_the_names_of_their_blocks(mode):
    torch.manual_seed(0)
    model, x = Tower(), images(400)
    blocks = ["stem", "tower.0", "tower.1", "tower.2", "head"]
    fitted = reconstruction.cascade(
        model, x[:300], mode=mode, blocks=blocks, epochs=20, batch_size=20, learning_rate=3e-3,
        progress=False,
    )  # fmt: skip
    assert fitted.chain.names == tuple(blocks)
    assert [g.spatial for g in fitted.geometries] == [True] * 4 + [False]
    assert all(g.wraps for g in fitted.geometries)
    found = reconstruction.correlation(x[300:], fitted.reconstruct(x[300:]))
    # 4 channels hold an image of one; ten numbers do not, but say which digit it is.
    assert (found[:4] > 0.8).all()
    assert 0.2 < found[4] < found[3]


@pytest.mark.parametrize("mode", reconstruction.MODES)
def test_towers_with_pooling_and_activations_in_place(mode):
    torch.manual_seed(0)
    features = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
    )  # fmt: skip
    model = nn.Sequential(features, nn.Flatten(), nn.Dropout(), nn.Linear(32, 10))
    x = images(300)
    fitted = reconstruction.cascade(
        model,
        x[:200],
        mode=mode,
        output="identity",
        epochs=20,
        learning_rate=3e-3,
        batch_size=20,
        progress=False,
    )
    assert fitted.chain.names == ("0.1", "0.4", "0.5", "0.7", "0.8")
    assert [g.strides for g in fitted.geometries] == [(1, 1), (1, 1), (2, 2), (1, 1), (2, 2)]
    with torch.no_grad():
        want = states(features.eval(), x[:3], kinds=(nn.ReLU, nn.MaxPool2d))
    seen = {}

    def keep(depth, z):
        seen[depth] = z[0].T.reshape(3, *fitted.chain.shapes[depth])

    fitted.chain.run(x[:3], keep)
    for depth in range(6):
        torch.testing.assert_close(seen[depth], want[depth])
    found = reconstruction.correlation(x[200:], fitted.reconstruct(x[200:]))
    assert found[0] > 0.5
    assert found[0] > found[4] > 0.1


@pytest.mark.parametrize("wraps", [False, True])
def test_regression_of_strided_maps_is_the_minimum_with_one_bias_per_channel(wraps):
    geometry = _decoders.Geometry((3, 4, 5), (2, 8, 10), wraps)
    generator = torch.Generator().manual_seed(0)
    # All positive, as behind a rectifier: classes then want biases of their own.
    z = torch.rand(2, 60, 300, generator=generator, dtype=torch.float64) + 1
    below = torch.randn(2, 160, 300, generator=generator, dtype=torch.float64)
    below += z.repeat_interleave(3, 1)[:, :160] ** 2
    noise = 0.3
    found = [part.requires_grad_() for part in _decoders.regress(geometry, z, below, noise)]
    weight, bias = found
    miss = (_decoders.decode(geometry, weight, bias, z) - below).square().sum((1, 2)) / 300
    blurred = sum(
        len(members.writes) * weight[:, :, list(members.taps)].square().sum((1, 2, 3))
        for members in geometry.classes(z.device)
    )
    (miss + noise**2 * blurred).sum().backward()
    for part in found:
        assert part.grad.abs().max() < 1e-9 * miss.detach().sum()


def test_decoders_of_small_images_reconstruct_large_ones():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(),
    )  # fmt: skip
    x = images(300)
    fitted = reconstruction.cascade(model, x[:250], mode="closed-form", progress=False)
    same = fitted.resized((1, 8, 8)).reconstruct(x[250:])
    # Within the range of all positions rather than its own, a pixel may be clipped less.
    assert reconstruction.correlation(fitted.reconstruct(x[250:])[2], same[2]) > 0.97
    large = torch.cat([torch.cat([*x[k : k + 3]], 2) for k in (250, 253)], 1).unsqueeze(0)
    wide = fitted.resized(large.shape[1:])
    assert wide.image_shape == (1, 16, 24)
    z = states(model, large, kinds=(nn.ReLU, nn.MaxPool2d))[-1]
    for depth in (2, 1, 0):
        weight = fitted.weights[depth][0].permute(0, 2, 1).unflatten(2, (3, 3))
        stride = fitted.geometries[depth].strides[0]
        low, high = fitted.ranges[depth][:, 0].unflatten(1, (weight.shape[1], -1)).flatten(2)
        z = nn.functional.conv_transpose2d(
            z, weight, fitted.biases[depth].flatten(), stride, 1, stride - 1
        ).clamp(low.amin(1).view(-1, 1, 1), high.amax(1).view(-1, 1, 1))
    torch.testing.assert_close(wide.reconstruct(large, 3), z)


def test_what_is_tied_to_one_size_says_so():
    x = images(60)
    head = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(256, 9))
    for model, settings_ in (
        (head, {"readout": "softmax"}),
        (Convolutional.draw(
            "tanh", sigma_w2=[1.3], sigma_b2=1e-3, channels=9, depth=3, image_shape=(1, 8, 8),
            n_out=10, seeds=[0], stride2=1,
        ), {}),
    ):  # fmt: skip
        fitted = reconstruction.cascade(model, x, mode="closed-form", progress=False, **settings_)
        with pytest.raises(ValueError, match="tied to images of"):
            fitted.resized((1, 16, 16))
    pooled = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2))
    fitted = reconstruction.cascade(pooled, x, mode="closed-form", progress=False)
    with pytest.raises(ValueError, match="another stride"):
        fitted.resized((1, 3, 8))
    with pytest.raises(ValueError, match="do not fit the model"):
        fitted.resized((3, 8, 8))


def test_recorded_costs_name_their_runs_and_no_place(tmp_path, monkeypatch):
    output = tmp_path / "results" / "costs.csv"
    arguments = "--data digits --side 8 --depth 3 --steps 2 --repeats 1"
    monkeypatch.setattr(sys, "argv", ["record", *arguments.split(), "-o", str(output)])
    runpy.run_path(str(paths.root() / "tools" / "record_costs.py"), run_name="__main__")
    table = pd.read_csv(output)
    assert list(table["shape"]) == ["wide", "shrinking"]
    assert set(table["data"]) == {"digits"}
    assert (table[["pixels", "width", "depth"]] == [64, 64, 3]).all(axis=None)
    assert (table.peak_mib > 100).all()
    written = output.with_suffix(".json").read_text()
    record = json.loads(written)
    assert record["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert record["runs"][1].endswith("--side=8 --shrinking")
    assert f"{arguments} --threads 1" in record["command"]
    assert str(tmp_path) not in written
    assert str(paths.root()) not in written


def test_the_costs_in_the_repository_are_as_recorded():
    output = paths.results() / "reconstruction-entropy-costs.csv"
    record = json.loads(output.with_suffix(".json").read_text())
    assert record["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    table = pd.read_csv(output)
    assert list(zip(table["data"], table["shape"], strict=True)) == [
        ("mnist", "wide"), ("mnist", "shrinking"), ("cifar10", "wide"), ("cifar10", "shrinking"),
    ]  # fmt: skip
    for kind in ("faithful", "reduced", "closed_form"):
        ratio = table[f"{kind}_seconds"] / table.epoch_seconds
        np.testing.assert_allclose(table[f"{kind}_epochs"], ratio, rtol=1e-2, atol=1e-3)


def test_recorded_table_has_its_rows_and_where_they_came_from(tmp_path, monkeypatch, capsys):
    tool = runpy.run_path(str(paths.root() / "tools" / "record_critical.py"))
    searches = [
        tool["Search"]("tanh", 0.05, width, 20, networks=3, fitted_on=300, data="digits")
        for width in (30, 40)
    ]
    output = tmp_path / "table.csv"
    names = tool["main"].__globals__

    def record(*some):
        monkeypatch.setitem(names, "SEARCHES", some)
        monkeypatch.setattr(sys, "argv", ["record", "-o", str(output)])
        tool["main"]()
        return pd.read_csv(output)

    row = record(searches[0]).iloc[0]
    assert row.interval_low < row.estimate < row.interval_high
    assert row.theory == pytest.approx(1.761, abs=1e-3)
    written = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    assert written["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert written["command"] == "python tools/record_critical.py"

    # A row that is there keeps its date and commit; nothing new writes nothing.
    known = tool["kept"](output)
    earlier = [{**each, "computed": "then", "commit": "there"} for each in known.values()]
    tool["write"](earlier, output, written["command"])
    both = record(*searches)
    assert list(both["computed"] == "then") == list(both["commit"] == "there") == [True, False]
    before = output.with_suffix(".json").stat().st_mtime_ns
    record(*searches)
    assert output.with_suffix(".json").stat().st_mtime_ns == before

    # A damaged table keeps none, and neither do other settings or other code.
    good = output.read_bytes()
    output.write_bytes(good.replace(b"then", b"them"))
    assert tool["kept"](output) == {}
    assert "table.csv does not have its recorded checksum" in capsys.readouterr().err
    output.write_bytes(good)
    assert set(tool["kept"](output)) == set(searches)
    with monkeypatch.context() as patch:
        patch.setitem(names, "HELD", {"n_batches": 2, "batch": 50})
        assert tool["kept"](output) == {}
    with monkeypatch.context() as patch:
        patch.setitem(names, "code", lambda: {"mflib.theory.mean_field": "another"})
        assert tool["kept"](output) == {}

    def missing(*_, **__):
        raise data.DataUnavailable("there is no mnist")

    monkeypatch.setattr(data, "load", missing)
    with pytest.raises(SystemExit):
        record(tool["Search"]("tanh", 0.05, 10, 20))
    assert capsys.readouterr().err == "record_critical: there is no mnist\n"


def test_the_critical_variances_in_the_repository_are_as_recorded():
    tool = runpy.run_path(str(paths.root() / "tools" / "record_critical.py"))
    table = paths.results() / "reconstruction-entropy-critical.csv"
    beside = json.loads(table.with_suffix(".json").read_text(encoding="utf-8"))
    assert beside["sha256"] == hashlib.sha256(table.read_bytes()).hexdigest()
    assert beside["rows"] == len(pd.read_csv(table)) <= len(tool["SEARCHES"])
