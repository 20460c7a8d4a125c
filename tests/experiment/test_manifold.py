"""Circles through random networks: exact pictures of linear maps, mean-field lengths, shards."""

import math
import os
import signal
import time

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from mflib.experiment import draws, manifold
from mflib.experiment.store import Store
from mflib.theory import levy, stable

DOUBLE = torch.float64
PLANE = {
    "alpha": [1.2, 2.0], "gain": [0.5, 2.0], "width": 24, "depth": 4, "n_angles": 30,
    "n_networks": 2, "seed": 0,
}  # fmt: skip


def generator(seed=0):
    return draws.generators([seed])[0]


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=DOUBLE, generator=generator(seed))


def small(**changes):
    options = {
        "alpha": 1.5, "D_w": 1.2, "width": 24, "depth": 4, "n_angles": 30, "n_networks": 2,
        "seed": 0,
    }  # fmt: skip
    return manifold.propagate(**{**options, **changes})


def plane(**changes):
    return manifold.sweep(**{**PLANE, "progress": False, **changes})


# --- the circle -----------------------------------------------------------------------------------


@pytest.mark.parametrize("plane_", ["axes", "random"])
def test_a_circle_is_round_closed_and_centred(plane_):
    h = manifold.circle(12, 50, radius=3.0, plane=plane_, generator=generator())
    assert h.shape == (50, 12)
    np.testing.assert_allclose(h.norm(dim=1), 3, rtol=1e-14)
    np.testing.assert_allclose(h.mean(0), 0, atol=1e-14)
    gaps = (h.roll(-1, 0) - h).norm(dim=1)  # the last step closes the circle like all others
    np.testing.assert_allclose(gaps, 6 * math.sin(math.pi / 50), rtol=1e-12)
    assert torch.linalg.matrix_rank(h) == 2
    if plane_ == "axes":
        assert (h[:, 2:] == 0).all()


def test_a_random_plane_is_uniform():
    """The projection of u on an axis has variance 1/N."""
    members = generator()
    first = [
        float(manifold.circle(10, 3, plane="random", generator=members)[0, 4]) for _ in range(2000)
    ]
    assert np.var(first) == pytest.approx(0.1, rel=5 * math.sqrt(2 / 2000))


# --- curves ---------------------------------------------------------------------------------------


def test_variation_of_an_ellipse_is_that_of_elliptic_integrals():
    """Chords of an ellipse are its speed at the middle times 2 sin(Δθ/2), which cancels in CV.

    So the sums over angles are midpoint sums of a periodic function: they converge geometrically.
    """
    a, b = 3.0, 1.0
    mean = 2 * a / math.pi * special.ellipe(1 - (b / a) ** 2)
    expected = math.sqrt((a * a + b * b) / 2 / mean**2 - 1)
    errors = []
    for n in (8, 16, 32):
        curve = manifold.circle(5, n) * torch.tensor([a, b, 1, 1, 1])
        errors.append(abs(float(manifold.variation(curve)) - expected))
    assert errors[1] < 0.2 * errors[0] ** 1.5
    assert errors[2] < 1e-6


