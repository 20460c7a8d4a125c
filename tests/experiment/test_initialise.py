"""Initialisers of plain modules: stated variances, exact isometry, nothing half done."""

import json
import math
import runpy
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mflib import paths
from mflib.experiment import initialise
from mflib.theory import isometry, mean_field

DOUBLE = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def snapshot(module):
    return [p.detach().clone() for p in module.parameters()]


def operator(layer, *shape):
    """Return the whole matrix of a linear layer on inputs (channels, *shape)."""
    size = math.prod(shape)
    eye = torch.eye(size, dtype=layer.weight.dtype).reshape(size, *shape)
    with torch.no_grad():
        rest = layer(torch.zeros(1, *shape, dtype=layer.weight.dtype))
        return (layer(eye) - rest).reshape(size, -1).T


def every_kind(dtype=torch.float32):
    return nn.Sequential(
        nn.Conv1d(4, 6, 5, dtype=dtype),
        nn.Conv2d(6, 8, (3, 1), groups=2, dtype=dtype),
        nn.Conv3d(8, 8, 3, bias=False, dtype=dtype),
        nn.BatchNorm1d(8),
        nn.Linear(30, 20, dtype=dtype),
    )


# --- the stated variances ---------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["gaussian_", "orthogonal_"])
def test_entries_have_the_stated_variances(scheme):
    """Within 5 standard errors over independent fillings of every kind of layer."""
    w2, b2, repeats = 1.7, 0.3, 200
    module, generator = every_kind(), seeded(3)
    squares, biases = [], []
    for _ in range(repeats):
        report = getattr(initialise, scheme)(module, sigma_w2=w2, sigma_b2=b2, generator=generator)
        squares.append([report[name].measured_w2 for name in ("0", "1", "2", "4")])
        biases.append(torch.cat([module[i].bias.detach() for i in (0, 1, 4)]))
    squares = torch.tensor(squares)
    error = squares.std(0) / math.sqrt(repeats) + 1e-6
    assert ((squares.mean(0) - w2).abs() < 5 * error).all()
    biases = torch.cat(biases)
    assert abs(biases.var().item() - b2) < 5 * b2 * math.sqrt(2 / biases.numel())
    assert report["3"].scheme == "left alone"
    assert torch.equal(module[3].weight, torch.ones(8))


def test_heavy_tails_have_the_stated_index_and_scale():
    """Measured D_w within 5 standard errors of what was asked, in every kind of layer; at α = 1
    the share of entries beyond x scales within 5 of the law's own 1 − 2 arctan(x)/π.
    """
    alpha = {"0": 1.0, "1": 0.6, "2": 1.5, "4": 2.0}
    D_w = {"0": 1.3, "1": 0.4, "2": 2.5, "4": 1.7}
    module = nn.Sequential(
        nn.Conv1d(40, 60, 5), nn.Conv2d(60, 80, (3, 1), groups=2), nn.Conv3d(20, 30, 3),
        nn.BatchNorm1d(8), nn.Linear(300, 200), nn.Tanh(),
    )  # fmt: skip
    report = initialise.stable_(module, alpha=alpha, D_w=D_w, D_b=0.3, generator=seeded(5))
    for name in D_w:
        layer = report[name]
        n, a = module[int(name)].weight.numel(), alpha[name]
        error = 5 * math.sqrt(math.pi**2 / 6 * (1 + a * a / 2) / n)
        assert layer.measured_w2 == pytest.approx(D_w[name], rel=error)
        assert (layer.alpha, layer.sigma_w2, layer.sigma_b2) == (a, D_w[name], 0.3)
        assert layer.scheme == "stable"
        assert f"alpha = {a:g}, D_w = {D_w[name]:g} (measured" in str(report)
    cauchy = module[0].weight.detach().abs() * 2 * 200 / 1.3  # in units of its scale D_w/2N
    for x in (0.1, 1.0, 30.0, 300.0):
        share = 1 - 2 * math.atan(x) / math.pi
        error = 5 * math.sqrt(share * (1 - share) / cauchy.numel())
        assert abs((cauchy > x).double().mean().item() - share) < error
    assert report["3"].scheme == initialise.LEFT_ALONE
    assert math.isnan(report["3"].alpha)


