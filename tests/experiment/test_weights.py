"""Fits of trained weights: known laws found again, honest tests, sources read and never run."""

import hashlib
import io
import json
import math
import pickle
import runpy
import socket
import sys

import mpmath
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats
from torch import nn

from mflib import paths
from mflib.experiment import _tails, data, weights
from mflib.experiment.store import Store
from mflib.theory import stable

ROWS, COLUMNS = 120, 150


def stable_entries(alpha, shape=(ROWS, COLUMNS), scale=0.05, seed=0):
    return stable.sample(alpha, shape, scale=scale, rng=np.random.default_rng(seed))


def known_laws():
    """A state dict of one matrix from each law, in float32 as a network has them."""
    rng = np.random.default_rng(5)
    entries = {
        "stable13.weight": stable_entries(1.3, seed=1),
        "stable17.weight": stable_entries(1.7, seed=2),
        "gaussian.weight": 0.05 * rng.standard_normal((ROWS, COLUMNS)),
        "student.weight": 0.05 * rng.standard_t(4.0, (ROWS, COLUMNS)),
        "laplace.weight": 0.05 * rng.laplace(size=(ROWS, COLUMNS)),
        "stable13.bias": rng.standard_normal(ROWS),
    }
    return {name: torch.tensor(x, dtype=torch.float32) for name, x in entries.items()}


@pytest.fixture(scope="module")
def fitted():
    return weights.fit_weights(known_laws(), network="known", level=0.999, progress=False)


def row(table, layer):
    return table.set_index("layer").loc[f"{layer}.weight"]


def small(seed=0, shape=(40, 50)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- known laws -------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "alpha"), [("stable13", 1.3), ("stable17", 1.7)])
def test_a_stable_matrix_gives_back_its_law(fitted, layer, alpha):
    found = row(fitted, layer)
    assert found.alpha_low < alpha < found.alpha_high
    assert found.alpha == pytest.approx(alpha, abs=0.06)
    assert found.alpha_quantiles == pytest.approx(alpha, abs=0.1)
    assert found.sigma == pytest.approx(0.05, rel=0.06)
    assert found.likeliest == "stable"
    assert found.student_t_over_stable_z < 0
    assert found.log_p_likelihood_ratio < -100
    assert found.log_p_ks_stable > math.log(1e-3) > found.log_p_ks_gaussian
    assert found.log_p_ks_ratio == found.log_p_ks_stable - found.log_p_ks_gaussian
    # the largest entry of a right fit leaves a number expected beyond it that is exponential
    assert found.beyond_stable < 8
    assert found.hill == pytest.approx(found.hill_stable, abs=5 * found.hill_error)
    assert found.tail_shape + 3 * found.tail_shape_error > 1 / alpha > 0.5


def test_a_gaussian_matrix_is_not_taken_for_heavy_tailed(fitted):
    found = row(fitted, "gaussian")
    assert found.alpha > 1.97
    assert found.log_p_likelihood_ratio > math.log(0.025)
    assert found.shapiro_p_5000 > 0.025
    assert found.log_p_ks_gaussian > math.log(0.025)
    assert found.likeliest == "gaussian"
    assert abs(found.excess_kurtosis) < 5 * math.sqrt(24 / found.n)
    assert found.beyond_gaussian < 8
    assert found.sigma * math.sqrt(2) == pytest.approx(0.05, rel=0.03)


@pytest.mark.parametrize(("layer", "likeliest"), [("student", "student_t"),
                                                  ("laplace", "generalised_gaussian")])  # fmt: skip
def test_heavy_tails_of_another_law_are_not_called_stable(fitted, layer, likeliest):
    found = row(fitted, layer)
    assert found.alpha < 1.95  # the paper's criterion would count it
    assert found.stable_over_gaussian > 0
    assert found.likeliest == likeliest
    assert found.student_t_over_stable_z > 3
    assert found.ks_stable > found[f"ks_{likeliest}"]
    assert found.beyond_stable > 5  # a stable law expects larger entries than there are
    assert found.hill - found.hill_stable > 2 * found.hill_error


