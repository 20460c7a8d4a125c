"""Learning curves read: crossings, averages, best rates, exponents with honest intervals."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mflib.experiment import curves


def table(steps_of, depths=(10, 20, 40, 80), seeds=range(6), rates=(0.1,)):
    rows = [
        {"depth": d, "sigma_w2": 1.5, "learning_rate": r, "seed": s, "steps": steps_of(d, r, s)}
        for d in depths
        for r in rates
        for s in seeds
    ]
    return pd.DataFrame(rows)


def curve(steps, values, **changes):
    network = {"depth": 5, "sigma_w2": 1.5, "learning_rate": 0.1, "seed": 0} | changes
    return pd.DataFrame({"step": steps, "train_accuracy": values}).assign(**network)


def test_the_crossing_lies_on_the_line_between_scores():
    frame = pd.concat(
        [
            curve([0, 10, 20], [0.1, 0.5, 0.9]),
            curve([0, 10, 20], [0.8, 0.5, 0.9], seed=1),
            curve([20, 0, 10], [0.65, 0.1, 0.2], seed=2),  # in any order
        ]
    )
    found = curves.steps_to(frame, 0.7).set_index("seed").steps
    assert found[0] == pytest.approx(15)
    assert found[1] == 0  # the first score is there already
    assert np.isinf(found[2])


@given(st.floats(0.05, 1.0), st.integers(2, 40), st.integers(0, 10_000))
def test_a_higher_target_is_never_reached_sooner(target, n, seed):
    rng = np.random.default_rng(seed)
    frame = curve(np.arange(n), rng.random(n))
    low, high = (curves.steps_to(frame, t).steps.iloc[0] for t in (target, min(1.0, target + 0.05)))
    assert low <= high


def test_the_average_trails_and_keeps_the_length():
    values = np.random.default_rng(0).random((12, 3))
    out = curves.smooth(values, 4)
    assert out.shape == values.shape
    np.testing.assert_allclose(out[7], values[4:8].mean(0))
    np.testing.assert_allclose(out[1], values[:2].mean(0))
    np.testing.assert_array_equal(curves.smooth(values, 1), values)


def test_a_rate_that_fails_once_is_not_the_best():
    def steps(depth, rate, seed):
        return np.inf if rate == 0.3 and seed == 2 else 10 / rate

    kept = curves.at_best_rate(table(steps, rates=(0.01, 0.1, 0.3)))
    assert set(kept.learning_rate) == {0.1}
    assert len(kept) == 4 * 6


def test_heavy_tailed_networks_are_told_apart_by_alpha():
    """Two α at one D_w are two networks: each has its own steps, and its own best rate."""
    frame = pd.concat(
        [
            curve([0, 10, 20], values, alpha=alpha, learning_rate=rate)
            for alpha, rate, values in (
                (1.2, 0.1, [0.1, 0.2, 0.9]),
                (1.2, 0.2, [0.1, 0.9, 0.9]),
                (2.0, 0.1, [0.9, 0.9, 0.9]),
                (2.0, 0.2, [0.1, 0.1, 0.9]),
            )
        ]
    )
    found = curves.steps_to(frame, 0.9)
    assert found[["alpha", "learning_rate", "steps"]].values.tolist() == [
        [1.2, 0.1, 20], [1.2, 0.2, 10], [2.0, 0.1, 0], [2.0, 0.2, 20]
    ]  # fmt: skip
    kept = curves.at_best_rate(found)
    assert kept[["alpha", "learning_rate"]].values.tolist() == [[1.2, 0.2], [2.0, 0.1]]


def test_where_every_rate_fails_infinity_is_told():
    kept = curves.at_best_rate(table(lambda d, r, s: np.inf, rates=(0.1, 0.2)))
    assert np.isinf(kept.steps).all()
    assert len(kept) == 4 * 6


def test_the_interval_of_the_exponent_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(300):
        noise = np.exp(0.1 * rng.standard_normal((6, 4)))
        steps = {
            (d, s): 3 * d**0.5 * noise[s, k]
            for k, d in enumerate((10, 20, 40, 80))
            for s in range(6)
        }
        found = curves.growth(table(lambda d, r, s, at=steps: at[d, s]))
        covered.append(found.lower < 0.5 < found.upper)
    error = np.sqrt(0.95 * 0.05 / 300)
    assert abs(np.mean(covered) - 0.95) < 4 * error


def test_depths_that_were_not_learnt_are_left_out_and_named():
    found = curves.growth(table(lambda d, r, s: np.inf if d == 80 and s == 1 else d))
    assert found.depths == (10, 20, 40)
    assert found.missed == (80,)
    assert found.exponent == pytest.approx(1)
    with pytest.raises(ValueError, match=r"only depths \[10, 20\] reached the target"):
        curves.growth(table(lambda d, r, s: np.inf if d > 20 else d))
    with pytest.raises(ValueError, match="in all of 1 seeds"):
        curves.growth(table(lambda d, r, s: d, seeds=[0]))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda f: curves.steps_to(f, 1.2), r"target=1.2 must be in \(0, 1\]"),
        (lambda f: curves.steps_to(f, 0.0), "target=0.0 must be"),
        (lambda f: curves.steps_to(f, 0.5, measure="luck"), "measure='luck' must be one of step"),
        (lambda f: curves.smooth([1.0], 0), "window=0 must be at least 1"),
    ],
)
def test_bad_values_are_named(call, says):
    with pytest.raises(ValueError, match=says):
        call(curve([0, 1], [0.1, 0.9]))


def race(seeds, offset=0.0):
    rows = [
        {"step": step, "seed": seed, "train_accuracy": offset + step / 10 + seed / 100,
         "test_accuracy": step / 10}
        for seed in seeds for step in (0, 1, 2)
    ]  # fmt: skip
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_leads_are_means_over_the_curve_with_errors_over_seeds():
    ahead, behind = race([0, 1, 3]), race([0, 1, 3])
    ahead["train_accuracy"] += 0.1 + 0.02 * ahead["seed"]  # gaps 0.10, 0.12, 0.16
    found = curves.leads(curves.smoothed(ahead, 1), curves.smoothed(behind, 1))
    gaps = np.array([0.10, 0.12, 0.16])
    assert found["train_accuracy"].value == pytest.approx(gaps.mean())
    assert found["train_accuracy"].error == pytest.approx(gaps.std(ddof=1) / np.sqrt(3))
    assert str(found["train_accuracy"]) == "0.127 ± 0.035"
    assert found["test_accuracy"].value == found["test_accuracy"].error == 0
    single = curves.leads(curves.smoothed(race([2], 0.5), 2), curves.smoothed(race([2]), 2))
    assert str(single["train_accuracy"]) == "0.500 (one seed)"


def test_only_seeds_of_all_kinds_are_compared():
    frames = curves.at_common_seeds({"one": race([0, 1, 2]), "other": race([1, 2, 5])})
    assert {name: set(frame["seed"]) for name, frame in frames.items()} == {
        "one": {1, 2}, "other": {1, 2},
    }  # fmt: skip
    assert curves.at_common_seeds({"one": race([0]), "other": race([1])}) == {}
    with pytest.raises(ValueError, match="same seeds and steps"):
        curves.leads(curves.smoothed(race([0]), 1), curves.smoothed(race([1]), 1))