def test_heavy_tailed_biases_have_the_scale_of_the_theory():
    """b ~ S_1(D_b/2) is the Cauchy law: half of the biases lie within D_b/2, 5 standard errors."""
    layer = nn.Linear(1, 10_000)
    initialise.stable_(layer, alpha=1, D_w=0, D_b=0.6, generator=seeded())
    assert abs((layer.bias.abs() < 0.3).double().mean() - 0.5) < 5 * 0.5 / 100
    assert not layer.weight.any()


def test_at_index_2_the_law_is_the_gaussian_one():
    """The measured D_w is N_in times the mean square there, and both are what was asked."""
    layer = nn.Linear(400, 300, dtype=DOUBLE)
    report = initialise.stable_(layer, alpha=2, D_w=1.5, D_b=0, generator=seeded())
    square = 400 * layer.weight.detach().square().mean().item()
    assert square == pytest.approx(1.5, rel=5 * math.sqrt(2 / 120_000))
    assert report[""].measured_w2 == pytest.approx(square, rel=6 * math.sqrt(3 / 120_000))


def test_a_layer_may_have_no_weights_that_are_not_zero():
    report = initialise.stable_(nn.Linear(3, 2), alpha=1.5, D_w=0, D_b=0, generator=seeded())
    assert report[""].measured_w2 == 0


def test_orthogonal_taps_share_the_variance_binomially():
    """K = ∏ [P + (1 − P) z] puts C(k − 1, β)/2^{k−1} of the variance on tap β, any rank parity."""
    for channels in (4, 3):
        layer, generator, powers = nn.Conv1d(channels, channels, 4, dtype=DOUBLE), seeded(1), []
        for _ in range(400):
            initialise.orthogonal_(layer, sigma_w2=2.0, sigma_b2=0.0, generator=generator)
            powers.append(layer.weight.detach().square().sum((0, 1)) / channels)
        powers = torch.stack(powers)
        stated = 2.0 * torch.tensor([1, 3, 3, 1], dtype=DOUBLE) / 8
        error = powers.std(0) / math.sqrt(len(powers))
        assert ((powers.mean(0) - stated).abs() < 5 * error).all()


# --- isometry -----------------------------------------------------------------------------------


@pytest.mark.parametrize("padding_mode", ["circular", "zeros"])
@pytest.mark.parametrize(
    ("convolution", "shape", "options"),
    [
        (nn.Conv1d, (6, 9), {"padding": 2, "kernel_size": 5}),
        (nn.Conv2d, (6, 5, 4), {"padding": (1, 0), "kernel_size": (3, 1)}),
        (nn.Conv2d, (6, 5, 5), {"padding": 2, "kernel_size": 3, "dilation": 2, "groups": 2}),
        (nn.Conv3d, (6, 3, 3, 3), {"padding": 1, "kernel_size": 3, "groups": 3}),
    ],
)
def test_delta_orthogonal_convolutions_keep_norms_and_have_a_flat_spectrum(
    convolution, shape, options, padding_mode
):
    layer = convolution(6, 12, padding_mode=padding_mode, **options)
    report = initialise.delta_orthogonal_(layer, sigma_w2=1.0, sigma_b2=0.0, generator=seeded(5))
    x = torch.randn(20, *shape, generator=seeded(6))
    with torch.no_grad():
        ratio = layer(x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)
    assert (ratio - 1).abs().max() < 1e-5
    assert (torch.linalg.svdvals(operator(layer, *shape)) - 1).abs().max() < 1e-5
    assert report.layers[0].scheme == "delta-orthogonal"


def test_delta_orthogonal_scale_and_what_it_keeps():
    layer = nn.Conv1d(4, 8, 3, padding=1, padding_mode="circular", dtype=DOUBLE)
    for keep, scale in (("norm", 1.0), ("variance", 2.0)):
        report = initialise.delta_orthogonal_(
            layer, sigma_w2=1.5, sigma_b2=0.0, generator=seeded(), keep=keep
        )
        values = torch.linalg.svdvals(operator(layer, 4, 7))
        torch.testing.assert_close(values, torch.full_like(values, math.sqrt(1.5 * scale)))
        assert report.layers[0].measured_w2 == pytest.approx(1.5 * scale / 2)


