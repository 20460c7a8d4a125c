"""Grids: settings checked first, shards that resume bit for bit, and the physics visible."""

import dataclasses
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mflib import sources
from mflib.experiment import _checkpoints, _devices, _shards, data, descent, draws, training
from mflib.experiment.networks import FullyConnected
from mflib.experiment.store import NotKept, Store
from mflib.experiment.training import Grid

SMALL = Grid(
    sigma_w2=(1.0, 1.76, 3.0),
    depths=(3, 6),
    seeds=(0, 1),
    width=16,
    dataset="digits",
    learning_rate=0.02,
    batch_size=32,
    steps=12,
)


HEAVY = dataclasses.replace(
    SMALL, initialisation="stable", alpha=(1.2, 1.2, 2.0), sigma_w2=(1.0, 2.0, 1.0), sigma_b2=0.0,
    train_biases=False,
)  # fmt: skip
CONVOLUTIONAL = dataclasses.replace(
    SMALL, architecture="convolutional", channels=6, stride2=1, depths=(3, 5), steps=6
)


def run(grid=SMALL, **arguments):
    return training.trainability(grid, device="cpu", progress=False, **arguments)


def same(one, two):
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    return True


def test_defaults_are_the_settings_of_the_paper():
    grid = Grid(sigma_w2=(1.0,), depths=(10,))
    assert (grid.width, grid.batch_size, grid.steps, grid.momentum) == (300, 256, 180, 0.0)
    assert (grid.learning_rates, grid.sigma_b2, grid.dataset) == ((1e-3,), 0.05, "mnist")


def test_one_row_per_network():
    grid = dataclasses.replace(SMALL, learning_rate=(0.01, 0.05))
    frame = run(grid)
    assert len(frame) == grid.n_networks == 24
    assert not frame.duplicated(["sigma_w2", "depth", "seed", "learning_rate"]).any()
    assert frame.train_accuracy.between(0, 1).all()
    assert (frame.train_loss > 0).all()
    assert not frame.diverged.any()


def test_the_same_settings_give_the_same_bits():
    assert same(run(), run())


def test_numbers_do_not_depend_on_the_number_of_cores():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = run()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert same(two, run())


def test_a_network_does_not_depend_on_the_rest_of_the_grid():
    grid = dataclasses.replace(SMALL, dtype="float64")
    whole = run(grid)
    part = run(dataclasses.replace(grid, sigma_w2=(1.76,), depths=(6,), seeds=(1,)))
    row = whole.query("sigma_w2 == 1.76 and depth == 6 and seed == 1").reset_index(drop=True)
    pd.testing.assert_frame_equal(row, part, rtol=1e-9)


def test_learning_curves_end_where_trainability_does():
    curves = training.learning_curves(SMALL, at=(0, 5, 12), device="cpu", progress=False)
    end = curves.query("step == 12").drop(columns="step").reset_index(drop=True)
    assert same(end, run())
    first = curves.query("step == 0")
    assert abs(first.train_loss.mean() - np.log(10)) < 0.3
    assert end.train_loss.mean() < first.train_loss.mean()


def test_deep_ordered_networks_do_not_train_and_critical_ones_do():
    grid = Grid(
        sigma_w2=(0.8, 1.76), depths=(25,), width=64, dataset="digits", learning_rate=0.02,
        batch_size=32, steps=150,
    )  # fmt: skip
    ordered, critical = run(grid).train_accuracy
    assert ordered < 0.3
    assert critical > 0.7


def test_a_diverged_network_is_marked_and_leaves_the_others_alone():
    rates = dataclasses.replace(SMALL, learning_rate=(0.02, 1e38), activation="relu")
    frame = run(rates)
    wild = frame.learning_rate == 1e38
    assert frame.diverged[wild].all()
    assert not frame.diverged[~wild].any()
    assert frame.train_accuracy.between(0, 1).all()


def test_too_few_samples_is_said_before_any_work(tmp_path):
    grid = dataclasses.replace(SMALL, batch_size=256, steps_per_epoch=180)
    with pytest.raises(ValueError, match="needs 46080 training samples, but digits has 1437"):
        run(grid, store=Store(tmp_path))
    assert not list(tmp_path.iterdir())


def test_every_kind_of_data_can_be_a_grid():
    for name, options in (
        ("wine", {}),
        ("breast-cancer", {"seed": 1}),
        ("noise", {"n_train": 64, "n_features": 9, "n_classes": 3}),
        ("digits", {"side": 12}),
    ):
        grid = dataclasses.replace(SMALL, dataset=name, dataset_options=options, batch_size=16)
        assert run(grid).test_accuracy.between(0, 1).all()


def test_evaluation_samples_score_on_the_first_of_them():
    whole = run()
    few = run(dataclasses.replace(SMALL, evaluation_samples=10))
    assert (np.round(few.train_accuracy * 10, 9) % 1 == 0).all()
    assert not whole.train_accuracy.equals(few.train_accuracy)


