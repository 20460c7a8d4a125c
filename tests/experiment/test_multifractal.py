"""Eigenvectors of layers: dimensions that are exact, limits in width, two sides that agree."""

import math

import mpmath as mp
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mflib.experiment import draws, multifractal, training
from mflib.experiment.multifractal import (
    SIDES,
    cavity_dimensions,
    delocalised_dimension,
    eigenvectors,
    extrapolate,
    fractal_dimension,
    inverse_participation,
    layer_jacobian,
    observe_dimensions,
    sample_dimensions,
)
from mflib.experiment.networks import FullyConnected
from mflib.experiment.scaling import log_slope
from mflib.experiment.store import Store

DOUBLE = torch.float64


def rng(seed=0):
    return np.random.default_rng(seed)


def stable(alpha, *shape, seed=0):
    members = draws.generators([seed])
    return draws.standard_stable(shape, members, alpha=torch.tensor([alpha]), dtype=DOUBLE)[0]


def layer(alpha, gain, width, *, spread=1.0, seed=0):
    """Return W and the diagonal of D for fields of scale ``spread``, independent of W."""
    w = gain * (0.5 / width) ** (1 / alpha) * stable(alpha, width, width, seed=seed).numpy()
    h = spread * stable(alpha, width, seed=seed + 10_000).numpy()
    e = np.exp(-2 * np.abs(h))
    return w, 4 * e / (1 + e) ** 2


# --- vectors ----------------------------------------------------------------------------------


def precise_dimension(v, q):
    with mp.workdps(60):
        p = [mp.mpf(abs(x)) ** 2 for x in v if x]
        p = [x / mp.fsum(p) for x in p]
        if q == 1:
            return -mp.fsum(x * mp.log(x) for x in p) / mp.log(len(v))
        return mp.log(mp.fsum(x ** mp.mpf(q) for x in p)) / (1 - mp.mpf(q)) / mp.log(len(v))


ORDERS = [0, 1e-9, 0.3, 0.98, 0.995, 1 - 1e-12, 1, 1 + 1e-9, 1.001, 1.02, 2, 7.5, 60]


@pytest.mark.parametrize("kind", ["heavy", "delocalised", "localised", "tiny", "zeros"])
def test_dimensions_have_full_precision_at_every_order(kind):
    v = {
        "heavy": rng().standard_cauchy(40) ** 5,
        "delocalised": rng().standard_normal(40) + 1.0,
        "localised": np.r_[1.0, 1e-160 * np.ones(39)],
        "tiny": 1e-300 * rng().standard_normal(40),
        "zeros": np.r_[np.zeros(20), rng().standard_normal(20)],
    }[kind]
    expected = [float(precise_dimension(v, q)) for q in ORDERS]
    np.testing.assert_allclose(fractal_dimension(v, ORDERS), expected, rtol=2e-12, atol=1e-14)
    moments = [
        float(40 ** ((1 - mp.mpf(q)) * mp.mpf(d))) for q, d in zip(ORDERS, expected, strict=True)
    ]
    np.testing.assert_allclose(inverse_participation(v, ORDERS), moments, rtol=1e-9)


@given(
    st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=2, max_size=30),
    st.floats(0, 5),
    st.floats(0, 5),
    st.floats(1e-9, 1e9),
)
@settings(max_examples=150, deadline=None)
def test_dimensions_fall_with_q_within_0_and_1_and_forget_scale_phase_and_order(v, p, q, scale):
    v = np.array(v)
    if not np.abs(v).max() > 1e-3:
        return
    low, high = sorted((p, q))
    d = fractal_dimension(v, [low, high])
    assert -1e-12 <= d[1] <= d[0] + 1e-12 <= 1 + 2e-12
    turned = scale * np.exp(1j) * np.sort(v)
    np.testing.assert_allclose(fractal_dimension(turned, [low, high]), d, atol=1e-9)


def test_orders_and_vectors_keep_their_axes():
    v = rng().standard_normal((3, 4, 10))
    d = fractal_dimension(v, np.array([[0.0, 1.0, 2.0]]))
    assert d.shape == (3, 4, 1, 3)
    assert d[1, 2, 0, 2] == pytest.approx(float(fractal_dimension(v[1, 2], 2)), abs=1e-15)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("width", [2, 30, 784, 10**6])