@pytest.mark.parametrize(
    ("convolution", "shape", "sizes", "options"),
    [
        (nn.Conv1d, (9,), (6, 6), {"padding": 2, "kernel_size": 5}),
        (nn.Conv1d, (9,), (3, 7), {"padding": 2, "kernel_size": 3, "dilation": 2}),
        (nn.Conv2d, (5, 6), (5, 5), {"padding": (1, 2), "kernel_size": (3, 5)}),
        (nn.Conv2d, (5, 5), (8, 4), {"padding": 1, "kernel_size": 3, "groups": 2}),
        (nn.Conv2d, (5, 5), (4, 4), {"padding": "same", "kernel_size": 4}),
        (nn.Conv3d, (3, 4, 3), (2, 2), {"padding": 1, "kernel_size": 3}),
    ],
)
def test_orthogonal_convolutions_are_orthogonal_operators(convolution, shape, sizes, options):
    n_in, n_out = sizes
    layer = convolution(n_in, n_out, padding_mode="circular", dtype=DOUBLE, **options)
    initialise.orthogonal_(layer, sigma_w2=1.3, sigma_b2=0.2, generator=seeded(7))
    values = torch.linalg.svdvals(operator(layer, n_in, *shape))
    stated = math.sqrt(1.3 * max(n_in, n_out) / n_in)
    torch.testing.assert_close(values, torch.full_like(values, stated), rtol=1e-12, atol=0)


def test_an_orthogonal_reshaped_kernel_is_no_isometry():
    """What ``torch.nn.init.orthogonal_`` does to a kernel would fail the tests above."""
    layer = nn.Conv1d(6, 6, 3, padding=1, padding_mode="circular", dtype=DOUBLE)
    nn.init.orthogonal_(layer.weight)
    values = torch.linalg.svdvals(operator(layer, 6, 9))
    assert values.max() > 1.3
    assert values.min() < 0.5


@given(
    n_in=st.integers(1, 12),
    n_out=st.integers(1, 12),
    w2=st.floats(0, 30),
    half=st.booleans(),
)
def test_linear_layers_are_orthogonal_at_every_shape(n_in, n_out, w2, half):
    layer = nn.Linear(n_in, n_out, dtype=torch.float16 if half else DOUBLE)
    initialise.orthogonal_(layer, sigma_w2=w2, sigma_b2=0.0, generator=seeded(2))
    values = torch.linalg.svdvals(layer.weight.detach().double())
    stated = math.sqrt(w2 * max(n_in, n_out) / n_in)
    assert (values - stated).abs().max() <= (3e-3 if half else 1e-13) * (stated + 1e-4)


def test_notes_say_what_is_lost():
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1, padding_mode="circular"),
        nn.Conv2d(6, 6, 3),
        nn.Linear(50, 10, bias=False),
    )
    report = initialise.delta_orthogonal_(module, sigma_w2=1, sigma_b2=0.1, generator=seeded())
    assert "stride (2, 2) keeps one position in 4" in report["0"].note
    assert "padding (0, 0) changes the number of positions" in report["1"].note
    assert "40 directions per group are lost" in report["2"].note
    assert "no bias to set" in report["2"].note
    assert "delta-orthogonal" in str(report)
    zero = nn.Conv1d(4, 4, 3, padding=1)
    note = initialise.orthogonal_(zero, sigma_w2=1, sigma_b2=0, generator=seeded()).layers[0].note
    assert "not orthogonal at the edges" in note


# --- determinism and choice by name ---------------------------------------------------------------


def test_the_same_generator_gives_the_same_values_in_every_dtype():
    single, double = every_kind(), every_kind(DOUBLE)
    for module in (single, double):
        initialise.orthogonal_(module, sigma_w2=1.2, sigma_b2=0.1, generator=seeded(9))
    for a, b in zip(single.parameters(), double.parameters(), strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), rtol=0, atol=0)


def test_the_global_generator_is_left_alone():
    module = every_kind()
    before = torch.random.get_rng_state()
    initialise.gaussian_(module, sigma_w2=1, sigma_b2=1, generator=seeded())
    assert torch.equal(before, torch.random.get_rng_state())