@pytest.mark.parametrize("architecture", ["convolutional", "alternating"])
@pytest.mark.parametrize("readout", ["pool", "flatten"])
def test_networks_on_images_are_shards_like_any(tmp_path, monkeypatch, architecture, readout):
    """A grid stored, read back, grown by a depth, and a network that does not know its grid."""
    grid = dataclasses.replace(
        CONVOLUTIONAL, architecture=architecture, readout=readout, dtype="float64",
        initialisation="delta-orthogonal", evaluation_samples=200,
    )  # fmt: skip
    frame = run(grid, store=Store(tmp_path))
    assert len(frame) == grid.n_networks == 12
    assert frame.train_loss.nunique() == 12
    assert same(frame, run(grid))
    part = run(dataclasses.replace(grid, sigma_w2=(1.76,), depths=(5,), seeds=(1,)))
    row = frame.query("sigma_w2 == 1.76 and depth == 5 and seed == 1").reset_index(drop=True)
    pd.testing.assert_frame_equal(row, part, rtol=1e-9)
    trained = []
    original = descent.train_members
    monkeypatch.setattr(
        descent, "train_members", lambda *a, **k: trained.append(k["depth"]) or original(*a, **k)
    )
    more = dataclasses.replace(grid, depths=(3, 4, 5))
    assert same(run(more, store=Store(tmp_path)).query("depth != 4").reset_index(drop=True), frame)
    assert trained == [4, 4]


def test_the_memory_limit_changes_no_bit():
    grid = dataclasses.replace(CONVOLUTIONAL, depths=(9, 20))
    assert same(run(grid), run(grid, memory_limit=0))
    with pytest.raises(ValueError, match="memory_limit=-1 must be at least 0"):
        run(grid, memory_limit=-1)


def test_an_interrupted_convolutional_grid_keeps_its_shards_and_goes_on(tmp_path, monkeypatch):
    grid = dataclasses.replace(CONVOLUTIONAL, initialisation="delta-orthogonal")
    original, calls = descent.train_members, []

    def interrupted(*args, **kwargs):
        calls.append(kwargs["depth"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(descent, "train_members", interrupted)
    with pytest.raises(KeyboardInterrupt, match="stopped after 2 of 4 shards, all kept"):
        run(grid, store=Store(tmp_path))
    begun = len(calls)
    frame = run(grid, store=Store(tmp_path))
    assert len(calls) == begun + 2
    monkeypatch.undo()
    assert same(frame, run(grid))


def test_the_bar_moves_with_every_step_and_ends_full(tmp_path, monkeypatch):
    """A shard of a thousand layers takes longer than a reader waits for a first sign."""
    bars = []

    class Bar:
        def __init__(self, total, **_):
            self.total, self.moves = total, []
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

        def update(self, n):
            self.moves.append(n)

    monkeypatch.setattr(_shards, "Bar", Bar)
    store = Store(tmp_path)
    run(store=store)
    run(dataclasses.replace(SMALL, depths=(3, 6, 9)), store=store)
    for bar, shards_trained in zip(bars, (4, 2), strict=True):
        assert sum(bar.moves) == pytest.approx(bar.total)
        assert len(bar.moves) >= shards_trained * (SMALL.steps + 1)


def test_biases_can_follow_the_weights_of_the_critical_line():
    """One σ_b² for each σ_w² trains what two grids of one σ_b² each train."""
    both = run(dataclasses.replace(CONVOLUTIONAL, sigma_w2=(1.2, 1.6), sigma_b2=(0.001, 0.03)))
    for w2, b2 in ((1.2, 0.001), (1.6, 0.03)):
        alone = run(dataclasses.replace(CONVOLUTIONAL, sigma_w2=(w2,), sigma_b2=b2))
        rows = both[both.sigma_w2 == w2].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, alone, rtol=1e-4)


def test_heavy_tailed_networks_are_told_apart_by_alpha_and_scale():
    """Two α at one D_w, and two D_w at one α; each the network it is in a grid of its own."""
    grid = dataclasses.replace(HEAVY, dtype="float64")
    frame = run(grid)
    assert len(frame) == grid.n_networks == 12
    assert not frame.duplicated(["alpha", "sigma_w2", "depth", "seed"]).any()
    assert frame.train_loss.nunique() == 12
    for a, w2 in grid.points:
        alone = run(dataclasses.replace(grid, alpha=a, sigma_w2=(w2,)))
        rows = frame.query("alpha == @a and sigma_w2 == @w2").reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, alone, rtol=1e-9)
    with pytest.raises(ValueError, match="names a value twice"):
        dataclasses.replace(grid, alpha=1.5)
    assert "alpha" not in run()


def test_convolutional_networks_can_have_heavy_tails_and_a_stem_of_its_own():
    grid = dataclasses.replace(
        HEAVY, architecture="convolutional", channels=6, stride2=1, depths=(3,), steps=6
    )
    stems = [run(dataclasses.replace(grid, stem=stem)).train_loss for stem in (None, "gaussian")]
    assert (stems[0] != stems[1]).any()
    only = dataclasses.replace(grid, initialisation="gaussian", stem="stable")
    assert run(only).train_loss.nunique() == 6