def test_the_least_index_is_no_gaussian():
    """α at the lower end of its range is at a boundary too, the other one."""
    rng = np.random.default_rng(0)
    entries = rng.standard_normal((40, 50)) ** 9
    found = weights.fit_weights({"w": torch.from_numpy(entries)}, progress=False).iloc[0]
    assert (found.alpha, found.at_boundary) == (0.5, True)
    assert found.stable_over_gaussian > 1000
    assert found.ks_stable < found.ks_gaussian


def test_gains_follow_their_definitions(fitted):
    for _, found in fitted.iterrows():
        for name, size in (("gain", math.sqrt(ROWS * COLUMNS)), ("gain_fan_in", COLUMNS),
                           ("gain_fan_out", ROWS)):  # fmt: skip
            d_w = 2 * size * found.sigma**found.alpha
            assert found[name] == pytest.approx(d_w ** (1 / found.alpha), rel=1e-12)


def test_the_mean_field_ensemble_gives_back_its_gain():
    """W ~ S_α((D_w/2N)^{1/α}) has gain_fan_in = D_w^{1/α}."""
    alpha, gain, n = 1.5, 1.8, 150
    scale = (gain**alpha / (2 * n)) ** (1 / alpha)
    entries = stable_entries(alpha, (n, n), scale, seed=8)
    found = weights.fit_weights({"w": torch.from_numpy(entries)}, progress=False).iloc[0]
    assert found.gain_fan_in == found.gain == pytest.approx(gain, rel=0.06)


def test_rows_of_different_scale_show_as_such():
    rng = np.random.default_rng(0)
    entries = rng.standard_normal((200, 100)) * np.exp(rng.normal(size=(200, 1)))
    found = weights.fit_weights({"w": torch.from_numpy(entries)}, progress=False).iloc[0]
    assert found.alpha < 1.7
    assert found.excess_kurtosis > 5
    assert abs(found.excess_kurtosis_of_rows) < 5 * math.sqrt(24 / found.n)


def test_balancing_tells_rows_of_different_scale_from_heavy_tails():
    rng = np.random.default_rng(1)
    scales = np.exp(0.7 * rng.normal(size=(64, 1, 1))), np.exp(0.7 * rng.normal(size=(1, 32, 1)))
    product = scales[0] * scales[1] * rng.standard_normal((64, 32, 9))
    source = {
        "product": torch.from_numpy(product.reshape(64, 32, 3, 3)),
        "heavy": torch.from_numpy(stable_entries(1.5, (64, 32, 3, 3), seed=4)),
        "narrow": torch.from_numpy(stable_entries(1.5, (200, 50, 1, 1))),
    }
    table = weights.fit_weights(source, balanced=True, progress=False).set_index("layer")
    assert table.alpha["product"] < 1.5
    assert table.alpha_balanced["product"] > 1.98 > 1.8 > table.alpha_balanced_shuffled["product"]
    # in heavy-tailed entries there is nothing to balance: order does not matter
    heavy = table.loc["heavy"]
    assert heavy.alpha_balanced == pytest.approx(heavy.alpha_balanced_shuffled, abs=0.06)
    assert heavy.alpha_balanced < 1.8
    assert np.isnan(table.alpha_balanced["narrow"])
    found = weights.shares(table.reset_index()).set_index("statement")
    assert found.loc["alpha_balanced < 1.95", ["count", "n"]].tolist() == [1, 2]
    assert found.loc["alpha_balanced_shuffled < 1.95", ["count", "n"]].tolist() == [2, 2]


def test_the_index_is_no_property_of_the_function():
    """Scales moved through rectified units leave the outputs, and turn Gaussian weights heavy."""
    rng = np.random.default_rng(2)
    first, second = (torch.from_numpy(rng.standard_normal((120, 120))) for _ in range(2))
    scales = torch.from_numpy(np.exp(rng.normal(size=120)))
    moved, back = scales[:, None] * first, second / scales
    x = torch.from_numpy(rng.standard_normal((120, 5)))
    assert torch.allclose(second @ torch.relu(first @ x), back @ torch.relu(moved @ x), rtol=1e-9)
    table = weights.fit_weights({"w": first, "v": moved, "u": back}, balanced=True, progress=False)
    assert table.alpha[0] > 1.97 > 1.7 > table.alpha[1:].max()
    assert (table.alpha_balanced > 1.97).all()


