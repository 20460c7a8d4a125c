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


# ---- two grids beside each other --------------------------------------------------------------


def trained(k, rng=None, *, noise=0.05, seeds=2, shared=0.0, chance=0.1, **columns):
    """Networks whose accuracy falls at depth k ξ_c; of one seed all at a k of their own."""
    tables = []
    for seed in range(seeds):
        own = k * np.exp(shared * rng.standard_normal()) if shared else k
        accuracy = accuracies(own, 5, rng, noise) - 0.1 + chance
        tables.append(
            pd.DataFrame(
                {
                    "sigma_w2": np.repeat(np.arange(6) + 1.0, 12),
                    "depth": DEPTH,
                    "seed": seed,
                    "xi_c": XI,
                    "train_accuracy": accuracy,
                }
            )
        )
    return pd.concat(tables, ignore_index=True).assign(**columns)


def law(width, step, learning_rate, a=-40.0, b=0.8, c=-0.5):
    return 4.5 + a / width + b * np.log(step / 150) + c * np.log(learning_rate / 0.01)


CELLS = [(25, 150, 0.01), (50, 150, 0.01), (50, 150, 0.005), (50, 150, 0.02)] + [
    (100, step, 0.01) for step in (75, 150, 300)
]
HERE = {"width": 100, "step": 150, "learning_rate": 0.01}


def grids(rng, cells=CELLS, **constants):
    return pd.concat(
        trained(law(*cell, **constants), rng, width=cell[0], step=cell[1], learning_rate=cell[2])
        for cell in cells
    )


@pytest.fixture(scope="module")
def known():
    return boundary.effects(grids(np.random.default_rng(2)), chance=0.1)


@pytest.mark.parametrize(
    # fewer inside have probability 0.015 and 0.011
    ("seeds", "shared", "trials", "least"),
    [(1, 0.0, 40, 31), (boundary.MIN_SEEDS, 0.1, 15, 11)],
)
def test_the_interval_of_the_difference_covers_the_truth_as_often_as_it_says(
    seeds, shared, trials, least
):
    """Networks are resampled where seeds are few; whole seeds where they are many."""
    inside = 0
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        options = {"noise": 0.12 if seeds == 1 else 0.02, "seeds": seeds, "shared": shared}
        found = boundary.agreement(
            trained(4.0, rng, **options),
            trained(5.0, rng, chance=0.3, **options),
            chance=(0.1, 0.3),
            resamples=60,
            level=0.9,
            seed=trial,
        )
        inside += found.difference.lower <= 1.0 <= found.difference.upper
    assert inside >= least


def test_grids_that_agree_or_not_are_told_apart():
    rng = np.random.default_rng(0)
    one, same, other = (trained(k, rng, noise=0.12) for k in (4.0, 4.0, 5.5))
    agrees = boundary.agreement(one, same, chance=(0.1, 0.1))
    differs = boundary.agreement(one, other, chance=(0.1, 0.1), names=("small", "large"))
    assert agrees.verdict == boundary.AGREE
    assert differs.verdict == boundary.DIFFER
    assert differs.difference.value == pytest.approx(1.5, abs=0.3)
    assert differs.difference.lower > 0
    assert differs.row()["k, large"].startswith(f"{differs.fits[1].k.value:.2f} [")
    assert f"difference {differs.row()['difference']}: differ." in differs.sentence()
    # independent errors add up in squares
    widths = [x.upper - x.lower for x in (differs.fits[0].k, differs.fits[1].k)]
    whole = differs.difference.upper - differs.difference.lower
    assert whole == pytest.approx(np.hypot(*widths), rel=0.25)
    flat = one.assign(train_accuracy=0.95)
    nowhere = boundary.agreement(one, flat, chance=(0.1, 0.1))
    assert nowhere.verdict == boundary.NO_BOUNDARY
    assert "recorded none: no boundary" in nowhere.sentence()


def test_the_laws_put_in_are_the_ones_found():
    covered = 0
    for trial in range(10):
        found = boundary.effects(
            grids(np.random.default_rng(trial)), chance=0.1, seed=trial, resamples=100, level=0.9
        )
        asked = {"width": 300, "step": 180, "learning_rate": 0.005}
        inside = [
            x.lower <= truth <= x.upper
            for x, truth in (
                (found.terms["width"], -40.0),
                (found.terms["training time"], 0.8),
                (found.terms["learning rate"], -0.5),
                (found.predict(**asked), law(**asked)),
                (found.predict(**HERE | {"width": np.inf}), 4.5),
            )
        ]
        covered += sum(inside)
    assert covered >= 38  # of 50, 45 expected; those of one trial go together


def test_what_scatters_more_than_it_should_has_wider_intervals():
    rng = np.random.default_rng(1)
    cells = [(25, 150, 0.01), (50, 150, 0.01), (100, 150, 0.01), (200, 150, 0.01)]
    straight = boundary.effects(grids(rng, cells), chance=0.1)
    bent = pd.concat(
        trained(k, rng, width=cell[0], step=cell[1], learning_rate=cell[2])
        for k, cell in zip((3.0, 5.5, 3.5, 5.5), cells, strict=True)
    )
    crooked = boundary.effects(bent, chance=0.1)
    assert straight.scatter < 2 < 4 < crooked.scatter
    assert set(straight.ranges) == {"width"}
    assert straight.ranges["width"] == (25, 200)
    wide, narrow = (e.terms["width"].upper - e.terms["width"].lower for e in (crooked, straight))
    assert wide > 2 * narrow