@pytest.mark.parametrize("change", [{"train_biases": False}, {"weight_decay": 0.5}])
def test_the_rule_of_descent_reaches_the_networks(change):
    assert not run(dataclasses.replace(SMALL, **change)).train_loss.equals(run().train_loss)


# ---- looking into networks as they train ----------------------------------------------------


def score(network, inputs, *, labels=()):
    """Return the share of inputs that each network gets right, and its first layer's D_w."""
    right = network.logits(inputs).argmax(2) == torch.tensor(labels)
    first = network.weights[0].double()
    return pd.DataFrame(
        {
            "member": range(network.n_members),
            "right": right.double().mean(1).numpy(),
            "square": first.square().mean((1, 2)).numpy(),
        }
    )


def look(grid=HEAVY, observe=score, at=(0, 5, 12), **arguments):
    dataset = grid.load()
    options = {"labels": dataset.y_test.tolist()} if observe is score else None
    return training.observed(
        grid, observe, at=at, n_inputs=len(dataset.x_test), options=options, device="cpu",
        progress=False, **arguments,
    )  # fmt: skip


def test_an_observer_sees_each_network_at_each_step():
    """What it scores itself is what the table of learning curves says, row by row."""
    seen = look()
    curves = training.learning_curves(HEAVY, at=(0, 5, 12), device="cpu", progress=False)
    assert same(seen[curves.columns], curves)
    np.testing.assert_allclose(seen.right, seen.test_accuracy, rtol=0, atol=1e-12)
    assert seen.square.nunique() == len(seen) == 36
    drawn = FullyConnected.draw(
        "tanh", sigma_w2=[2.0], alpha=[1.2], sigma_b2=0, initialisation="stable", width=16,
        depth=6, n_in=64, n_out=10, seeds=[draws.derive_seed(1, "network", 6, 2.0, 1.2)],
    )  # fmt: skip
    row = seen.query("alpha == 1.2 and sigma_w2 == 2 and depth == 6 and seed == 1 and step == 0")
    assert row.square.item() == pytest.approx(drawn.weights[0].square().mean().item(), rel=1e-6)


def test_an_observer_may_return_many_rows_or_none_for_a_network():
    def twice_the_second(network, inputs):
        assert len(inputs) == 0
        return pd.DataFrame({"member": [1, 1], "layer": [4, 2]})

    seen = training.observed(HEAVY, twice_the_second, at=[3], device="cpu", progress=False)
    assert len(seen) == 2 * 4  # depths × seeds
    assert (seen.sigma_w2 == 2).all()
    assert seen.layer.tolist() == [4, 2] * 4


def test_observing_changes_no_network():
    only = training.learning_curves(HEAVY, at=(12,), device="cpu", progress=False)
    seen = look(at=(0, 1, 2, 12))
    assert same(seen.query("step == 12")[only.columns].reset_index(drop=True), only)


@pytest.fixture
def recorded(monkeypatch):
    """Give the observer a place in the package, as one whose numbers may be kept has."""
    monkeypatch.setattr(score, "__module__", "mflib.experiment.curves")


def test_observed_shards_are_kept_and_read(tmp_path, monkeypatch, recorded):
    first = look(store=Store(tmp_path))
    monkeypatch.setattr(descent, "train_members", None)
    assert same(first, look(store=Store(tmp_path)))


def test_what_is_observed_is_in_the_key(recorded, monkeypatch):
    def key(n_inputs=3, **options):
        observation = training.Observation(score, n_inputs, options)
        where = torch.device("cpu")
        found = training.shards(HEAVY, HEAVY.load(), device=where, observation=observation)
        return next(found).key

    base = key(labels=[1])
    assert base == key(labels=[1])
    assert base["observe"] == "mflib.experiment.curves.score"
    assert base["observe_code"] == sources.code_version("mflib.experiment.curves")
    others = [key(labels=[2]), key(4, labels=[1]), keys(HEAVY)[0]]
    monkeypatch.setattr(score, "__qualname__", "other")
    others.append(key(labels=[1]))
    monkeypatch.setattr(score, "__module__", "mflib.experiment.scaling")
    others.append(key(labels=[1]))
    assert base not in others


def test_an_observer_that_cannot_be_recorded_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(descent, "train_members", None)
    for observe in (score, lambda network, inputs: None, dataclasses.replace):
        with pytest.raises(ValueError, match="must be a function of a module of mflib"):
            look(observe=observe, store=Store(tmp_path))
    monkeypatch.setattr(score, "__module__", "mflib.experiment.curves")
    with pytest.raises(ValueError, match="plain finite numbers"):
        training.observed(
            HEAVY, score, at=[1], options={"labels": np.ones(2)}, store=Store(tmp_path),
            device="cpu", progress=False,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (None, r"must return a DataFrame with a column member in \[0, 3\)"),
        (pd.DataFrame({"layer": [1]}), "a column member"),
        (pd.DataFrame({"member": [3]}), "a column member"),
        (pd.DataFrame({"member": [np.nan]}), "a column member"),
        (pd.DataFrame({"member": [0], "step": [1]}), "column 'step', which is one of the network"),
    ],
)
def test_an_observer_of_another_form_is_told_so(table, says):
    with pytest.raises(ValueError, match=says):
        look(observe=lambda network, inputs: table)
    with pytest.raises(ValueError, match="n_inputs=-1 must be at least 0"):
        training.observed(HEAVY, score, at=[1], n_inputs=-1)
    with pytest.raises(ValueError, match="must rise within"):
        training.observed(HEAVY, score, at=[5, 1])