def test_delocalised_dimension_against_gamma_functions(width, real):
    with mp.workdps(50):
        beta = mp.mpf(1) / (2 if real else 1)

        def exact(q):
            if q == 1:
                mean = mp.digamma(beta * width + 1) - mp.digamma(beta + 1)
                return mean / mp.log(width)
            q = mp.mpf(q)
            log = mp.log(width) + mp.loggamma(beta + q) + mp.loggamma(beta * width)
            log -= mp.loggamma(beta) + mp.loggamma(beta * width + q)
            return log / (1 - q) / mp.log(width)

        expected = [float(exact(q)) for q in ORDERS]
    found = delocalised_dimension(width, ORDERS, real=real)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("real", [False, True])
def test_random_directions_have_the_delocalised_moments(real):
    v = rng(1).standard_normal((20_000, 50)) + (0 if real else 1j) * rng(2).standard_normal(50)
    if not real:
        v = rng(1).standard_normal((20_000, 50)) + 1j * rng(2).standard_normal((20_000, 50))
    orders = [0.5, 1.5, 2, 3]
    ipr = inverse_participation(v, orders)
    expected = 50.0 ** ((1 - np.array(orders)) * delocalised_dimension(50, orders, real=real))
    error = ipr.std(0) / math.sqrt(len(v))
    assert (np.abs(ipr.mean(0) - expected) < 5 * error).all()


# --- extrapolation --------------------------------------------------------------------------------


def test_a_power_law_with_a_prefactor_extrapolates_exactly():
    """IPR_q = A N^{(1−q)D} gives D + ln A/((1−q) ln N): the fitted form, for every A, D and q."""
    n, q = np.array([60, 130, 700]), np.array([0.5, 1.7, 2.0])
    d, a = np.array([0.9, 0.4, 0.35]), np.array([0.8, 2.0, 5.0])
    ipr = a * n[:, None] ** ((1 - q) * d)
    values = np.log(ipr) / np.log(n[:, None]) / (1 - q)
    limit = extrapolate(n, values, np.full_like(values, 0.01))
    np.testing.assert_allclose(limit.value, d, atol=1e-12)
    np.testing.assert_allclose(limit.slope, np.log(a) / (1 - q), atol=1e-10)
    assert limit.degrees == 1
    assert (limit.chi2 < 1e-12).all()


def test_corrections_beyond_the_line_fall_like_one_over_the_width():
    """Delocalised vectors: A = Γ(1 + q)(1 + O(1/N)), so D_∞ from (N, 2N) errs by O(1/N)."""
    widths = 2 ** np.arange(5, 11)
    errors = []
    for n in widths:
        values = [delocalised_dimension(int(m), 2.0) for m in (n, 2 * n)]
        errors.append(float(extrapolate([n, 2 * n], values, [1e-3, 1e-3]).value) - 1)
    slope = np.polyfit(np.log(widths), np.log(np.abs(errors)), 1)[0]
    assert slope == pytest.approx(-1, abs=0.1)
    assert abs(float(delocalised_dimension(64, 2.0)) - 1) > 10 * abs(errors[1])


def test_errors_of_a_limit_are_those_of_repeated_draws():
    n, error = np.array([100, 200, 400, 800]), np.array([0.02, 0.01, 0.01, 0.005])
    noise = error[:, None] * rng().standard_normal((4, 4000))
    limit = extrapolate(n, (0.7 - 0.5 / np.log(n))[:, None] + noise, error[:, None] + 0 * noise)
    assert limit.value.mean() == pytest.approx(0.7, abs=5 * limit.error[0] / math.sqrt(4000))
    assert limit.value.std() == pytest.approx(limit.error[0], rel=0.05)
    assert limit.slope.std() == pytest.approx(limit.slope_error[0], rel=0.05)
    assert limit.chi2.mean() == pytest.approx(limit.degrees, rel=0.1)


