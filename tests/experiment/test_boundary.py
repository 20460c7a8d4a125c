"""The statistics find what was put into made-up data, and say so where nothing is there."""

import numpy as np
import pandas as pd
import pytest

from mflib.experiment import boundary

XI = np.repeat([2.0, 4.0, 7.0, 15.0, 40.0, np.inf], 12)
DEPTH = np.tile(np.geomspace(2, 200, 12), 6)


def accuracies(k, sharpness, rng=None, noise=0.0):
    """A logistic fall from 0.95 to 0.1 at depth k ξ_c."""
    ratio = np.where(np.isinf(XI), 0.0, DEPTH / XI)
    clean = 0.1 + 0.85 / (1 + (ratio / k) ** sharpness)
    return clean if rng is None else clean + noise * rng.standard_normal(len(clean))


@pytest.mark.parametrize("k", [1.5, 4.5, 9.0])
def test_the_fitted_multiple_is_the_one_put_in(k):
    rng = np.random.default_rng(0)
    fit = boundary.fit_multiple(accuracies(k, 8, rng, 0.03), DEPTH, XI, chance=0.1)
    # Few points lie in the fall itself, so a 95 % interval may miss by a little.
    assert 0.95 * fit.k.lower <= k <= 1.05 * fit.k.upper
    assert fit.k.value == pytest.approx(k, rel=0.1)
    assert fit.misclassified < 0.05 < fit.base_rate
    assert fit.spearman.lower <= fit.spearman.value <= fit.spearman.upper < -0.4
    assert fit.n == len(DEPTH)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    k = 4.0
    inside = 0
    for trial in range(40):
        rng = np.random.default_rng(trial)
        fit = boundary.fit_multiple(
            accuracies(k, 4, rng, 0.12), DEPTH, XI, chance=0.1, resamples=100, level=0.9
        )
        inside += fit.k.lower <= k <= fit.k.upper
    assert inside >= 31  # 36 expected; fewer than 31 has probability 0.015


def test_accuracy_without_a_boundary_has_no_multiple():
    rng = np.random.default_rng(0)
    fit = boundary.fit_multiple(rng.random(len(XI)) * 0.01 + 0.9, DEPTH, XI, chance=0.1)
    assert np.isnan(fit.k.value)
    assert fit.misclassified == fit.base_rate == 0
    assert abs(fit.spearman.value) < 0.3


def test_undefined_xi_is_left_out():
    xi = XI.copy()
    xi[:12] = np.nan
    fit = boundary.fit_multiple(accuracies(4.5, 8), DEPTH, xi, chance=0.1)
    assert fit.n == len(XI) - 12
    with pytest.raises(ValueError, match="no network has"):
        boundary.fit_multiple(accuracies(4.5, 8), DEPTH, XI * np.nan, chance=0.1)
    with pytest.raises(ValueError, match="give one of each"):
        boundary.fit_multiple([0.1], DEPTH, XI, chance=0.1)


def test_the_fit_is_the_least_squares_one():
    """Against a general optimiser started from many places."""
    from scipy import optimize

    rng = np.random.default_rng(3)
    ratio = DEPTH / np.where(np.isinf(XI), 1e9, XI)
    gain = accuracies(5.0, 3, rng, 0.08) - 0.1

    def residual(theta):
        return gain - theta[2] / (1 + (ratio / np.exp(theta[0])) ** np.exp(theta[1]))

    starts = [(np.log(k), np.log(s), 0.8) for k in (1, 4, 20) for s in (2, 8)]
    best = min((optimize.least_squares(residual, start) for start in starts), key=lambda r: r.cost)
    k, s, height = boundary._least_squares(ratio, gain, np.ones((1, len(gain))))
    assert k[0] == pytest.approx(np.exp(best.x[0]), rel=0.02)
    assert height[0] == pytest.approx(best.x[2], rel=0.02)
    assert s[0] == pytest.approx(np.exp(best.x[1]), rel=0.15)