# ---- large ensembles in parts -----------------------------------------------------------------


def parts(grid, limit):
    return [part.points for part in grid.parts(grid.load(), 6, limit)]


def test_a_shard_holds_as_many_networks_as_its_bytes_allow():
    one = 4 * (64 * 16 + 5 * 16 * 16 + 16 * 10)  # float32, depth 6
    assert parts(HEAVY, 3 * one) == [HEAVY.points]
    assert parts(HEAVY, 3 * one - 1) == [HEAVY.points[:1], HEAVY.points[1:]]
    assert parts(HEAVY, 0) == [(point,) for point in HEAVY.points]
    for change in ({"dtype": "float64"}, {"momentum": 0.5}, {"learning_rate": (0.1, 0.2)}):
        grid = dataclasses.replace(HEAVY, **change)
        assert parts(grid, 6 * one) == [HEAVY.points]
        assert len(parts(grid, 6 * one - 1)) == 2


def test_a_shard_on_a_gpu_takes_minutes_at_most():
    """Its products: of every weight at every place of every sample, up, and twice down."""
    images = dataclasses.replace(CONVOLUTIONAL, sigma_w2=(1.0, 1.5, 2.0, 2.5))
    for grid, products in (
        (HEAVY, 64 * 16 + 5 * 16 * 16 + 16 * 10),
        (images, 64 * 9 * 6 + 16 * 9 * 6 * 6 + 16 * 4 * 9 * 6 * 6 + 6 * 10),
    ):
        one = 6 * products * grid.batch_size * grid.steps
        n = len(grid.points)
        for limit, most in ((2 * one, 2), (2 * one - 1, 1), (0, 1), (float("inf"), n)):
            found = grid.parts(grid.load(), 6, 2**40, limit)
            assert max(len(part.points) for part in found) == most
            assert [point for part in found for point in part.points] == list(grid.points)
            again = [part.parts(grid.load(), 6, 2**40, limit) for part in found]
            assert again == [[part] for part in found]


@pytest.mark.parametrize("grid", [HEAVY, SMALL, CONVOLUTIONAL], ids=["heavy", "dense", "images"])
def test_parts_train_the_networks_of_the_whole_and_are_kept_one_by_one(grid, tmp_path, monkeypatch):
    whole = run(dataclasses.replace(grid, dtype="float64"))
    monkeypatch.setattr(training, "_SHARD_BYTES", {"cpu": 0})
    grid = dataclasses.replace(grid, dtype="float64", sigma_b2=(0.05, 0.1, 0.0))
    bare = run(dataclasses.replace(grid, sigma_b2=0.05 if grid.alpha is None else 0.0))
    pd.testing.assert_frame_equal(bare, whole, rtol=1e-9)
    original, calls = descent.train_members, []

    def interrupted(*args, **kwargs):
        calls.append(kwargs["sigma_b2"])
        if len(calls) == 8:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(descent, "train_members", interrupted)
    with pytest.raises(KeyboardInterrupt, match="stopped after 7 of 12 shards, all kept"):
        run(grid, store=Store(tmp_path))
    begun = len(calls)
    resumed = run(grid, store=Store(tmp_path))
    assert len(calls) == begun + 5
    assert {tuple(b2) for b2 in calls} == {(0.05,), (0.1,), (0.0,)}
    monkeypatch.undo()
    pd.testing.assert_frame_equal(resumed, run(grid), rtol=1e-9)


# ---- checkpoints inside a shard --------------------------------------------------------------


class Cut(Exception):
    """The power is gone."""


@pytest.fixture
def steps_until(monkeypatch):
    """Return a function that lets so many steps be taken until a Cut, and counts them."""
    original, taken = descent.Descent.step, []

    def allow(n):
        taken.clear()

        def step(self):
            if len(taken) == n:
                raise Cut
            taken.append(self.steps_done)
            original(self)

        monkeypatch.setattr(descent.Descent, "step", step)
        return taken

    return allow


def entropies(network, inputs):
    """Observe something of every network, as mflib.experiment.training's own would."""
    scale = network.logits(inputs).std(dim=(1, 2)).tolist()
    return pd.DataFrame({"member": range(network.n_members), "scale": scale})


ONE = {"depths": (4,), "seeds": (1,), "batch_size": 32, "steps": 11, "steps_per_epoch": 4}
KINDS = {
    "velocity": (HEAVY, {"momentum": 0.7, "weight_decay": 0.1}, (2, 3)),
    "ensemble": (SMALL, {"learning_rate": (0.02, 0.05)}, (4, 3, 1)),
    "images": (CONVOLUTIONAL, {"momentum": 0.7, "initialisation": "delta-orthogonal"}, (9, 1)),
}