@given(st.floats(-280, 280), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_variation_forgets_scale_rotation_offset_and_where_the_curve_starts(exponent, seed):
    h = normal(12, 5, seed=seed)
    frame = draws.haar_orthogonal(5, 5, [generator(seed)], dtype=DOUBLE)[0]
    moved = (10.0**exponent * (h @ frame + 1)).roll(3, 0)
    assert float(manifold.variation(moved)) == pytest.approx(float(manifold.variation(h)), rel=1e-9)


def test_a_point_has_no_variation():
    assert math.isnan(float(manifold.variation(torch.ones(5, 3, dtype=DOUBLE))))


# --- networks -------------------------------------------------------------------------------------


def by_hand(alpha, gain, *, width=24, depth=4, n_angles=30, network=0, seed=0):
    """Return the curves of one network from its weights, layer by layer."""
    member = draws.generators([draws.derive_seed(seed, "manifold", width, network)])
    h = manifold.circle(width, n_angles)
    curves = [h]
    for _ in range(depth):
        w = draws.standard_stable(
            (width, width), member, alpha=torch.tensor([alpha], dtype=DOUBLE), dtype=DOUBLE
        )[0]
        h = torch.tanh(h) @ (gain * (0.5 / width) ** (1 / alpha) * w).T
        curves.append(h)
    return curves


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
def test_the_measures_are_those_of_the_curves(alpha):
    found = small(alpha=alpha, D_w=1.5**alpha)
    assert found.layers == (0, 1, 2, 3, 4)
    for layer, h in enumerate(by_hand(alpha, 1.5, network=1)):
        h = h.numpy()
        centred = h - h.mean(0)
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        here = (1, layer)
        np.testing.assert_allclose(np.exp(found.log_variance[here]), h.var(0).sum(), rtol=1e-10)
        np.testing.assert_allclose(np.exp(found.log_sum[here]), s.sum(), rtol=1e-10)
        np.testing.assert_allclose(found.shares[here], s**2 / (s**2).sum(), atol=1e-13)
        np.testing.assert_allclose(np.exp(found.log_median[here]), np.median(abs(h)), rtol=0.02)
        steps = np.linalg.norm(np.roll(h, -1, 0) - h, axis=1)
        assert found.cv[here] == pytest.approx(steps.std() / steps.mean(), abs=1e-10)
        components = found.components[here]
        np.testing.assert_allclose(components.T @ components, np.eye(3), atol=1e-10)
        rank = min(3, int((s > 1e-9 * s[0]).sum()))
        first = components[:, :rank] * s[:rank]
        np.testing.assert_allclose(
            first @ first.T, (u[:, :rank] * s[:rank] ** 2) @ u[:, :rank].T,
            atol=1e-9 * s[0] ** 2,
        )  # fmt: skip
        assert (components.max(0) >= -components.min(0)).all()


def test_a_sweep_holds_the_networks_of_propagate():
    table = plane()
    assert len(table) == 2 * 2 * 2 * 5
    for (alpha, gain), rows in table.groupby(["alpha", "gain"]):
        curves = small(alpha=alpha, D_w=gain**alpha)
        for name in ("log_variance", "log_sum", "cv", "log_median"):
            found = rows[name].to_numpy().reshape(2, 5)
            np.testing.assert_allclose(found, getattr(curves, name), rtol=1e-6, atol=1e-6)
        shares = rows[[f"share_{k}" for k in range(1, 6)]].to_numpy().reshape(2, 5, 5)
        np.testing.assert_allclose(shares, curves.shares[..., :5], atol=1e-12)
        top = rows["log_top"].to_numpy().reshape(2, 5)
        np.testing.assert_allclose(top, curves.log_singular_values[..., 0], rtol=1e-10)


def test_wide_curves_and_long_ones_use_the_smaller_gram_matrix():
    """More angles than neurons, and fewer: the measures are the same."""
    for n_angles in (10, 40):
        row = plane(alpha=[1.5], gain=[1.3], n_angles=n_angles, layers=[3], n_networks=1).iloc[0]
        curves = small(D_w=1.3**1.5, n_angles=n_angles, layers=[3], n_networks=1)
        assert row["log_variance"] == pytest.approx(curves.log_variance[0, 0], rel=1e-10)
        assert row["share_2"] == pytest.approx(curves.shares[0, 0, 1], abs=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 1.4, 2.0])
def test_the_ordered_phase_is_linear_and_keeps_its_precision(alpha):
    """Far below the transition the image is an ellipse, at any size; tanh shows in h⁰ alone."""
    curves = small(alpha=alpha, D_w=1e-3**alpha, depth=30, radius=1e-3, n_networks=1)
    assert curves.log_variance[0, -1] < -300
    np.testing.assert_allclose(curves.shares[0, :, :2].sum(-1), 1, atol=1e-10)
    factor = np.diff(curves.log_variance[0]) - 2 * math.log(1e-3)
    near = small(alpha=alpha, D_w=1e-4**alpha, depth=30, radius=1e-4, n_networks=1)
    again = np.diff(near.log_variance[0]) - 2 * math.log(1e-4)
    np.testing.assert_allclose(factor, again, atol=1e-5)  # same matrices, another gain
    s = np.exp(curves.log_singular_values[0, -1, :2] - curves.log_singular_values[0, -1, 0])
    # an ellipse of these half-axes has this CV, up to the step
    theta = (np.arange(4000) + 0.5) * (2 * np.pi / 4000)
    speed = np.hypot(s[0] * np.sin(theta), s[1] * np.cos(theta))
    assert curves.cv[0, -1] == pytest.approx(speed.std() / speed.mean(), rel=0.05)