def test_balancing_keeps_pruned_rows():
    matrix = np.vstack([np.zeros(6), np.arange(6.0)])
    assert np.isfinite(_tails.balance(matrix, 2)).all()
    assert np.array_equal(_tails.balance(matrix, 2)[0], np.zeros(6))


@given(st.floats(1e-3, 1e3), st.integers(0, 10**6))
def test_only_the_scale_knows_the_unit(unit, seed):
    """Units and the order of entries change nothing but what has the unit of a weight."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(3.0, 400)
    nu, location, scale = _tails.fit_student_t(x)
    exponent, centre, width = _tails.fit_generalised_gaussian(x)
    y = unit * rng.permutation(x)
    assert _tails.fit_student_t(y) == pytest.approx(
        (nu, unit * location, unit * scale), rel=1e-3, abs=1e-3 * unit * scale
    )
    b, mu, s = _tails.fit_generalised_gaussian(y)
    same = stats.gennorm.logpdf(x, exponent, centre, width).sum()
    # every entry is a cusp of the likelihood in the location where the exponent is below 1
    assert stats.gennorm.logpdf(y / unit, b, mu / unit, s / unit).sum() == pytest.approx(
        same, abs=1.0 if exponent < 1 else 1e-3
    )


# --- rivals and tests, one by one -------------------------------------------------------------


def test_rivals_are_at_least_as_likely_as_scipy_finds_them():
    rng = np.random.default_rng(2)
    for x in (rng.standard_t(3.0, 4000) + 1, rng.laplace(size=4000), rng.standard_normal(4000)):
        ours = stats.t.logpdf(x, *_tails.fit_student_t(x)).sum()
        assert ours > stats.t.logpdf(x, *stats.t.fit(x)).sum() - 0.02
        ours = stats.gennorm.logpdf(x, *_tails.fit_generalised_gaussian(x)).sum()
        assert ours > stats.gennorm.logpdf(x, *stats.gennorm.fit(x)).sum() - 0.02


def test_rivals_give_back_their_parameters():
    """Within 5 standard errors from the information of 100,000 entries."""
    rng = np.random.default_rng(3)
    nu, location, scale = _tails.fit_student_t(0.2 + 0.1 * rng.standard_t(4.0, 100_000))
    assert nu == pytest.approx(4, abs=5 * 0.065)
    assert location == pytest.approx(0.2, abs=5 * 0.1 * math.sqrt(7 / 5 / 1e5))
    assert scale == pytest.approx(0.1, rel=0.02)
    b, location, scale = _tails.fit_generalised_gaussian(0.2 + 0.1 * rng.laplace(size=100_000))
    assert b == pytest.approx(1, abs=0.025)
    assert location == pytest.approx(0.2, abs=5 * 0.1 / math.sqrt(1e5))
    assert scale == pytest.approx(0.1, rel=0.03)


@pytest.mark.parametrize("x", [0.05, 0.2, 0.7, 0.999999, 1.0, 1.5, 4.0, 30.0, 1e3])
def test_log_kolmogorov_against_forty_digits(x):
    with mpmath.workdps(40):
        lam = mpmath.mpf(x)
        if x < 1:
            total = mpmath.nsum(
                lambda k: mpmath.exp(-((2 * k - 1) ** 2) * mpmath.pi**2 / (8 * lam**2)),
                [1, 30], method="direct",
            )  # fmt: skip
            exact = mpmath.log1p(-mpmath.sqrt(2 * mpmath.pi) / lam * total)
        else:
            exact = mpmath.log(
                2 * sum((-1) ** (k - 1) * mpmath.exp(-2 * k * k * lam**2) for k in range(1, 40))
            )
        assert _tails.log_kolmogorov(x) == pytest.approx(float(exact), rel=1e-12, abs=1e-300)
    assert (
        _tails.log_kolmogorov(x)
        == pytest.approx(
            float(np.log(np.maximum(special.kolmogorov(x), 5e-324))), rel=1e-9, abs=1e-12
        )
        or x > 15
    )


def test_ks_distance_is_scipys():
    x = np.sort(np.random.default_rng(1).standard_normal(500))
    assert _tails.ks_distance(special.ndtr(x)) == pytest.approx(
        stats.kstest(x, "norm").statistic, abs=1e-15
    )


def test_boundary_p_halves_that_of_chi_squared():
    assert _tails.log_p_boundary(0.0) == 0
    for ratio in (0.1, 2.706, 30.0):
        assert _tails.log_p_boundary(ratio) == pytest.approx(
            math.log(stats.chi2.sf(ratio, 1) / 2), rel=1e-12
        )
    assert _tails.log_p_boundary(1e6) == pytest.approx(-5e5, rel=1e-4)


def test_tail_exponents_of_power_laws():
    for exponent in (0.8, 2.5, 6.0):
        assert _tails.local_exponent(lambda r, a=exponent: r**-a, 3.0) == pytest.approx(
            exponent, rel=1e-6
        )
        x = np.sort(np.random.default_rng(4).pareto(exponent, 100_000) + 1)
        assert _tails.hill(x, 1000) == pytest.approx(exponent, abs=5 * exponent / math.sqrt(1000))


def test_pareto_shape_of_known_tails():
    """Within 5 standard errors, and independent of where 0 is."""
    rng = np.random.default_rng(6)
    for shape, y in (
        (1 / 1.5, rng.pareto(1.5, 20_000)),
        (0.0, rng.exponential(size=20_000)),
        (-0.25, 1 - rng.random(20_000) ** 0.25),
    ):
        assert _tails.pareto_shape(y) == pytest.approx(
            shape, abs=5 * (1 + shape) / math.sqrt(20_000)
        )
        assert _tails.pareto_shape(300 * y) == pytest.approx(_tails.pareto_shape(y), abs=1e-4)


def test_a_stable_law_shows_its_exponent_only_far_out():
    """Near α = 2 the local exponent at the largest 1 % is far above 2, and falls to α."""

    def tail(r):
        return 2 * stable.sf(r, 1.9)

    near, far = _tails.local_exponent(tail, 4.5), _tails.local_exponent(tail, 1e4)
    assert near > 2.2
    assert far == pytest.approx(1.9, abs=1e-3)


@pytest.mark.filterwarnings("ignore:scipy.stats.shapiro. For N > 5000")
def test_shapiro_beyond_its_range_is_told_apart():
    x = np.random.default_rng(0).standard_normal(6000)
    found, again, other = (_tails.shapiro_wilk(x, seed) for seed in (1, 1, 2))
    assert found == again
    assert found["shapiro_w"] == stats.shapiro(x[:6000]).statistic
    assert found["shapiro_w_5000"] != found["shapiro_w"] == other["shapiro_w"]
    assert found["shapiro_w_5000"] != other["shapiro_w_5000"]
    few = _tails.shapiro_wilk(x[:3000], 0)
    assert few["shapiro_p"] == few["shapiro_p_5000"]


# --- what is fitted, and what is not ----------------------------------------------------------


def test_coarse_numbers_are_seen():
    x = small().double().numpy() * 0.05
    assert weights.coarse(x) == ""
    assert weights.coarse(x.astype(np.float32).astype(float)) == ""
    assert weights.coarse(x.astype(np.float16).astype(float)) == "float16"
    assert weights.coarse(torch.tensor(x).bfloat16().double().numpy()) == "bfloat16"
    assert weights.coarse(np.round(x / 0.003) * 0.003) == "repeated"
    assert weights.coarse(np.where(np.abs(x) > 0.05, x, 0.0)) == ""  # pruned, not coarse
    assert weights.coarse(np.zeros((3, 3))) == ""


@pytest.mark.parametrize("cast", [lambda x: x.half(), lambda x: x.half().float(),
                                  lambda x: x.bfloat16()])  # fmt: skip
def test_half_precision_is_flagged_and_left_out(cast):
    source = {"a.weight": cast(small()), "b.weight": small(1)}
    table = weights.fit_weights(source, progress=False)
    assert list(table.flag) == [weights.coarse(cast(small()).double().numpy()), ""]
    assert table.flag[0] in ("float16", "bfloat16")
    assert np.isnan(table.alpha[0])
    assert table.alpha[1] > 1.8
    both = weights.fit_weights(source, quantised=True, progress=False)
    assert list(both.flag) == list(table.flag)
    assert both.alpha.notna().all()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_tensors_are_flagged():
    quantised = torch.quantize_per_tensor(small(), 0.01, 0, torch.qint8)
    table = weights.fit_weights({"a.weight": quantised, "b.weight": small()}, progress=False)
    assert list(table.flag) == ["qint8", ""]


def test_other_flags():
    holes = small()
    holes[0, 0] = math.nan
    pruned = torch.where(small().abs() > 0.5, small(), 0.0)
    source = {"few": small(shape=(9, 9)), "nan": holes, "equal": torch.ones(40, 50) / 3,
              "pruned": pruned, "lookup": torch.arange(4000).reshape(40, 100)}  # fmt: skip
    table = weights.fit_weights(source, progress=False).set_index("layer")
    assert dict(table.flag) == {
        "few": "few entries", "nan": "not finite", "equal": "all equal", "pruned": "",
    }  # fmt: skip
    zeros = int((pruned == 0).sum())
    assert (table.left_out.pruned, table.n.pruned) == (zeros, 2000 - zeros)
    floored = weights.fit_weights({"w": small()}, floor=0.5, progress=False)
    assert floored.left_out[0] == zeros


def test_the_skewed_law_is_fitted_where_asked():
    table = weights.fit_weights({"w": small()}, skewed=True, progress=False)
    assert -1 <= table.beta[0] <= 1
    assert table.alpha_skewed[0] > 1.7
    assert "beta" not in weights.fit_weights({"w": small()}, progress=False)


# --- sources ----------------------------------------------------------------------------------


def layers(source):
    return {m.layer: (m.shape, m.entries.shape, m.taps) for m in weights.matrices(source)}


def test_matrices_of_a_live_module():
    tied = nn.Linear(6, 6)
    module = nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.ConvTranspose2d(6, 5, (2, 3)),
        nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(7, 6)), tied, tied,
    )  # fmt: skip
    assert layers(module) == {
        "0.weight": ((6, 2, 3, 3), (6, 18), 9),
        "2.weight": ((6, 5, 2, 3), (5, 36), 6),
        "4.weight": ((6, 7), (6, 7), 1),
        "5.weight": ((6, 6), (6, 6), 1),
    }
    found = {m.layer: m for m in weights.matrices(module)}
    assert np.array_equal(found["4.weight"].entries, module[4].weight.detach().double().numpy())
    kernel = module[2].weight.detach().double().numpy()
    assert np.array_equal(found["2.weight"].entries[3], kernel[:, 3].ravel())


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5))
def test_matrices_keep_every_entry(shape):
    values = np.arange(1.0, 1 + math.prod(shape)).reshape(shape)
    (matrix,) = weights.matrices({"w": values})
    rows, columns = matrix.entries.shape
    assert rows * columns == values.size
    assert np.array_equal(matrix.entries.ravel(), values.ravel())
    assert rows == (shape[2] if len(shape) == 4 and shape[:2] == [1, 1] else shape[0])


def test_a_checkpoint_and_its_state_dict_are_one(tmp_path):
    state = {"conv.weight": small(), "conv.bias": torch.zeros(40), "bn.weight": torch.ones(40)}
    wrapped = {"state_dict": {f"module.{k}": v for k, v in state.items()}, "best_prec1": 91.7}
    torch.save(wrapped, tmp_path / "net-12fca82f.th")
    torch.save(state, tmp_path / "plain.pth")
    np.savez(tmp_path / "plain.npz", **{k: v.numpy() for k, v in state.items()})
    direct = weights.fit_weights(state, network="x", progress=False)
    for file in ("net-12fca82f.th", "plain.pth", "plain.npz"):
        path = tmp_path / file
        table = weights.fit_weights(str(path), progress=False)
        assert table.network[0] == path.stem
        pd.testing.assert_frame_equal(table.assign(network="x"), direct)
    assert set(weights.fit_folder(tmp_path, progress=False).network) == {"net-12fca82f", "plain"}


def test_safetensors_are_read_where_the_package_is(tmp_path, monkeypatch):
    torch_file = pytest.importorskip("safetensors.torch")
    path = tmp_path / "net.safetensors"
    torch_file.save_file({"a.weight": small()}, path)
    assert layers(path) == {"a.weight": ((40, 50), (40, 50), 1)}
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match="is damaged: it is not in the safetensors format"):
        weights.matrices(path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ValueError, match="needs the package safetensors, which is not installed"):
        weights.matrices(path)


class Trap:
    """Pickles as a call that writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path):
    trap = tmp_path / "sprung"
    path, bare, archive = (tmp_path / f"evil.{end}" for end in ("pth", "pt", "npz"))
    torch.save({"w": small(), "x": Trap(trap)}, path)
    bare.write_bytes(pickle.dumps({"w": Trap(trap)}))
    np.savez(archive, w=np.array([Trap(trap)], dtype=object), allow_pickle=True)
    for file in (path, bare):
        with pytest.raises(ValueError, match=r"evil\.pth? is no file of plain tensors, and") as e:
            weights.fit_weights(file)
        assert str(e.value).endswith("write it again with torch.save(model.state_dict(), path)")
    with pytest.raises(ValueError, match="is no archive of plain arrays: write it again with"):
        weights.fit_weights(archive)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (3, 'source=int must be a module, a state dict, the path of one, or "torchvision:NAME"'),
        (nn.BatchNorm1d(3), "BatchNorm1d holds no weight matrix: no tensor of two or more axes"),
        ({"epoch": 3}, "the state dict holds no tensors by name, nor a state dict under "
         "state_dict, model_state_dict, model, net, params: give a state dict"),
        ("gone.pth", "gone.pth is not there: give the path of a state dict"),
        ("net.txt", "net.txt must end in one of .pth, .pt, .th, .npz, .safetensors"),
        ("torchvision:alexnot", "torchvision:alexnot is not one of torchvision's networks, such "
         "as alexnet, resnet18, resnet34"),
        ("torchvision:resnet50@V9", "torchvision:resnet50 has the weights IMAGENET1K_V1, "
         "IMAGENET1K_V2, not 'V9'"),
    ],
)  # fmt: skip
def test_sources_that_are_none(source, sentence):
    with pytest.raises(ValueError) as error:  # noqa: PT011 the whole sentence is compared
        weights.fit_weights(source)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"minimum": 5}, "minimum=5 must be at least 100"),
        ({"floor": -1}, "floor=-1.0 must be at least 0"),
        ({"floor": math.nan}, "floor=nan must be a finite number"),
        ({"level": 1}, "level=1.0 must be in (0, 1)"),
        ({"seed": -1}, "seed=-1 must be in [0, 2^63)"),
    ],
)
def test_bad_options_are_refused_before_the_source_is_read(option, sentence):
    with pytest.raises(ValueError) as error:  # noqa: PT011 the whole sentence is compared
        weights.fit_weights("gone.pth", **option)
    assert str(error.value) == sentence