def partials(folder):
    return [path for path in folder.rglob("*") if path.suffix in (".partial", ".part")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_shard_that_was_stopped_goes_on_to_the_same_bits(
    kind, tmp_path, monkeypatch, steps_until
):
    whole, changes, cuts = KINDS[kind]
    grid = dataclasses.replace(whole, **ONE, **changes)
    monkeypatch.setattr(_checkpoints, "_COST", 0)
    monkeypatch.setattr(training.Observation, "key", lambda self: {"observe": "entropies"})

    def curves(store=None):
        return training.observed(
            grid, entropies, at=(0, 3, 7, 11), n_inputs=4, store=store, device="cpu",
            progress=False, checkpoint_every=0,
        )  # fmt: skip

    taken = steps_until(100)
    straight = curves()
    assert len(taken) == 11
    for allowed in cuts:
        steps_until(allowed)
        with pytest.raises(Cut):
            curves(Store(tmp_path))
        assert len(partials(tmp_path)) == 1
    taken = steps_until(100)
    assert same(curves(Store(tmp_path)), straight)
    assert taken[0] == sum(cuts)
    assert partials(tmp_path) == []


def test_halves_go_on_where_they_were(tmp_path, monkeypatch, steps_until):
    grid = dataclasses.replace(SMALL, **ONE, learning_rate=(0.02, 0.05), momentum=0.5)
    monkeypatch.setattr(_checkpoints, "_COST", 0)
    straight, original = run(grid), training._train_some

    def small(shard, members, *rest):
        if len(members) > 4:
            raise MemoryError
        return original(shard, members, *rest)

    monkeypatch.setattr(training, "_train_some", small)
    steps_until(11 + 6)
    with pytest.warns(RuntimeWarning, match="in halves"), pytest.raises(Cut):
        run(grid, store=Store(tmp_path), checkpoint_every=0)
    monkeypatch.setattr(training, "_train_some", original)  # though there were room by now
    taken = steps_until(100)
    with pytest.warns(RuntimeWarning, match="in halves"):
        assert same(run(grid, store=Store(tmp_path)), straight)
    assert taken == [6, 7, 8, 9, 10]


def test_a_state_that_is_none_is_named_and_the_shard_begun_anew(tmp_path, monkeypatch, steps_until):
    grid = dataclasses.replace(SMALL, **ONE)
    monkeypatch.setattr(_checkpoints, "_COST", 0)
    straight = run(grid)
    store = Store(tmp_path)
    steps_until(6)
    with pytest.raises(Cut):
        run(grid, store=store, checkpoint_every=0)
    (path,) = partials(tmp_path)
    sound = path.read_bytes()
    (shard,) = training.shards(grid, grid.load(), device=torch.device("cpu"))
    other = {**shard.key, "seed": 2}
    flipped = sound[:4000] + bytes([sound[4000] ^ 1]) + sound[4001:]
    damages = {
        "is damaged": lambda: path.write_bytes(sound[: len(sound) // 2]),
        "damaged": lambda: path.write_bytes(flipped),
        "another shard": lambda: (
            store.write_partial(other, {"x": np.ones(2)}),
            store.partial_path(other).rename(path),
        ),
        "KeyError": lambda: store.write_partial(shard.key, {"x": np.ones(2)}),
    }
    for says, damage in damages.items():
        damage()
        taken = steps_until(6)
        with pytest.warns(RuntimeWarning, match=says), pytest.raises(Cut):
            run(grid, store=store)
        assert taken[0] == 0
    path.write_bytes(sound)
    monkeypatch.setattr(Store, "write_partial", raise_full)
    taken = steps_until(100)
    with pytest.warns(UserWarning, match="not kept: no room"):
        assert same(run(grid, store=store, checkpoint_every=0), straight)
    assert taken[0] == 6


def raise_full(*_):
    raise NotKept("no room")


def test_short_shards_write_no_state(tmp_path, monkeypatch):
    monkeypatch.setattr(Store, "write_partial", None)
    run(store=Store(tmp_path))
    monkeypatch.undo()
    for every in (-1, float("nan"), True, "often"):
        with pytest.raises(ValueError, match=r"checkpoint_every=.* must be seconds"):
            run(store=Store(tmp_path), checkpoint_every=every)


def test_colour_images_are_convolved_too():
    grid = dataclasses.replace(CONVOLUTIONAL, dataset="digits", channels=3)
    assert run(grid).test_accuracy.between(0, 1).all()


# ---- settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sigma_w2": ()}, "sigma_w2=.* at least one number"),
        ({"sigma_w2": 1.5}, "sigma_w2=1.5 must be a list"),
        ({"sigma_w2": (1.0, 1.0)}, "twice"),
        ({"sigma_w2": (0.0,)}, "sigma_w2=0.0 must be above 0"),
        ({"depths": (0,)}, r"depths=0 must be in \[1"),
        ({"depths": (2.5,)}, "depths=2.5 must be an integer"),
        ({"seeds": (-1,)}, "seeds=-1"),
        ({"seeds": (True,)}, "seeds=True must be an integer"),
        ({"activation": "swish"}, "one of tanh, erf"),
        ({"sigma_b2": -0.1}, "sigma_b2=-0.1 must be at least 0"),
        ({"width": 0}, "width=0 must be at least 1"),
        ({"learning_rate": 0}, "above 0"),
        ({"learning_rate": "1e-3"}, "learning_rate='1e-3' must be a list"),
        ({"momentum": 1.0}, r"momentum=1.0 must be in \[0, 1\)"),
        ({"steps": 0}, "steps=0"),
        ({"batch_size": None}, "batch_size=None must be an integer"),
        ({"dataset": "digit"}, "one of digits"),
        ({"dtype": "float16"}, "one of float32"),
        ({"readout_gain": 0}, "readout_gain=0.0 must be above 0"),
        ({"precision": "bf16"}, "one of tf32"),
        ({"input_range": (0.5, -0.5)}, r"input_range=\(0.5, -0.5\) must be two finite numbers"),
        ({"input_range": 3}, "input_range=3 must be two finite numbers"),
        ({"input_range": (0, "1")}, "input_range='1' must be a finite number"),
        ({"dataset_options": [1]}, r"dataset_options=\[1\] must be options by their names"),
        ({"learning_rate": 10**400}, "must be a finite number"),
        ({"initialisation": "xavier"}, "one of gaussian"),
        ({"dataset_options": {"sides": 8}}, "dataset_options='sides' must be of"),
        ({"initialisation": "stable"}, '"stable" needs alpha'),
        ({"alpha": 1.5}, "alpha belongs to initialisation \"stable\", not to 'gaussian'"),
        ({"initialisation": "stable", "alpha": 0.5}, r"alpha=0.5 must be in \(0.5, 2\]"),
        ({"initialisation": "stable", "alpha": (1, 2)}, "or one for each of 1 sigma_w2"),
        ({"initialisation": "stable", "alpha": "2"}, "alpha='2' must be a finite number"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 must be at least 0"),
        ({"train_biases": 1}, "train_biases=1 must be True or False"),
    ],
)
def test_a_bad_setting_is_answered_in_one_sentence(change, says):
    with pytest.raises(ValueError, match=says) as caught:
        Grid(**{"sigma_w2": (1.5,), "depths": (5,), **change})
    assert "\n" not in str(caught.value)


NUMBER = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True), st.integers(-3, 400), st.booleans(), st.none()
)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architecture": "recurrent"}, "architecture='recurrent' must be one of fully-connected"),
        ({"channels": 0}, "channels=0 must be at least 1"),
        ({"stride2": -1}, "stride2=-1 must be at least 0"),
        ({"stem": "dirac"}, "stem='dirac' must be one of None, gaussian, orthogonal, delta"),
        ({"readout": "max"}, "readout='max' must be one of pool, flatten"),
        ({"depths": (2,)}, "depth=2 must be at least 3: it counts the first convolution"),
        ({"fan": "out"}, "fan='out' must be \"in\" for networks with convolutions"),
        ({"initialisation": "delta"}, "one of gaussian, orthogonal, delta-orthogonal"),
        ({"sigma_b2": (0.1, 0.2)}, "one number, or one for each of 1 sigma_w2"),
        ({"sigma_b2": (-0.1,)}, "sigma_b2=-0.1 must be at least 0"),
    ],
)
def test_a_bad_setting_of_a_convolutional_grid_is_answered_in_one_sentence(change, says):
    sound = {"sigma_w2": (1.5,), "depths": (5,), "architecture": "convolutional"}
    with pytest.raises(ValueError, match=says) as caught:
        Grid(**{**sound, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dataset": "wine"}, r"image_shape=\(13,\) must be \(channels, height, width\)"),
        ({"dataset": "noise", "dataset_options": {"n_features": 9}}, "needs images"),
    ],
)
def test_data_that_cannot_be_convolved_is_refused_before_any_work(change, says, tmp_path):
    grid = dataclasses.replace(CONVOLUTIONAL, **change)
    with pytest.raises(ValueError, match=says):
        run(grid, store=Store(tmp_path))
    assert not list(tmp_path.iterdir())