def test_variances_by_name_leave_the_rest_alone():
    module = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))
    kept = snapshot(module[0])
    report = initialise.gaussian_(module, sigma_w2={"2": 3.0}, sigma_b2=0.0, generator=seeded())
    assert report["0"].scheme == "left alone"
    assert report["2"].sigma_w2 == 3.0
    assert all(torch.equal(a, b) for a, b in zip(kept, module[0].parameters(), strict=True))
    report = initialise.gaussian_(
        module, sigma_w2=lambda name: 1.0 + int(name), sigma_b2=0.0, generator=seeded()
    )
    assert [layer.sigma_w2 for layer in report.layers] == [1.0, 3.0]


# --- the critical point -------------------------------------------------------------------------


def network(depth=6, width=12):
    hidden = [part for _ in range(depth) for part in (nn.Linear(width, width), nn.Tanh())]
    return nn.Sequential(*hidden, nn.Linear(width, 3))


@pytest.mark.parametrize("name", ["tanh", "erf", "arctan", "hard-tanh", "softsign"])
def test_critical_points_are_critical_and_have_the_stated_variance(name):
    chosen = initialise.critical_(network(), name, generator=seeded(), depth=50, variance=0.1)
    point = mean_field.fixed_point(name, chosen.sigma_w2, chosen.sigma_b2)
    assert float(mean_field.chi_1(name, chosen.q_star, chosen.sigma_w2)) == pytest.approx(1)
    assert float(point.q) == pytest.approx(chosen.q_star, rel=1e-4)
    assert chosen.relative_variance == pytest.approx(0.1, rel=1e-9)
    length = mean_field.length_map("linear", chosen.input_square, chosen.sigma_w2, chosen.sigma_b2)
    assert float(length) == pytest.approx(chosen.q_star, rel=1e-9)


def test_the_stated_variance_is_the_one_of_sampled_jacobians():
    """m₂/m₁² − 1 over many orthogonal networks at depth 6, by products of matrices."""
    depth, width, repeats = 6, 64, 40
    module, generator = network(depth, width).double(), seeded(4)
    means, squares = [], []
    for _ in range(repeats):
        chosen = initialise.critical_(module, "tanh", generator=generator, variance=0.3)
        assert chosen.depth == depth
        z = torch.randn(width, dtype=DOUBLE, generator=generator)
        z *= math.sqrt(chosen.input_square * width) / z.norm()
        jacobian = torch.func.jacrev(module[:-1])(z).detach()
        values = torch.linalg.svdvals(jacobian).square()
        means.append(values.mean())
        squares.append(values.square().mean())
    mean, square = torch.stack(means), torch.stack(squares)
    error = mean.std() / math.sqrt(repeats)
    assert abs(mean.mean() - 1) < 5 * error + 2 / width
    spread = square / mean**2 - 1
    error = spread.std() / math.sqrt(repeats)
    assert abs(spread.mean() - 0.3) < 5 * error + 2 / width


def test_convolutions_become_delta_orthogonal_and_depth_is_counted():
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1), nn.Tanh(),
        nn.Flatten(), nn.Linear(8 * 16, 10),
    )  # fmt: skip
    chosen = initialise.critical_(module, "tanh", generator=seeded())
    assert chosen.depth == 2
    assert [layer.scheme for layer in chosen.layers] == 2 * ["delta-orthogonal"] + ["orthogonal"]
    assert chosen.relative_variance == pytest.approx(initialise.VARIANCE)
    for part in ("tanh", "2 hidden layers", "sigma_w2", "q*"):
        assert part in str(chosen)


def test_relu_is_critical_at_one_point_and_says_so():
    chosen = initialise.critical_(network(), "relu", generator=seeded())
    assert (chosen.sigma_w2, chosen.sigma_b2) == (2.0, 0.0)
    assert chosen.relative_variance == pytest.approx(6)
    assert "every q* is a fixed point" in chosen.note


def test_gaussian_weights_stand_at_the_same_point_with_their_own_variance():
    one, two = (
        initialise.critical_(network(), "tanh", generator=seeded(), scheme=scheme, variance=0.2)
        for scheme in ("orthogonal", "gaussian")
    )
    assert (one.sigma_w2, one.q_star) == (two.sigma_w2, two.q_star)
    assert two.relative_variance == pytest.approx(6 + 0.2)