def test_files_that_hold_no_state_dict(tmp_path):
    torch.save(small(), tmp_path / "tensor.pt")
    with pytest.raises(ValueError, match=r"tensor.pt holds a Tensor: give a state dict"):
        weights.fit_weights(tmp_path / "tensor.pt")
    with pytest.raises(ValueError, match="holds no network: give a folder with files that end in"):
        weights.fit_folder(tmp_path / "none")


# --- torchvision ------------------------------------------------------------------------------


def checkpoint():
    content = io.BytesIO()
    torch.save({"features.0.weight": small(), "features.0.bias": torch.zeros(40)}, content)
    return content.getvalue()


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Pretrained weights that exist only as a file named by its checksum, and no network."""
    digest = hashlib.sha256(checkpoint()).hexdigest()[:8]
    monkeypatch.setattr(weights, "_address", lambda name: f"https://host/models/x-{digest}.pth")
    monkeypatch.setenv("MFLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MFLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def refuse(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tmp_path, f"x-{digest}.pth"


@pytest.mark.parametrize(
    "folder", ["data/nets", "data/hub/checkpoints", "data", "cache/hub/checkpoints",
               "torch/hub/checkpoints"],
)  # fmt: skip
def test_pretrained_weights_are_found_by_their_names(published, folder):
    root, file = published
    (root / folder).mkdir(parents=True)
    (root / folder / file).write_bytes(checkpoint())
    table = weights.fit_weights("torchvision:alexnet", progress=False)
    assert list(zip(table.network, table.layer, strict=True)) == [("alexnet", "features.0.weight")]
    assert table.alpha[0] > 1.8


def test_damaged_pretrained_weights_are_named(published):
    root, file = published
    (root / "data/nets").mkdir(parents=True)
    (root / "data/nets" / file).write_bytes(checkpoint()[:-1])
    with pytest.raises(data.DataDamaged, match=f"{file} is damaged .its SHA-256 does not begin"):
        weights.fit_weights("torchvision:alexnet")


def test_pretrained_weights_that_cannot_be_had(published):
    with pytest.raises(data.DataUnavailable) as error:
        weights.fit_weights("torchvision:alexnet")
    assert str(error.value) == (
        f"{published[1]}, the weights of torchvision:alexnet, is not on this machine and could "
        "not be downloaded: put it into the folder nets of MFLIB_DATA, or connect to the network "
        "and retry"
    )
    assert not list((published[0] / "cache/hub/checkpoints").glob("*"))


def test_the_papers_ten_networks_have_its_699_matrices():
    data.import_torchvision()
    from torchvision import models

    total = 0
    for name in weights.PAPER_NETWORKS:
        assert weights._address(name).endswith(".pth")
        with torch.device("meta"):
            module = models.get_model(name, weights=None)
        total += sum(weights._is_weight(*item) for item in module.state_dict().items())
    assert total == 699


# --- resuming ---------------------------------------------------------------------------------


def test_a_stopped_run_goes_on_where_it_was(tmp_path, monkeypatch):
    source = {f"{k}.weight": small(k, (40 + k, 50)) for k in range(4)}
    whole = weights.fit_weights(source, progress=False)
    describe, calls = _tails.describe, []

    def stops(matrix, **options):
        calls.append(matrix.size)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return describe(matrix, **options)

    store = Store(tmp_path)
    monkeypatch.setattr(_tails, "describe", stops)
    with pytest.raises(KeyboardInterrupt):
        weights.fit_weights(source, store=store, progress=False)
    table = weights.fit_weights(source, store=store, progress=False)
    assert len(calls) == 3 + 2
    pd.testing.assert_frame_equal(table, whole)
    # the same entries under another name need no fit; another option does
    weights.fit_weights({"other": source["0.weight"]}, store=store, progress=False)
    assert len(calls) == 5
    weights.fit_weights({"other": source["0.weight"]}, store=store, seed=1, progress=False)
    assert len(calls) == 6


# --- the paper's statements -------------------------------------------------------------------


def test_shares_count_what_the_table_says(fitted):
    found = weights.shares(pd.concat([fitted, fitted]), gains=(0.01, 1e9)).set_index("statement")
    assert (found.n == 5).all()  # the same entries count once
    assert found["count"]["alpha < 1.95"] == (fitted.alpha < 1.95).sum() == 4
    assert found["count"]["KS p-value ratio >= 1"] == 5
    assert found["count"]["Shapiro-Wilk p < 0.025 (5000 entries)"] == 4
    assert found["count"]["stable likeliest of four laws"] == 2
    assert found["count"]["Gaussian likeliest of four laws"] == 1
    assert found["share"]["gain in [0.01, 1e+09]"] == 1
    # Wilson's interval for 4 of 5
    p, n, z = 0.8, 5, stats.norm.isf(0.025)
    centre, half = p + z**2 / 2 / n, z * math.sqrt(p * (1 - p) / n + z**2 / 4 / n**2)
    ends = found.loc["alpha < 1.95", ["low", "high"]].tolist()
    scale = 1 + z**2 / n
    assert ends == pytest.approx([(centre - half) / scale, (centre + half) / scale], rel=1e-12)
    assert found.low_networks.isna().all()


def test_matrices_of_one_network_do_not_count_as_independent(fitted):
    """With whole networks alike, the bootstrap over networks is wider than Wilson's interval."""
    alike = pd.concat(
        [fitted.assign(network=f"net{k}", alpha=1.2 + 0.79 * (k % 2),
                       fingerprint=[f"{k}{j}" for j in range(5)]) for k in range(8)]
    )  # fmt: skip
    found = weights.shares(alike).set_index("statement").loc["alpha < 1.95"]
    assert found.share == 0.5
    assert found.high_networks - found.low_networks > found.high - found.low
    assert found.low_networks < 0.5 < found.high_networks