# --- matrices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
def test_both_sides_solve_their_equations_in_one_order(alpha):
    w, d = layer(alpha, 2.0, 60)
    for matrix in (w * d, d[:, None] * w):
        system = eigenvectors(matrix)
        size = np.linalg.norm(matrix)
        large = np.abs(system.values) > 1e-12 * size
        rests = (
            matrix @ system.right.T - system.right.T * system.values,
            (system.left @ matrix - system.values[:, None] * system.left).T,
        )
        for rest in rests:
            assert np.abs(rest[:, large]).max() < 1e-11 * size
            assert np.abs(rest).max() < 1e-3 * size
        for side in (system.right, system.left):
            np.testing.assert_allclose(np.linalg.norm(side, axis=1), 1, rtol=1e-12)
        overlap = np.abs(system.left @ system.right.T)
        apart = np.abs(system.values[:, None] - system.values) > 1e-3 * np.abs(system.values).max()
        assert overlap[apart].max() < 1e-5


def test_the_sides_of_both_products_follow_from_one_another():
    """D W (D r) = λ (D r), (l W) D W = λ (l W), and l is the left vector of D W times D."""
    w, d = layer(1.4, 1.5, 50)
    wd, dw = eigenvectors(w * d), eigenvectors(d[:, None] * w)
    large = np.abs(wd.values) > 1e-3
    order = [np.abs(dw.values - value).argmin() for value in wd.values[large]]
    np.testing.assert_allclose(dw.values[order], wd.values[large], rtol=1e-8)
    for found, derived in (
        (dw.right[order], wd.right[large] * d),
        (dw.left[order], wd.left[large] @ w),
        (wd.left[large], dw.left[order] * d),
        (wd.right[large], dw.right[order] @ w.T),
    ):
        cosine = np.abs((found * derived.conj()).sum(1)) / np.linalg.norm(derived, axis=1)
        np.testing.assert_allclose(cosine, 1, atol=1e-9)


def test_saturated_neurons_cost_no_accuracy():
    """A column of 1e-60: LAPACK's balanced vectors alone would err by far more than rounding."""
    w, d = layer(1.2, 1.5, 80, spread=0.1)
    d[:3] = [1e-30, 1e-60, 1e-200]
    system = eigenvectors(w * d)
    residual = np.abs(w * d @ system.right.T - system.right.T * system.values).max(0)
    large = np.abs(system.values) > 1e-12
    assert residual[large].max() < 1e-10
    assert large.sum() == 77
    # the right vectors of the others live on the saturated neurons alone
    assert np.abs(system.right[~large][:, 3:]).max() < 1e-6


def test_left_vectors_of_one_product_have_the_law_of_right_ones_of_the_other():
    n_networks, gaps, errors = 12, {}, {}
    for first, second in (
        ("WD right", "DW left"),
        ("WD left", "DW right"),
        ("WD right", "WD left"),
    ):
        difference = []
        for k in range(n_networks):
            w, d = layer(1.2, 1.5, 64, seed=k)
            systems = {"WD": eigenvectors(w * d), "DW": eigenvectors(d[:, None] * w)}
            one, two = (
                fractal_dimension(getattr(systems[name.split()[0]], name.split()[1]), 2).mean()
                for name in (first, second)
            )
            difference.append(one - two)
        gaps[first, second] = abs(np.mean(difference))
        errors[first, second] = np.std(difference, ddof=1) / math.sqrt(n_networks)
    for pair in (("WD right", "DW left"), ("WD left", "DW right")):
        assert gaps[pair] < 4 * errors[pair]
    other = ("WD right", "WD left")
    assert gaps[other] > 5 * errors[other]  # … and the comparison can fail


# --- networks -------------------------------------------------------------------------------------