def test_the_sigmoid_stands_at_its_least_ratio_when_asked():
    """χ₁ = 1 at σ_w² ≈ 103, σ_b² = 0: critical, with 3.45 of relative variance for each layer."""
    best = isometry.least_slope_ratio("sigmoid")
    chosen = initialise.critical_(network(), "sigmoid", generator=seeded(), q_star=best.q)
    assert chosen.sigma_w2 == pytest.approx(103.0, abs=0.05)
    assert chosen.sigma_b2 == pytest.approx(0, abs=1e-9)
    assert chosen.relative_variance == pytest.approx(6 * (best.ratio - 1))


def test_q_star_can_be_given():
    chosen = initialise.critical_(network(), "tanh", generator=seeded(), q_star=1e-4)
    assert chosen.sigma_w2 == pytest.approx(1.00020, abs=5e-6)
    assert chosen.sigma_b2 == pytest.approx(1.33e-12, rel=0.01)


# --- faults ------------------------------------------------------------------------------------


def shared():
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    return module


def normalised():
    return nn.Sequential(nn.Linear(4, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))


@pytest.mark.parametrize(
    ("build", "function", "changes", "sentence"),
    [
        (network, "gaussian_", {"sigma_w2": -1}, "sigma_w2 of layer '0'=-1 must be at least 0"),
        (network, "gaussian_", {"sigma_w2": math.nan}, "must be a finite number"),
        (network, "gaussian_", {"sigma_w2": {"x": 1.0}}, "names 'x', which is no Linear"),
        (network, "gaussian_", {"sigma_b2": {"0": 1.0}}, "give both variances or neither"),
        (network, "gaussian_", {"generator": None}, "must be a torch.Generator"),
        (network, "gaussian_", {"sigma_w2": lambda _: None}, "no Linear or Conv layer to set"),
        (nn.Tanh, "orthogonal_", {}, "no Linear or Conv layer to set"),
        (shared, "gaussian_", {}, "layer '1' .* shares its weight with '0'"),
        (normalised, "gaussian_", {}, "layer '1' .* remove the parametrisation"),
        (lambda: nn.LazyLinear(3), "gaussian_", {}, "send one batch through"),
        (lambda: nn.Linear(3, 3, device="meta"), "gaussian_", {}, "meta device"),
        (lambda: nn.Linear(3, 3, dtype=torch.cfloat), "gaussian_", {}, "real floating-point"),
        (
            lambda: nn.Sequential(nn.Linear(4, 4), nn.Conv2d(4, 4, 2)),
            "delta_orthogonal_", {}, r"layer '1' .* even size \(2, 2\) has no centre .* odd sizes",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(8, 4, 3)),
            "delta_orthogonal_", {}, "layer '1' .* 4 outputs for 8 inputs per group cannot keep",
        ),
        (
            lambda: nn.Sequential(nn.Conv1d(4, 4, 3), nn.Conv1d(8, 8, 3, groups=2)),
            "delta_orthogonal_", {"keep": "size"}, "keep='size' must be one of norm, variance",
        ),
        (
            lambda: nn.Sequential(nn.Conv1d(4, 4, 3), nn.ConvTranspose1d(4, 4, 3)),
            "delta_orthogonal_", {}, "layer '1' is a transposed convolution",
        ),
    ],
)  # fmt: skip
def test_bad_modules_are_refused_before_anything_changes(build, function, changes, sentence):
    module = build()
    lazy = isinstance(module, nn.LazyLinear)
    before = [] if lazy else snapshot(module)
    arguments = {"sigma_w2": 1.0, "sigma_b2": 0.1, "generator": seeded(), **changes}
    with pytest.raises(ValueError, match=sentence):
        getattr(initialise, function)(module, **arguments)
    after = [] if lazy else list(module.parameters())
    same = (a.is_meta or torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(same)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"alpha": 0.5}, r"alpha of layer '0'=0.5 must be in \(0.5, 2\]"),
        ({"alpha": 2.5}, r"must be in \(0.5, 2\]"),
        ({"alpha": "heavy"}, "alpha of layer '0'='heavy' must be a finite number"),
        ({"alpha": {"2": 1.5}}, "layer '0': alpha gives it no value, but D_w does"),
        ({"alpha": {"head": 1.5}}, "alpha names 'head', which is no Linear"),
        ({"D_w": -1}, "D_w of layer '0'=-1 must be at least 0"),
        ({"D_b": {"0": 1.0}}, "D_b gives it no value: give both variances or neither"),
        ({"D_w": {}}, "no Linear or Conv layer to set"),
        ({"generator": 3}, "must be a torch.Generator"),
    ],
)
def test_bad_heavy_tails_are_refused_before_anything_changes(changes, sentence):
    module = network()
    before = snapshot(module)
    arguments = {"alpha": 1.5, "D_w": 1.0, "D_b": 0.0, "generator": seeded(), **changes}
    with pytest.raises(ValueError, match=sentence):
        initialise.stable_(module, **arguments)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("sigmoid", {}, r"no isometry: .* at least 4.449 \(there sigma_w2 = 103, .* q_star"),
        ("gelu", {}, "gelu has no isometry"),
        ("sigmoid", {"q_star": 1.0}, "at q_star=1: chi_1 = 1 only at a negative sigma_b2"),
        ("tanh", {"scheme": "uniform"}, "scheme='uniform' must be one of gaussian, orthogonal"),
        ("tanh", {"depth": 0}, "depth=0 must be at least 1"),
        ("tanh", {"variance": 0.1, "q_star": 0.1}, "give one of them"),
        ("tanh", {"variance": 0.0}, "variance=0.0 must be above 0"),
        ("tanh", {"q_star": -1.0}, "q_star=-1.0 must be above 0"),
        ("relu", {"variance": 0.1}, "relu"),
        ("tann", {}, "did you mean 'tanh'"),
    ],
)
def test_impossible_critical_points_are_refused(name, changes, sentence):
    module = network()
    before = snapshot(module)
    with pytest.raises(ValueError, match=sentence):
        initialise.critical_(module, name, **{"generator": seeded(), **changes})
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_a_lone_readout_has_no_depth_of_its_own():
    layer = nn.Linear(6, 6)
    with pytest.raises(ValueError, match=r"module has 1 Linear or Conv layers, .* state depth"):
        initialise.critical_(layer, "tanh", generator=seeded())
    assert initialise.critical_(layer, "tanh", generator=seeded(), depth=9).depth == 9