def test_groups_are_resampled_whole():
    """Points repeated in groups carry no more information than one of each."""
    rng = np.random.default_rng(1)
    values = rng.standard_normal(40)
    repeated = np.repeat(values, 25)
    groups = np.repeat(np.arange(40), 25)
    one = boundary.bootstrap(lambda i: values[i].mean(), 40, seed=0)
    naive = boundary.bootstrap(lambda i: repeated[i].mean(), 1000, seed=0)
    grouped = boundary.bootstrap(lambda i: repeated[i].mean(), 1000, seed=0, groups=groups)
    width = one.upper - one.lower
    assert grouped.upper - grouped.lower == pytest.approx(width, rel=0.15)
    assert naive.upper - naive.lower < width / 3
    exact = 2 * 1.96 * values.std() / np.sqrt(40)
    assert width == pytest.approx(exact, rel=0.15)


@pytest.mark.parametrize("sharpness", [1.5, 4.0, 12.0])
def test_the_width_of_a_fall_is_that_of_its_curve(sharpness):
    depth = np.arange(1, 120)
    accuracy = 0.1 + 0.8 / (1 + (depth / 30) ** sharpness)
    fall = boundary.boundary_width(depth, accuracy, chance=0.1)
    left = (accuracy - 0.1) / 0.8
    d75, d25 = np.interp([0.75, 0.25], left[::-1], depth[::-1])
    assert fall.reason == ""
    assert fall.depth_half == pytest.approx(30, rel=0.03)
    assert fall.width == pytest.approx((d25 - d75) / 30, rel=0.05)
    assert fall.rms < 0.01


def test_a_cliff_is_sharper_than_a_slope():
    depth = np.array([5, 8, 12, 18, 27, 40, 60])
    cliff = boundary.boundary_width(depth, [0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1], chance=0.1)
    slope = boundary.boundary_width(depth, [0.9, 0.8, 0.7, 0.5, 0.3, 0.2, 0.1], chance=0.1)
    assert cliff.width < 0.3 < 0.8 < slope.width
    assert 18 < cliff.depth_half < 27


@pytest.mark.parametrize(
    ("accuracy", "reason"),
    [
        ([0.1] * 5, "no accuracy above chance"),
        ([0.9] * 5, "does not fall"),
        ([0.1, 0.3, 0.6, 0.8, 0.9], "does not fall"),
    ],
)
def test_where_nothing_falls_it_says_so(accuracy, reason):
    fall = boundary.boundary_width([5, 10, 20, 40, 80], accuracy, chance=0.1)
    assert reason in fall.reason
    assert np.isnan(fall.width)
    with pytest.raises(ValueError, match="at least three depths"):
        boundary.boundary_width([5, 10, 10], accuracy[:3], chance=0.1)


def test_summary_is_mean_and_spread_over_seeds():
    frame = pd.DataFrame(
        {
            "sigma_w2": [1.0, 1.0, 2.0],
            "depth": [5, 5, 5],
            "seed": [0, 1, 0],
            "learning_rate": [0.1] * 3,
            "train_accuracy": [0.2, 0.6, 0.5],
            "test_accuracy": [0.1, 0.1, 0.1],
            "train_loss": [1.0, 2.0, 3.0],
            "test_loss": [1.0, 2.0, 3.0],
            "diverged": [False, True, False],
        }
    )
    table = boundary.summary(frame)
    assert table.train_accuracy.tolist() == pytest.approx([0.4, 0.5])
    assert table.train_accuracy_std[0] == pytest.approx(np.sqrt(0.08))
    assert np.isnan(table.train_accuracy_std[1])
    assert table.seeds.tolist() == [2, 1]
    assert table.diverged.tolist() == [0.5, 0.0]


def test_heavy_tailed_networks_are_averaged_by_alpha():
    frame = pd.DataFrame(
        {
            "alpha": [1.2, 1.2, 2.0, 2.0],
            "sigma_w2": 1.5,
            "depth": 9,
            "learning_rate": 0.1,
            "seed": [0, 1, 0, 1],
            "test_accuracy": [0.2, 0.4, 0.8, 1.0],
            "train_accuracy": 1.0,
            "train_loss": 0.1,
            "test_loss": 0.2,
            "diverged": False,
        }
    )
    table = boundary.summary(frame)
    assert table.alpha.tolist() == [1.2, 2.0]
    np.testing.assert_allclose(table.test_accuracy, [0.3, 0.9])