def network(**changes):
    options = {
        "activation": "tanh", "sigma_w2": [1.5, 2.0], "sigma_b2": 0.05, "width": 9, "depth": 4,
        "n_in": 9, "n_out": 5, "seeds": [1, 2], "dtype": DOUBLE,
    }  # fmt: skip
    return FullyConnected.draw(**{**options, **changes})


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_layers_jacobian_is_the_derivative(at):
    net, x = network(), torch.randn(3, 9, dtype=DOUBLE, generator=draws.generators([0])[0])
    states = net.pre_activations(x)
    found = layer_jacobian(net, x, at)
    for member in range(2):
        module = net.module(member)
        assert isinstance(module[1], nn.Tanh)
        after = module[2 * at - 1 : 2 * at + 1]
        for sample in range(3):
            h = states[at - 1][member, sample]
            expected = torch.autograd.functional.jacobian(after, h)
            np.testing.assert_allclose(found[member, sample], expected, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(layer_jacobian(module, x, at), found[member], rtol=1e-12)
    np.testing.assert_allclose(layer_jacobian(net, x[1], at), found[:, 1], rtol=1e-12)
    before = layer_jacobian(net, x, 2, matrix="DW")[0, 0]
    through = net.module(0)[2:4]
    y = torch.tanh(states[0][0, 0])
    expected = torch.autograd.functional.jacobian(through, y)
    np.testing.assert_allclose(before, expected, rtol=1e-10, atol=1e-12)


def test_saturation_keeps_its_size():
    """1 − tanh(30)² is 0 in float64; φ′(30) is 4e-26."""
    net = nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 2)).double()
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[0].bias.zero_()
        net[2].weight.fill_(1.0)
    found = layer_jacobian(net, torch.tensor([30.0]), 1)
    np.testing.assert_allclose(found, float(1 / mp.cosh(30) ** 2), rtol=1e-12)


def test_observations_have_a_row_for_each_member_side_and_order():
    net = network(n_in=4)
    x = torch.randn(3, 4, dtype=DOUBLE, generator=draws.generators([0])[0])
    table = observe_dimensions(net, x, layer=2, q=[0.5, 2.0])
    assert list(table["member"]) == [0] * 4 + [1] * 4
    assert list(table["side"][:4]) == ["right", "right", "left", "left"]
    vectors = [eigenvectors(m).left for m in layer_jacobian(net, x, 2)[1]]
    d = fractal_dimension(np.concatenate(vectors), 2.0)
    row = table.query("member == 1 and side == 'left' and q == 2").iloc[0]
    assert row["dimension"] == pytest.approx(d.mean(), rel=1e-12)
    assert row["spread"] == pytest.approx(d.std(), rel=1e-12)
    assert row["delocalised"] == pytest.approx(float(delocalised_dimension(9, 2)), rel=1e-12)
    single = observe_dimensions(net.module(1), x, layer=2, q=[0.5, 2.0])
    assert single["dimension"].tolist() == pytest.approx(table["dimension"][4:].tolist())


def test_a_network_that_diverged_has_no_dimensions_and_the_others_keep_theirs():
    net = network(n_in=4)
    x = torch.randn(2, 4, dtype=DOUBLE, generator=draws.generators([0])[0])
    before = observe_dimensions(net, x, layer=2)
    net.weights[1][0, 3, 4] = math.nan
    after = observe_dimensions(net, x, layer=2)
    assert after.query("member == 0")["dimension"].isna().all()
    rest = before.query("member == 1")
    pd.testing.assert_frame_equal(after.query("member == 1"), rest)
    assert after["side"].tolist() == before["side"].tolist()


def test_dimensions_are_observed_along_training():
    grid = training.Grid(
        sigma_w2=(1.5, 2.0), depths=(3,), seeds=(0,), width=12, steps=4, batch_size=8,
        steps_per_epoch=2, dataset="digits", learning_rate=0.1,
    )  # fmt: skip
    table = training.observed(
        grid, observe_dimensions, at=[0, 4], n_inputs=2, options={"layer": 2, "sides": ["right"]},
        device="cpu", progress=False,
    )  # fmt: skip
    assert len(table) == 4
    assert table["dimension"].between(0.2, 1).all()
    before, after = (table[table["step"] == step]["dimension"].to_numpy() for step in (0, 4))
    assert (before != after).all()


# --- random layers --------------------------------------------------------------------------------


def test_gaussian_layers_are_delocalised_and_heavy_tailed_ones_are_not():
    """At α = 2 the dimensions tend to 1; at α = 1.2 the right vectors of W D stay far below."""
    table = sample_dimensions(
        alpha=[1.2, 2.0], D_w=[1.5**1.2, 1.5**2], widths=[48, 96, 192], n_networks=12, seed=3,
        q=[0.5, 2.0], diagonal="propagated",
    )  # fmt: skip
    limits = {
        (alpha, q): extrapolate(rows["width"], rows["dimension"], rows["error"])
        for (alpha, q), rows in table.groupby(["alpha", "q"])
    }
    for q in (0.5, 2.0):
        gaussian = limits[2.0, q]
        # of order 1/N remains, as the test above shows, and of slow tails of 1/φ′
        assert abs(gaussian.value - 1) < 4 * gaussian.error + 0.05
    assert limits[1.2, 2.0].value < 0.8 - 3 * limits[1.2, 2.0].error
    heavy = table.query("alpha == 1.2")
    assert (heavy["dimension"] < heavy["delocalised"] - 5 * heavy["error"]).all()