def test_fully_connected_weights_have_no_centre_tap():
    with pytest.raises(ValueError, match="initialisation='delta-orthogonal' must be one of"):
        dataclasses.replace(SMALL, initialisation="delta-orthogonal")


@settings(max_examples=150, deadline=None)
@given(
    architecture=st.sampled_from(["convolutional", "alternating"]),
    channels=NUMBER,
    stride2=NUMBER,
    depths=st.lists(st.integers(-1, 9), min_size=1, max_size=3),
    sigma_b2=st.one_of(NUMBER, st.lists(NUMBER, max_size=3)),
)
def test_convolutional_settings_are_either_sound_or_refused(**values):
    refusal = None
    try:
        grid = Grid(sigma_w2=(1.0, 1.5), **values)
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        assert "must be" in refusal or "twice" in refusal
        return
    assert min(grid.depths) > grid.stride2 >= 0
    assert grid.channels >= 1
    assert len(grid.bias_variances) == 2
    assert all(b2 >= 0 and np.isfinite(b2) for b2 in grid.bias_variances)


@settings(max_examples=150, deadline=None)
@given(
    sigma_w2=st.lists(NUMBER, max_size=4),
    depths=st.lists(NUMBER, max_size=3),
    seeds=st.lists(NUMBER, max_size=2),
    sigma_b2=NUMBER,
    width=NUMBER,
    learning_rate=st.one_of(NUMBER, st.lists(NUMBER, max_size=2)),
    momentum=NUMBER,
    batch_size=NUMBER,
    steps=NUMBER,
)
def test_settings_are_either_sound_or_refused(**values):
    """Whatever is accepted is within range and of its type; whatever is not says so at once."""
    refusal = None
    try:
        grid = Grid(**values)
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        assert "must be" in refusal or "twice" in refusal
        return
    assert all(w2 > 0 and np.isfinite(w2) and type(w2) is float for w2 in grid.sigma_w2)
    assert all(depth >= 1 and type(depth) is int for depth in grid.depths)
    assert all(seed >= 0 and type(seed) is int for seed in grid.seeds)
    assert all(rate > 0 and np.isfinite(rate) for rate in grid.learning_rates)
    assert np.isfinite(grid.sigma_b2)
    assert grid.sigma_b2 >= 0
    assert 0 <= grid.momentum < 1
    assert min(grid.width, grid.batch_size, grid.steps) >= 1
    assert grid.n_networks >= 1