@pytest.mark.parametrize(
    ("there", "k", "verdict"),
    [
        ({"width": 25}, law(25, 150, 0.01), "explained by width"),
        ({"step": 600}, law(100, 600, 0.01), "explained by training time"),
        ({"learning_rate": 0.16}, law(100, 150, 0.16), "explained by learning rate"),
        ({"width": 25, "step": 40}, law(25, 40, 0.01), "explained by width and training time"),
        # what is predicted is not what is found
        ({"width": 25}, 6.5, "not explained"),
        ({"width": 100}, 6.5, "not explained"),
        # nor does it help that one effect alone would do, if another undoes it
        ({"width": 25, "step": 1200}, law(25, 150, 0.01), "not explained"),
    ],
)
def test_a_difference_is_explained_by_what_predicts_it(known, there, k, verdict):
    rng = np.random.default_rng(3)
    setting = HERE | there
    found = boundary.agreement(
        trained(law(**HERE), rng, **HERE),
        trained(k, rng, **setting),
        chance=(0.1, 0.1),
        known=known,
    )
    assert found.verdict == verdict
    moved = {name for name in found.shifts if found.shifts[name].value != 0}
    assert len(moved) == sum(setting[name] != HERE[name] for name in HERE)
    beyond = set(found.extrapolated)
    assert beyond == {
        name
        for name, (low, high) in known.ranges.items()
        for column in [boundary._EFFECTS[name][0]]
        if not low <= setting[column] <= high
    }
    for name in found.shifts:
        assert found.row()[f"from {name}"].endswith(" (extrapolated)") == (name in beyond)
    assert found.rest.value == pytest.approx(
        found.difference.value - sum(shift.value for shift in found.shifts.values())
    )


def test_tables_that_cannot_be_compared_are_refused_in_one_sentence(known):
    one = trained(4.0, np.random.default_rng(3))
    with pytest.raises(ValueError, match="recorded table has no column 'xi_c'"):
        boundary.agreement(one, one.drop(columns="xi_c"), chance=(0.1, 0.1))
    with pytest.raises(ValueError, match="live table has two rows for σ_w²=1, depth 2, seed 0"):
        boundary.agreement(pd.concat([one, one]), one, chance=(0.1, 0.1))
    with pytest.raises(ValueError, match="live table has no column 'width'"):
        boundary.agreement(one, one, chance=(0.1, 0.1), known=known)
    many = pd.concat([one.assign(**HERE), one.assign(**HERE | {"step": 75})])
    with pytest.raises(ValueError, match="2 values of 'step'"):
        boundary.agreement(many, one.assign(**HERE), chance=(0.1, 0.1), known=known)
    with pytest.raises(ValueError, match="grids' table has no networks"):
        boundary.effects(many[:0], chance=0.1)
    with pytest.raises(ValueError, match="effect 'depth' is not one of those measured: width, tr"):
        known.shift(HERE, HERE, "depth")


def test_effects_that_no_boundary_shows_are_unknown_and_explain_nothing():
    rng = np.random.default_rng(4)
    here, there = trained(4.0, rng, **HERE), trained(5.0, rng, **HERE | {"width": 50})
    for accuracy in (0.95, 0.1):  # all train, or none does
        flat = there.assign(train_accuracy=accuracy)
        unknown = boundary.effects(pd.concat([here, flat]), chance=0.1, resamples=50)
        assert np.isnan(unknown.terms["width"].value)
        assert np.isnan(unknown.predict(width=300, step=150, learning_rate=0.01).value)
        found = boundary.agreement(here, there, chance=(0.1, 0.1), known=unknown, resamples=50)
        assert found.verdict == boundary.NOT_EXPLAINED
        assert found.row()["from width"] == "none"
    nothing = boundary.effects(flat, chance=0.1, resamples=50)
    assert nothing.points.empty


def test_thousands_of_points_are_fitted_like_few_and_between_the_steps(monkeypatch):
    rng = np.random.default_rng(5)
    one = trained(4.13, rng, noise=0.1, seeds=20)
    arguments = one.train_accuracy, one.depth, one.xi_c
    coarse = boundary.fit_multiple(*arguments, chance=0.1, resamples=100)
    monkeypatch.setattr(boundary, "_MANY", 10**6)
    slow = boundary.fit_multiple(*arguments, chance=0.1, resamples=100)
    assert coarse.n == 1440
    assert coarse.k.value == pytest.approx(4.13, rel=0.02)
    for found, other in ((coarse.k.value, slow.k.value), (coarse.k.upper, slow.k.upper)):
        assert found == pytest.approx(other, rel=0.011)  # half a step
    assert coarse.k.value not in (slow.k.value, slow.k.lower, slow.k.upper)
    assert coarse.k.lower < coarse.k.value < coarse.k.upper
    assert coarse.plateau == pytest.approx(slow.plateau, abs=1e-3)
    assert coarse.spearman == slow.spearman