def test_at_the_fixed_point_there_are_two_kinds_of_vectors_not_four():
    """W and D are independent there, so left vectors of W D have the law of right ones of D W."""
    table = sample_dimensions(
        alpha=1.3, D_w=1.5**1.3, widths=100, n_networks=16, seed=2, sides=SIDES,
        matrices=["WD", "DW"],
    )  # fmt: skip
    rows = table.set_index(["matrix", "side"])
    for one, two in ((("WD", "left"), ("DW", "right")), (("WD", "right"), ("DW", "left"))):
        gap = rows.loc[one, "dimension"] - rows.loc[two, "dimension"]
        assert abs(gap) < 4 * math.hypot(rows.loc[one, "error"], rows.loc[two, "error"])
    for matrix, localised, spread in (("WD", "right", "left"), ("DW", "left", "right")):
        gap = rows.loc[(matrix, spread), "dimension"] - rows.loc[(matrix, localised), "dimension"]
        assert gap > 0.1


def test_without_a_length_the_layer_is_its_weights():
    """At α = 2 below the transition q* = 0, so D = 1, and both products are the Gaussian matrix."""
    options = {"alpha": 2.0, "D_w": 0.5, "widths": 32, "n_networks": 2, "seed": 4}
    products = sample_dimensions(matrices=["WD", "DW"], sides=SIDES, **options)
    assert products.groupby("side")["dimension"].nunique().tolist() == [1, 1]
    twice = sample_dimensions(**{**options, "D_w": 0.7})
    assert twice["dimension"][0] == pytest.approx(products["dimension"][0], rel=1e-10)
    right = products["dimension"][0]
    assert 0.9 * products["delocalised"][0] < right < products["delocalised"][0]


def test_the_fixed_point_is_where_deep_propagation_leads():
    """At α = 2 D's law agrees, and W^{l+1} is independent of D^l: the same mean dimension."""
    options = {"alpha": 2.0, "D_w": 2.0, "widths": 150, "n_networks": 10, "seed": 6}
    theory = sample_dimensions(**options).iloc[0]
    passed = sample_dimensions(diagonal="propagated", layer=12, **options).iloc[0]
    gap = theory["dimension"] - passed["dimension"]
    assert abs(gap) < 4 * math.hypot(theory["error"], passed["error"])


def test_sampling_depends_on_seed_and_sizes_alone_and_shards_are_kept(tmp_path):
    settings_ = {"alpha": 1.5, "widths": 24, "seed": 5, "q": [0, 1, 2], "diagonal": "propagated"}
    store = Store(tmp_path)
    first = sample_dimensions(D_w=2.0, n_networks=3, store=store, **settings_)
    files = sorted(path.name for path in tmp_path.rglob("*.json"))
    assert len(files) == 3
    again = sample_dimensions(D_w=2.0, n_networks=3, store=store, **settings_)
    assert first.equals(again)
    assert sorted(path.name for path in tmp_path.rglob("*.json")) == files
    beside = sample_dimensions(D_w=[2.0, 3.0], n_networks=3, **settings_)[:3]
    pd.testing.assert_frame_equal(first, beside)
    other = sample_dimensions(D_w=2.0, n_networks=3, **{**settings_, "seed": 6})
    assert (other["dimension"] != first["dimension"])[1:].all()
    assert first["error"][0] == 0  # D_0 counts entries: all of them, in every network
    assert list(first["dimension"]) == sorted(first["dimension"], reverse=True)