@settings(max_examples=60, deadline=None)
@given(
    sigma_w2=st.lists(st.floats(1e-3, 200), min_size=1, max_size=5, unique=True),
    depths=st.lists(st.integers(1, 1000), min_size=1, max_size=4, unique=True),
    seeds=st.lists(st.integers(0, 2**40), min_size=1, max_size=3, unique=True),
    rates=st.lists(st.floats(1e-6, 10), min_size=1, max_size=3, unique=True),
)
def test_sound_settings_are_accepted_and_counted(sigma_w2, depths, seeds, rates):
    grid = Grid(sigma_w2=sigma_w2, depths=depths, seeds=seeds, learning_rate=tuple(rates))
    assert grid.n_networks == len(sigma_w2) * len(depths) * len(seeds) * len(rates)
    assert grid.sigma_w2 == tuple(sigma_w2)


def test_an_absent_gpu_is_said():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="torch finds no GPU"):
        _devices.resolve_device("cuda")
    assert _devices.resolve_device("auto").type == "cpu"


@pytest.mark.parametrize("device", ["gpu", "tpu", "", "mps"])
def test_another_device_is_refused_in_one_sentence(device):
    with pytest.raises(ValueError, match='must be "auto", "cpu" or "cuda"'):
        _devices.resolve_device(device)


# ---- shards ---------------------------------------------------------------------------------


def keys(grid=SMALL, device="cpu"):
    dataset = grid.load()
    where = torch.device(device)
    return [key for *_, key in training.shards(grid, dataset, device=where)]


def test_every_setting_that_decides_a_number_is_in_the_key():
    base = keys()
    changes = {
        "activation": "erf", "sigma_b2": 0.06, "width": 17, "learning_rate": 0.03,
        "momentum": 0.5, "batch_size": 31, "steps": 13, "steps_per_epoch": 4,
        "initialisation": "orthogonal", "fan": "out", "dtype": "float64",
        "evaluation_samples": 7, "sigma_w2": (1.0, 1.76), "input_range": (0.0, 1.0),
        "dataset_options": {"seed": 1}, "architecture": "convolutional", "channels": 7,
        "stride2": 1, "readout": "flatten", "stem": "orthogonal",
        "readout_gain": 2.0, "train_biases": False, "weight_decay": 0.1,
    }  # fmt: skip
    for name, value in changes.items():
        assert not [k for k in keys(dataclasses.replace(SMALL, **{name: value})) if k in base], name
    heavy = keys(HEAVY)
    assert not [k for k in keys(dataclasses.replace(HEAVY, alpha=(1.2, 1.5, 1.9))) if k in heavy]
    assert set(changes) | {"alpha", "depths", "seeds", "dataset", "precision"} == {
        field.name for field in dataclasses.fields(Grid)
    }
    more = keys(dataclasses.replace(SMALL, depths=(3, 6, 9), seeds=(0, 1, 2)))
    assert all(key in more for key in base)


def test_a_rehearsal_never_passes_for_the_real_run():
    cpu, gpu = keys()[0], keys(device="cuda")[0]
    assert (cpu["device"], cpu["matrix_precision"]) == ("cpu", "ieee")
    assert (gpu["device"], gpu["matrix_precision"]) == ("cuda", "tf32")
    strict = keys(dataclasses.replace(SMALL, precision="ieee"), device="cuda")[0]
    assert strict["matrix_precision"] == "ieee"