@pytest.mark.parametrize(("alpha", "gain"), [(1.2, 1.5), (1.6, 1.0), (2.0, 0.8)])
def test_lengths_follow_the_mean_field_map(alpha, gain):
    """log q^l from the median of |h|, which converges where no moment does, along eq. 5.

    q⁰ is the circle's own Σ|φ(x)|^α/N, averaged over its angles; the law of h is stable from the
    first layer on. Networks scatter about the map, each for all its layers together.
    """
    width, depth, radius = 400, 4, 20.0
    options = {"radius": radius, "plane": "random", "n_angles": 3, "depth": depth}
    curves = manifold.propagate(
        alpha=alpha, D_w=gain**alpha, width=width, n_networks=16, seed=1, **options
    )
    start = torch.tanh(radius / math.sqrt(width) * normal(10**6))
    log_q = math.log(gain**alpha * float(start.abs().pow(alpha).mean()))
    for layer in range(1, depth + 1):
        sample = math.log(2) + alpha * (
            curves.log_median[:, layer] - math.log(stable.ppf(0.75, alpha))
        )
        error = sample.std(ddof=1) / math.sqrt(len(sample))
        assert abs(sample.mean() - log_q) < 4 * error + 0.01
        log_q = float(levy.length_map("tanh", alpha, log_q, gain**alpha))


def test_the_regimes_differ_as_the_paper_says():
    """CV is small when ordered, small at α = 2 throughout, and large at α = 1 between (fig. 5)."""
    table = plane(
        alpha=[1.0, 2.0], gain=[0.25, 0.75, 3.0], width=150, depth=12, n_angles=100, n_networks=8,
        layers=[12],
    )  # fmt: skip
    log_cv = np.log(table.set_index(["alpha", "gain", "network"])["cv"]).unstack()
    extended = log_cv.loc[1.0, 0.75]
    for other in ((1.0, 0.25), (2.0, 0.25), (2.0, 0.75), (2.0, 3.0)):
        apart = extended - log_cv.loc[other]
        assert apart.mean() > 3 * apart.sem()


# --- shards ---------------------------------------------------------------------------------------


def test_shards_are_kept_resumed_and_the_same_beside_others(tmp_path, monkeypatch):
    store = Store(tmp_path)
    first = plane(store=store)
    assert len(list(tmp_path.rglob("*.json"))) == 4

    def refuse(*_):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(manifold._circles, "described", refuse)
        pd.testing.assert_frame_equal(plane(store=store), first)
    more = plane(store=store, alpha=[1.2, 1.6, 2.0], n_networks=3)
    assert len(list(tmp_path.rglob("*.json"))) == 9
    shared = more.query("alpha != 1.6 and network < 2").reset_index(drop=True)
    pd.testing.assert_frame_equal(shared, first)
    pd.testing.assert_frame_equal(plane(), first)
    assert not plane(seed=1).equals(first)


def test_some_networks_have_the_shards_that_they_have_among_all(tmp_path):
    """Blocks of networks put together are the whole: the same keys, the same rows, none twice."""
    store, blocks = Store(tmp_path), ([2, 0], range(1, 2))
    rows = [plane(store=store, n_networks=3, networks=block) for block in blocks]
    names = {path.stem for path in tmp_path.rglob("*.json")}
    keys = manifold.sweep_keys(**{**PLANE, "n_networks": 3})
    assert [(key["network"], key["alpha"]) for key in keys] == [
        (k, a) for k in range(3) for a in (1.2, 2.0)
    ]
    assert names == {store.name(key) for key in keys}
    some = manifold.sweep_keys(**{**PLANE, "n_networks": 3, "networks": [1]})
    assert some == keys[2:4]
    whole = plane(n_networks=3)
    order = ["alpha", "gain", "network", "layer"]
    found = pd.concat(rows).sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(found, whole)


def test_keys_are_those_of_a_kind_of_device_that_need_not_be_here():
    here, there = (manifold.sweep_keys(**PLANE, device=kind) for kind in ("cpu", "cuda"))
    assert [key.pop("device") for key in here + there] == ["cpu"] * 4 + ["cuda"] * 4
    assert here == there