def test_spread_and_error_are_those_of_all_eigenvectors():
    options = {"alpha": 1.3, "D_w": 1.7, "widths": 16, "seed": 1, "diagonal": "propagated"}
    pair = sample_dimensions(n_networks=2, **options).iloc[0]
    one = sample_dimensions(n_networks=1, **options).iloc[0]
    other = 2 * pair["dimension"] - one["dimension"]
    gap = abs(one["dimension"] - other)
    assert pair["error"] == pytest.approx(gap / 2, rel=1e-9)
    assert math.isnan(one["error"])
    # variance over all vectors: mean variance within networks, and that of their means
    within = 2 * (pair["spread"] ** 2 - gap**2 / 4) - one["spread"] ** 2
    assert within > 0


# --- the cavity picture ---------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.8, 1.5, 1.99, 2.0])
def test_one_sided_sums_have_their_laplace_transform(alpha):
    s = multifractal._one_sided(alpha, 200_000, rng())
    assert (s > 0).all()
    k = math.gamma(1 + alpha) / (2 * math.gamma(1 + alpha / 2))
    for t in (0.1, 1.0, 5.0):
        values = np.exp(-t * s)
        error = max(values.std() / math.sqrt(len(s)), 1e-12)
        assert abs(values.mean() - math.exp(-k * t ** (alpha / 2))) < 5 * error


@pytest.mark.parametrize("alpha", [1.2, 1.7])
def test_the_cavity_picture_gives_both_kinds_of_eigenvectors(alpha):
    """No parameter is fitted; the two sides differ by far more than either from its prediction."""
    options = {"alpha": alpha, "D_w": 1.5**alpha, "widths": 160, "q": [0.5, 1, 2], "sides": SIDES}
    theory = cavity_dimensions(seed=1, n_vectors=1500, **options).set_index(["side", "q"])
    sample = sample_dimensions(seed=2, n_networks=20, **options).set_index(["side", "q"])
    gap = (sample["dimension"] - theory["dimension"]).abs()
    assert (gap < 4 * np.hypot(sample["error"], theory["error"]) + 0.01).all()
    apart = sample["dimension"]["left"] - sample["dimension"]["right"]
    assert (apart > 3 * gap["left"] + 0.03).all()


def test_without_a_length_the_cavity_picture_is_a_random_direction():
    """At α = 2 and q* = 0 all sites are alike: |v_i|² ~ Exp(1) on both sides."""
    table = cavity_dimensions(
        alpha=2.0, D_w=0.5, widths=50, q=[0.5, 2.0], sides=SIDES, n_vectors=3000, seed=0
    )
    v = rng(1).standard_normal((10_000, 50)) + 1j * rng(2).standard_normal((10_000, 50))
    expected = fractal_dimension(v, [0.5, 2.0]).mean(0)
    for _, rows in table.groupby("side"):
        assert (np.abs(rows["dimension"] - expected) < 4 * rows["error"]).all()


def test_the_cavity_picture_becomes_exact_in_width():
    """At α = 2, where networks scatter little, real eigenvectors remain: a share √(2/πN) of all.

    Their IPR_2 is 3/N, not 2/N, so the gap falls like N^{−1/2}/ln N, a slope near −0.7 here.
    """
    options = {"alpha": 2.0, "D_w": 2.25, "widths": [40, 80, 160], "sides": ["left"]}
    theory = cavity_dimensions(seed=1, n_vectors=2500, **options)
    parts = [
        sample_dimensions(seed=2, n_networks=n_networks, **{**options, "widths": width})
        for width, n_networks in ((40, 120), (80, 50), (160, 25))
    ]
    sample = pd.concat(parts, ignore_index=True)
    gap = theory["dimension"] - sample["dimension"]
    slope, uncertainty = log_slope(theory["width"], gap, np.hypot(theory["error"], sample["error"]))
    assert gap[0] > 0.01
    assert abs(slope + 0.7) < 3 * uncertainty + 0.1
    assert slope + 3 * uncertainty < 0


def test_the_unbounded_kind_freezes_and_the_bounded_one_delocalises():
    """D_2 of right vectors falls with N, that of left ones rises, on the way to 0 and 1."""
    table = cavity_dimensions(
        alpha=1.2, D_w=1.5**1.2, widths=[100, 3000], sides=SIDES, seed=0, n_vectors=200
    ).set_index(["side", "width"])
    for side, sign in (("right", -1), ("left", 1)):
        rows = table.loc[side]
        change = sign * (rows.loc[3000, "dimension"] - rows.loc[100, "dimension"])
        assert change > 4 * math.hypot(*rows["error"])