def test_shares_of_nothing_are_refused():
    table = weights.fit_weights({"w": small(shape=(5, 5))}, progress=False)
    with pytest.raises(ValueError, match="the table holds no fitted matrix: lower minimum, or see"):
        weights.shares(table)


# --- the record -------------------------------------------------------------------------------


def test_a_record_names_its_networks_and_no_place(tmp_path, monkeypatch):
    nets = tmp_path / "nets"
    (nets / "some").mkdir(parents=True)
    torch.save({"a.weight": small()}, nets / "some" / "net.pth")
    (tmp_path / "PROVENANCE.md").write_text(
        "| folder | what | check | origin; licence |\n| --- | --- | --- | --- |\n"
        "| nets/some | a net | runs | Somebody; BSD-2 |\n"
    )
    output = tmp_path / "results" / "table.csv"
    monkeypatch.setenv("MFLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["record", str(nets), "-o", str(output)])
    runpy.run_path(str(paths.root() / "tools" / "record_weights.py"), run_name="__main__")
    table = pd.read_csv(output, keep_default_na=False)
    assert list(table.network) == ["some/net"]
    record = json.loads(output.with_suffix(".json").read_text())
    assert record["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert record["command"] == "python tools/record_weights.py nets -o results/table.csv"
    (net,) = record["networks"]
    assert net["file"] == "nets/some/net.pth"
    assert net["origin"] == "Somebody; BSD-2"
    assert net["sha256"] == hashlib.sha256((nets / "some" / "net.pth").read_bytes()).hexdigest()
    assert str(tmp_path) not in output.with_suffix(".json").read_text()


@pytest.mark.parametrize("kind", [data.DataUnavailable, data.DataDamaged])
def test_what_cannot_be_recorded_is_told_in_one_line(kind, tmp_path, monkeypatch, capsys):
    def missing(*_, **__):
        raise kind("no weights")

    monkeypatch.setattr(weights, "fit_folder", missing)
    monkeypatch.setenv("MFLIB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "nets").mkdir()
    torch.save({"a.weight": small()}, tmp_path / "nets" / "net.pth")
    monkeypatch.setattr(sys, "argv", ["record", str(tmp_path / "nets"), "-o", str(tmp_path / "t")])
    with pytest.raises(SystemExit):
        runpy.run_path(str(paths.root() / "tools" / "record_weights.py"), run_name="__main__")
    assert capsys.readouterr().err == "record_weights: no weights\n"