@pytest.mark.parametrize(("activation", "n_angles"), [("tanh", 30), ("tanh", 31), ("relu", 30)])
def test_half_of_the_circle_says_all_where_it_is_used(activation, n_angles):
    """A sweep's measures are those of the whole curves of ``propagate``, halved or not."""
    settings = manifold._circles.Settings.checked(activation, 24, 4, n_angles, 0, None, 1.0, "axes")
    assert settings.halves == (activation == "tanh" and n_angles == 30)
    options = {"width": 24, "depth": 4, "n_angles": n_angles, "n_networks": 1, "seed": 0}
    rows = manifold.sweep(activation, alpha=[1.5], gain=[1.6], progress=False, **options)
    whole = manifold.propagate(activation, alpha=1.5, D_w=1.6**1.5, **options)
    np.testing.assert_allclose(rows["cv"], whole.cv[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(rows["log_variance"], whole.log_variance[0], atol=1e-12)
    np.testing.assert_allclose(rows["share_2"], whole.shares[0, :, 1], atol=1e-13)
    np.testing.assert_allclose(rows["log_median"], whole.log_median[0], atol=1e-12)


def test_an_interrupt_keeps_what_is_done(tmp_path, monkeypatch):
    store, described, calls = Store(tmp_path), manifold._circles.described, []

    def stop(curve, *, half):
        calls.append(1)
        if len(calls) > 25:
            raise KeyboardInterrupt
        return described(curve, half=half)

    with monkeypatch.context() as patch:
        patch.setattr(manifold._circles, "described", stop)
        with pytest.raises(KeyboardInterrupt, match="after 2 of 4 shards, all kept"):
            plane(store=store)
    assert len(list(tmp_path.rglob("*.json"))) == 2
    pd.testing.assert_frame_equal(plane(store=store), plane())


def test_ctrl_c_stops_within_a_shard(tmp_path, monkeypatch):
    """Shards have 10 curves each; the interrupt comes at the second of the second shard."""
    store, described, calls = Store(tmp_path), manifold._circles.described, []

    def slow(curve, *, half):
        calls.append(1)
        if len(calls) == 12:
            os.kill(os.getpid(), signal.SIGINT)
        if len(calls) >= 12:
            time.sleep(0.5)
        return described(curve, half=half)

    monkeypatch.setattr(manifold._circles, "described", slow)
    with pytest.raises(KeyboardInterrupt, match="after 1 of 4 shards, all kept"):
        plane(store=store)
    assert 12 <= len(calls) < 20


def test_numbers_do_not_depend_on_the_number_of_cores():
    one, before = plane(width=150, n_angles=120), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = plane(width=150, n_angles=120)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    pd.testing.assert_frame_equal(one, two, check_exact=True)


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: manifold.circle(1, 10), "width=1 must be at least 2"),
        (lambda: manifold.circle(5, 2), "n_angles=2 must be at least 3"),
        (lambda: manifold.circle(5, 9, radius=0), "radius=0 must be above 0"),
        (lambda: manifold.circle(5, 9, plane="random"), "needs a generator"),
        (lambda: manifold.circle(5, 9, plane="tilted"), "one of axes, random"),
        (lambda: small(alpha=2.5), "alpha=2.5 must be in (0.5, 2]"),
        (lambda: small(alpha=0.5), "alpha=0.5 must be in (0.5, 2]"),
        (lambda: small(D_w=0), "D_w=0 must be above 0"),
        (lambda: small(depth=0), "depth=0 must be at least 1"),
        (lambda: small(n_networks=0), "n_networks=0 must be at least 1"),
        (lambda: small(layers=[5]), "in [0, depth=4]"),
        (lambda: small(layers=[]), "at least one number"),
        (lambda: small(layers=[2, 2]), "without repetition"),
        (lambda: small(activation="prelu"), "'prelu' cannot be trained"),
        (lambda: small(seed=0.5), "seed=0.5 must be an integer"),
        (lambda: plane(gain=[0.5, -1.0]), "gain=-1.0 must be above 0"),
        (lambda: plane(gain=1.0), "list of at least one number"),
        (lambda: plane(alpha=[1.2, 1.2]), "without repetition"),
        (lambda: plane(networks=[2]), "networks=2 must be in [0, n_networks=2)"),
        (lambda: plane(networks=[0, 0]), "without repetition"),
        (lambda: plane(device="tpu"), 'must be "auto", "cpu" or "cuda"'),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, says):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