def test_an_ensemble_is_not_a_module():
    with pytest.raises(ValueError, match=r"must be a torch.nn.Module, not list"):
        initialise.gaussian_([], sigma_w2=1, sigma_b2=0, generator=seeded())


def test_the_benchmark_prints_json_lines(monkeypatch, capsys):
    script = paths.root() / "benchmarks" / "initialise.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--repeats", "1", "--largest", "16"])
    runpy.run_path(str(script), run_name="__main__")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["benchmark"] for line in lines} == {
        "initialise.haar_orthogonal",
        "initialise.delta_orthogonal_",
    }
    assert all(line["ratio"] > 0 for line in lines)
    assert lines[-1]["singular_values_of_one_layer"] == pytest.approx([1, 1], abs=1e-4)


def test_critical_starts_a_widening_stem_at_its_fixed_point():
    """Three colours to 24 channels: the norm must grow for the variance per unit to be q*."""
    tower = [nn.Conv2d(24, 24, 3, padding=1, padding_mode="circular") for _ in range(20)]
    stem = nn.Conv2d(3, 24, 3, padding=1, padding_mode="circular")
    parts = [part for layer in (stem, *tower) for part in (layer, nn.Tanh())]
    net = nn.Sequential(*parts, nn.Flatten(), nn.Linear(24 * 36, 5))
    generator = torch.Generator().manual_seed(4)
    chosen = initialise.critical_(net, "tanh", generator=generator)
    x = torch.randn(8, 3, 6, 6, generator=generator)
    x *= (chosen.input_square / x.square().mean()).sqrt()
    with torch.no_grad():
        first, last = net[0](x).square().mean(), net[:-3](x).square().mean()
    # an orthonormal stem keeps the sum of squares, so only the biases (1e-3 of q*) are random
    assert float(first) == pytest.approx(chosen.q_star, rel=0.01)
    # 24 channels of one network: the length relaxes to its own fixed point within O(1/24)
    assert float(last) == pytest.approx(chosen.q_star, rel=0.1)