def test_what_computes_the_numbers_is_in_the_code_version_and_the_rest_is_not():
    files = {path.name for path in sources.closure("mflib.experiment.descent")}
    assert {"descent.py", "networks.py", "draws.py"} <= files
    assert not {"store.py", "training.py", "boundary.py", "data.py"} & files


def test_input_tensors_are_in_the_key_through_their_fingerprint():
    plain, wide = data.load("digits"), data.load("digits", input_range=(0, 1))
    assert plain.checksum == wide.checksum
    assert plain.fingerprint() != wide.fingerprint()


def test_a_stored_grid_is_read_not_trained(tmp_path, monkeypatch):
    first = run(store=Store(tmp_path))

    def refuse(*args, **kwargs):
        raise AssertionError("trained although it is stored")

    monkeypatch.setattr(descent, "train_members", refuse)
    assert same(first, run(store=Store(tmp_path)))


def test_more_depths_train_only_what_is_new(tmp_path, monkeypatch):
    run(store=Store(tmp_path))
    trained = []
    original = descent.train_members
    monkeypatch.setattr(
        descent, "train_members", lambda *a, **k: trained.append(k["depth"]) or original(*a, **k)
    )
    more = dataclasses.replace(SMALL, depths=(3, 4, 6))
    frame = run(more, store=Store(tmp_path))
    assert trained == [4, 4]
    assert same(frame, run(more))


def test_a_damaged_shard_is_named_and_trained_again(tmp_path):
    whole = run(store=Store(tmp_path))
    path = sorted(tmp_path.rglob("*.parquet"))[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    with pytest.warns(RuntimeWarning, match=f"{path.name}.*computing it again"):
        again = run(store=Store(tmp_path))
    assert same(whole, again)
    assert same(whole, run(store=Store(tmp_path)))


GRID_OF_PROCESS = Grid(
    sigma_w2=(1.0, 1.76, 3.0),
    depths=tuple(range(2, 14)),
    seeds=(0, 1),
    width=32,
    dataset="digits",
    learning_rate=0.02,
    batch_size=32,
    steps=25,
)
GRID_PROCESS = textwrap.dedent(
    """
    import sys, torch
    from mflib.experiment import training
    from mflib.experiment.store import Store
    torch.set_num_threads(1)
    grid = training.Grid(**GRID)
    print("started", flush=True)
    frame = training.trainability(grid, store=Store(sys.argv[1]), device="cpu", progress=False)
    frame.to_parquet(sys.argv[2])
    """
).replace("GRID", repr(dataclasses.asdict(GRID_OF_PROCESS)))


def start_grid(root, out):
    process = subprocess.Popen(
        [sys.executable, "-c", GRID_PROCESS, str(root), str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline().strip() == "started", process.stderr.read()
    return process


def shards(root):
    return len(list(root.rglob("*.json")))


def test_a_killed_grid_resumes_and_ends_with_the_same_bits(tmp_path):
    """Killed with SIGKILL at random moments, resumed, and compared with an unbroken run."""
    rng = random.Random(1)
    store, broken = tmp_path / "store", tmp_path / "table.parquet"
    killed_midway = 0
    for _ in range(3):
        before = shards(store)
        process = start_grid(store, broken)
        deadline = time.monotonic() + 60
        goal = before + rng.randint(1, 5)
        while shards(store) < goal and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed_midway += not broken.exists() and shards(store) > before
    assert killed_midway >= 2
    process = start_grid(store, broken)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert shards(store) == 24
    unbroken = run(GRID_OF_PROCESS)
    assert len(unbroken) == 72
    assert same(pd.read_parquet(broken), unbroken)


def test_interrupting_a_grid_is_clean_and_keeps_what_is_done(tmp_path):
    store = tmp_path / "store"
    process = start_grid(store, tmp_path / "out.parquet")
    deadline = time.monotonic() + 60
    while shards(store) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "KeyboardInterrupt: stopped after" in errors
    assert "of 24 shards, all kept" in errors
    assert shards(store) >= 2
    assert not list(store.rglob("*.part"))


def test_data_that_are_at_hand_are_not_loaded_again(tmp_path, monkeypatch):
    grid = dataclasses.replace(SMALL, depths=(3,), seeds=(0,))
    at_hand, table = grid.load(), run(grid)
    monkeypatch.setattr(data, "load", lambda *_, **__: pytest.fail("they are at hand"))
    store = Store(tmp_path)
    assert same(run(grid, dataset=at_hand, store=store), table)
    monkeypatch.setattr(data, "_digest", lambda _: pytest.fail("their fingerprint is known"))
    assert at_hand.to("cpu") is at_hand
    elsewhere = at_hand.to("meta")  # a device that is none of the host's
    assert elsewhere.x_train.device.type == "meta"
    assert elsewhere.fingerprint() == at_hand.fingerprint()


@pytest.mark.parametrize(
    "change", [{"activation": "sigmoid"}, {"dtype": "float64"}, {"dataset": "wine"}]
)
def test_data_of_other_settings_are_refused(change):
    grid = dataclasses.replace(SMALL, **change)
    with pytest.raises(ValueError, match=r"dataset is digits .*, but the settings ask for "):
        run(grid, dataset=SMALL.load())