# --- faults ---------------------------------------------------------------------------------------


GOOD = {"alpha": 1.5, "D_w": 1.0, "widths": 8, "n_networks": 1, "seed": 0}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: fractal_dimension([0.0, 0.0], 2), "0 or not finite"),
        (lambda: fractal_dimension([np.nan, 1.0], 2), "0 or not finite"),
        (lambda: fractal_dimension([1.0], 2), "at least 2 entries"),
        (lambda: inverse_participation([1.0, 1.0], -0.5), "q = -0.5 is out of range"),
        (lambda: delocalised_dimension(1, 2), "width=1 must be at least 2"),
        (lambda: extrapolate([100, 100], [1, 1], [1, 1]), "two different"),
        (lambda: extrapolate([100, 200], [1, 1, 1], [1, 1, 1]), "first axis for the 2 widths"),
        (lambda: extrapolate([100, 200], [1, 1], [1, 0]), "above 0"),
        (lambda: eigenvectors(np.ones((3, 4))), "must be square"),
        (lambda: eigenvectors(np.full((2, 2), np.inf)), "not finite"),
        (lambda: layer_jacobian(network(), torch.ones(9), 5), "layer=5 must be in [1, 4]"),
        (lambda: layer_jacobian(network(), torch.ones(9), 1, matrix="W"), "one of WD, DW"),
        (lambda: layer_jacobian(network(), torch.ones(1, 1, 9), 1), "(d,) or (n, d)"),
        (
            lambda: layer_jacobian(nn.Sequential(nn.Linear(2, 2), nn.Dropout()), torch.ones(2), 1),
            "Dropout",
        ),
        (lambda: layer_jacobian(nn.Linear(2, 2), torch.ones(2), 1), "type Linear"),
        (lambda: observe_dimensions(network(), torch.ones(9), layer=4), "square layer"),
        (lambda: observe_dimensions(network(), torch.full((9,), math.nan), layer=2), "not finite"),
        (lambda: observe_dimensions(network(), torch.ones(9), layer=2, sides="left"), "list"),
        (lambda: sample_dimensions(**{**GOOD, "alpha": 2.1}), "alpha=2.1 must be in (0.5, 2]"),
        (lambda: sample_dimensions(**{**GOOD, "alpha": 0.5}), "alpha=0.5 must be in (0.5, 2]"),
        (lambda: sample_dimensions(**{**GOOD, "D_w": 0.0}), "above 0"),
        (lambda: sample_dimensions(**{**GOOD, "widths": 1}), "widths=1 must be at least 2"),
        (lambda: sample_dimensions(**{**GOOD, "n_networks": 0}), "n_networks=0"),
        (lambda: cavity_dimensions(alpha=0.4, D_w=1.0, widths=9, seed=0), "stability index"),
        (lambda: cavity_dimensions(alpha=1.4, D_w=1.0, widths=[], seed=0), "at least one"),
        (lambda: cavity_dimensions(alpha=1.4, D_w=-1.0, widths=9, seed=0), "above 0"),
        (lambda: cavity_dimensions("relu", alpha=1.4, D_w=1.0, widths=9, seed=0), "not exist"),
        (lambda: sample_dimensions(**GOOD, q=[2, 2]), "different numbers"),
        (lambda: sample_dimensions(**GOOD, sides=["up"]), "one of right, left"),
        (lambda: sample_dimensions(**GOOD, diagonal="none"), "one of fixed-point, propagated"),
        (lambda: sample_dimensions("prelu", **GOOD), "'prelu' cannot be trained"),
        (lambda: sample_dimensions("relu", **GOOD), "does not exist at alpha = 1.5"),
        (
            lambda: sample_dimensions("linear", **{**GOOD, "alpha": 2.0, "D_w": 2.0}),
            "has no fixed point",
        ),
        (
            lambda: sample_dimensions(**{**GOOD, "alpha": [1.1, 1.2], "D_w": [1.0, 2.0, 3.0]}),
            "do not broadcast",
        ),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, says):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sides_are_named_in_the_order_of_the_tables():
    assert SIDES == ("right", "left")
