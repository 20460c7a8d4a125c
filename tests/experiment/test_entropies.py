"""Maps of entropies against a plain loop over single networks, resuming, refusals, keys."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
import torch
from pretend_cuda import machine

from mflib import sources
from mflib.experiment import _entropy, entropies, reconstruction
from mflib.experiment.entropies import EntropyMap
from mflib.experiment.networks import FullyConnected
from mflib.experiment.store import Store

SMALL = EntropyMap(
    sigma_w2=(0.8, 1.8, 3.4), depth=6, seeds=(0, 1), width=16, dataset="digits", n_fit=200,
    n_shown=20,
)  # fmt: skip
CONVOLUTIONAL = dataclasses.replace(
    SMALL, architecture="convolutional", depth=4, sigma_b2=2e-5, channels=3, stride2=1, n_fit=60
)
RESIDUAL = dataclasses.replace(SMALL, architecture="residual", depth=3, channels=3, n_fit=60)
FAITHFUL = dataclasses.replace(SMALL, mode="faithful", steps=6)
NOISE = dataclasses.replace(
    SMALL, dataset="noise", dataset_options={"n_train": 200, "n_test": 20, "n_features": 9}
)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def loaded_once():
    """Reading the digits takes longer than any map of theirs here."""
    load, kept = EntropyMap.load, {}

    def loaded(settings, device="cpu"):
        name = repr((settings.dataset, settings.dataset_options, settings.dtype, str(device)))
        if name not in kept:
            kept[name] = load(settings, device)
        return kept[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EntropyMap, "load", loaded)
        yield


def run(settings=SMALL, **arguments):
    return entropies.entropies(settings, device="cpu", progress=False, **arguments)


def same(one, two):
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    return True


def by_hand(back, images):
    """Return all five measures of reconstructions (layers, n, d), from their definitions."""
    x, y = images.double().numpy(), back.double().numpy()
    gauss = 0.5 * np.log(2 * np.pi * np.e)

    def spread(z):  # deviations below the rounding of float32 count as that rounding
        floor = 2.0**-24 * np.abs(z).max((1, 2))
        return gauss + np.log(np.maximum(z.std(1), floor[:, None])).mean(1)

    p, q = x / x.sum(1, keepdims=True), np.maximum(y, 1e-12)
    q /= q.sum(2, keepdims=True)
    terms = np.where(p > 0, p * (np.log(np.where(p > 0, p, 1)) - np.log(q)), 0)
    u, v = (z - z.min(-1, keepdims=True) + 1e-12 for z in (x, y))
    u, v = (z / z.sum(-1, keepdims=True) for z in (u, v))
    lost = (u * np.log(u / v)).sum(2)
    dx, dy = x - x.mean(0), y - y.mean(1, keepdims=True)
    norm = np.sqrt((dx**2).sum() * (dy**2).sum((1, 2)))
    return pd.DataFrame(
        {
            "differential": spread(y),
            "differential_published": spread(y / y.sum(2, keepdims=True)),
            "relative": terms.sum(2).mean(1),
            "relative_published": np.quantile(
                lost / lost[-1], 0.5, axis=1, method="inverted_cdf"
            ),  # torch's median is the lower of the middle two
            "correlation": (dx * dy).sum((1, 2)) / np.where(norm > 0, norm, np.inf),
        }
    )


def one_by_one(settings):
    """Return a map by a plain loop: a network, its cascade, its reconstructions."""
    known, tables = settings.load(), []
    fit, shown = known.x_train[: settings.n_fit], known.x_test[: settings.n_shown]
    for w2 in sorted(settings.sigma_w2):
        for seed in settings.seeds:
            if settings.architecture == "residual":
                model = entropies.residual_network(
                    w2, settings.sigma_b2, channels=settings.channels, n_blocks=settings.depth,
                    seed=seed,
                )  # fmt: skip
                fit, shown = (x.reshape(len(x), 1, 8, 8) for x in (fit, shown))
            else:
                model = FullyConnected.draw(
                    "tanh", sigma_w2=[w2], sigma_b2=settings.sigma_b2, width=settings.width,
                    depth=settings.depth, n_in=fit.shape[1], n_out=10, seeds=[seed],
                )  # fmt: skip
            cascade = reconstruction.cascade(
                model, fit, mode=settings.mode, steps=settings.steps, seed=seed, progress=False
            )
            rows = by_hand(cascade.reconstruct(shown).flatten(2), shown.flatten(1))
            rows.insert(0, "sigma_w2", w2)
            rows.insert(1, "seed", seed)
            rows.insert(2, "layer", range(1, cascade.depth + 1))
            tables.append(rows.assign(mode=settings.mode))
    return pd.concat(tables, ignore_index=True)


@pytest.mark.parametrize("settings", [SMALL, FAITHFUL, RESIDUAL, NOISE])
def test_a_map_is_what_a_plain_loop_computes(settings):
    settings = dataclasses.replace(settings, seeds=(0,))
    pd.testing.assert_frame_equal(run(settings), one_by_one(settings), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("settings", [SMALL, CONVOLUTIONAL, RESIDUAL, FAITHFUL])
def test_a_network_does_not_depend_on_which_others_are_asked_for(settings):
    known = settings.load()
    alone = dataclasses.replace(settings, sigma_w2=settings.sigma_w2[1:2], seeds=(1,))
    table = run(settings)
    here = (table.sigma_w2 == alone.sigma_w2[0]) & (table.seed == 1)
    assert same(table[here].reset_index(drop=True), run(alone))
    (shard,) = entropies.shards(alone, known, device=CPU)
    keys = [each.key for each in entropies.shards(settings, known, device=CPU)]
    assert len(keys) == settings.n_networks
    assert shard.key in keys


def test_images_in_pieces_are_the_same_images(monkeypatch):
    whole = run(CONVOLUTIONAL)
    monkeypatch.setitem(_entropy._SWEEP_BYTES, "cpu", 1)
    pd.testing.assert_frame_equal(run(CONVOLUTIONAL), whole, rtol=1e-4, atol=1e-4)


def test_layers_that_are_shown_are_those_of_the_whole_map():
    some = dataclasses.replace(FAITHFUL, layers=(6, 2))
    whole = run(FAITHFUL)
    rows = whole[whole.layer.isin([2, 6])].reset_index(drop=True)
    pd.testing.assert_frame_equal(run(some), rows, rtol=1e-5, atol=1e-5)


def test_ordered_networks_lose_the_image_first():
    table = run(dataclasses.replace(SMALL, depth=20, width=32)).set_index(["sigma_w2", "layer"])
    known = table.correlation.groupby(level=[0, 1]).mean()
    assert known[1.8, 6] > max(known[0.8, 6], known[3.4, 6])
    assert table.differential[0.8, 20].max() < table.differential[1.8, 20].min()


@pytest.mark.parametrize("settings", [SMALL, FAITHFUL])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(settings, tmp_path, monkeypatch):
    store, whole = Store(tmp_path), run(settings)
    measured, calls = _entropy.measured, []

    def stopped(*arguments, **settings):
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return measured(*arguments, **settings)

    monkeypatch.setattr(_entropy, "measured", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(settings, store=store)
    monkeypatch.setattr(_entropy, "measured", measured)
    keys = [shard.key for shard in entropies.shards(settings, settings.load(), device=CPU)]
    kept = sum(map(store.has, keys))
    assert 0 < kept < len(keys)
    assert same(run(settings, store=store), whole)
    assert all(map(store.has, keys))
    monkeypatch.setattr(_entropy, "measured", stopped)  # nothing is left to compute
    assert same(run(settings, store=store), whole)


def test_a_run_that_is_to_stop_does_so_within_a_network():
    """A network of full size takes minutes on a CPU."""

    class Stop(Exception):
        pass

    for settings in (SMALL, FAITHFUL):
        known, seen = settings.load(), []

        def advance(share, seen=seen):
            seen.append(share)
            if len(seen) == 2:
                raise Stop

        (shard, *_) = entropies.shards(settings, known, device=CPU)
        with pytest.raises(Stop):
            entropies._network(dataclasses.replace(settings, steps=40), shard, known, CPU, advance)
        assert sum(seen) < 1


@pytest.mark.parametrize(
    "settings",
    [
        FAITHFUL,
        CONVOLUTIONAL,
        dataclasses.replace(RESIDUAL, mode="faithful", batch_size=16, steps=4),
    ],
)
def test_a_gpu_is_given_everything_and_not_asked_between_steps(settings):
    settings = dataclasses.replace(settings, sigma_w2=(1.8,), seeds=(0,))
    waits = []
    with machine() as gpu:
        for steps in (settings.steps, settings.steps + 3):
            gpu.waits.clear()
            changed = dataclasses.replace(settings, steps=steps)
            table = entropies.entropies(changed, device="cuda", progress=False)
            waits.append(len(gpu.waits))
    pd.testing.assert_frame_equal(table, run(changed), rtol=1e-5, atol=1e-5)
    assert waits[1] <= waits[0] + 1  # the order of one epoch more
    assert waits[0] < 20 * settings.n_layers


def test_the_whole_map_comes_coarsely_first():
    settings = dataclasses.replace(SMALL, sigma_w2=tuple(map(float, range(1, 10))))
    order = [
        shard.sigma_w2
        for shard in entropies.shards(settings, settings.load(), device=CPU)
        if shard.seed == 0
    ]
    assert order == [1, 9, 5, 3, 7, 2, 4, 6, 8]


def made_map(peaks, scatter=0.0, layers=8, seed=0):
    """Return a map whose networks have their entropy highest at known σ_w²."""
    w2, rng = np.geomspace(0.5, 8, 17), np.random.default_rng(seed)
    rows = [
        {"sigma_w2": w, "seed": k, "layer": layer, "differential": -layer - np.log(w / at) ** 2}
        for k, at in enumerate(peaks)
        for layer in range(1, layers + 1)
        for w in w2
    ]
    table = pd.DataFrame(rows).sample(frac=1, random_state=1)
    return table.assign(differential=table.differential + scatter * rng.normal(size=len(table)))


def test_a_map_is_stacked_by_its_columns_and_not_by_its_order():
    table = made_map((1.0, 2.0))
    found = entropies.stacked(table)
    assert found.shape == (17, 2, 8)
    assert found[4, 1, 2] == pytest.approx(-3 - np.log(np.geomspace(0.5, 8, 17)[4] / 2) ** 2)
    for wrong in (table.iloc[1:], pd.concat([table.iloc[1:], table.iloc[1:2]])):
        with pytest.raises(ValueError, match=r"a map of 17 × 2 × 8 .* rows: give one map"):
            entropies.stacked(wrong)


def test_the_peak_is_where_it_was_put_and_its_interval_that_of_the_networks():
    places = (1.3, 1.7, 2.3)
    found = entropies.peak(made_map(places))
    logs = np.log(places)
    assert found.value == pytest.approx(np.exp(logs.mean()), rel=1e-9)
    half = 4.302653 * logs.std(ddof=1) / np.sqrt(3)  # Student's t for two degrees of freedom
    ends = np.exp([logs.mean() - half, logs.mean() + half])
    assert [found.lower, found.upper] == pytest.approx(ends)
    beyond = made_map((0.1, 99.0))  # the end itself
    assert entropies.peak(beyond).value == pytest.approx(np.sqrt(0.5 * 8))


def test_the_peak_of_the_deeper_layers_is_that_of_them_alone():
    table = made_map((1.3,))
    deep = made_map((3.0,)).query("layer > 4")
    table = pd.concat([table.query("layer <= 4"), deep])
    assert entropies.peak(table, share=0.5).value == pytest.approx(3.0)
    noisy = entropies.peak(made_map((3.0,), scatter=0.05), resamples=200)
    assert noisy.lower < noisy.value < noisy.upper
    assert 2 < noisy.lower < noisy.upper < 4.5


def test_a_ratio_of_peaks_knows_what_it_does_not_know():
    one, other = made_map((1.3, 1.7, 2.3)), made_map((2.6, 3.4, 4.6))
    ratio = entropies.peak_ratio(one, other)
    assert ratio.value == pytest.approx(2.0)
    t = 2.776445  # Student's for four degrees of freedom: equal variances
    half = t * np.std(np.log((1.3, 1.7, 2.3)), ddof=1) * np.sqrt(2 / 3)
    assert [ratio.lower, ratio.upper] == pytest.approx([2 * np.exp(-half), 2 * np.exp(half)])
    alone = entropies.peak_ratio(made_map((1.5,)), other)
    assert (alone.lower, alone.upper) == (0, np.inf)
    with pytest.raises(ValueError, match=re.escape("share=0.0 must be in (0, 1]")):
        entropies.peak(one, share=0.0)


OTHER = {
    "sigma_w2": (0.9,), "depth": 7, "sigma_b2": 0.06, "seeds": (5,), "activation": "erf",
    "architecture": "convolutional", "width": 17, "channels": 5, "stride2": 1, "bounded": False,
    "dataset": "noise", "dataset_options": {"side": 7}, "mode": "faithful", "n_fit": 100,
    "batch_size": 32, "steps": 9, "n_shown": 10, "layers": (1, 2), "dtype": "float64",
}  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(EntropyMap)])
def test_every_setting_is_in_the_key(name):
    base = dataclasses.replace(SMALL, sigma_w2=(0.8,), seeds=(0,))
    other = dataclasses.replace(base, **{name: OTHER[name]})
    (one,), (two,) = (entropies.shards(s, s.load(), device=CPU) for s in (base, other))
    assert Store.name(one.key) != Store.name(two.key)


def test_the_key_holds_what_decides_the_numbers():
    known = SMALL.load()
    cpu, gpu = (
        next(entropies.shards(SMALL, known, device=torch.device(kind))).key
        for kind in ("cpu", "cuda")
    )
    assert cpu["code"] == sources.code_version(entropies.KERNEL)
    assert (cpu["data_checksum"], cpu["data_fingerprint"]) == (known.checksum, known.fingerprint())
    assert (cpu["matrix_precision"], cpu["dtype"], cpu["dataset"]) == ("ieee", "float32", "digits")
    assert {name for name in cpu if cpu[name] != gpu[name]} == {"device"}


def test_how_shards_are_kept_does_not_make_them_stale():
    files = {file.stem for file in sources.closure(entropies.KERNEL)}
    assert {"_entropy", "reconstruction", "_decoders", "draws"} <= files
    assert not {"store", "_shards", "training", "entropies"} & files


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma_w2": ()}, "sigma_w2=() must be a list of at least one number"),
        ({"sigma_w2": (1.0, 1.0)}, "sigma_w2=[1.0, 1.0] names a value twice"),
        ({"sigma_w2": (0.0,)}, "sigma_w2=0.0 must be above 0"),
        ({"sigma_b2": -1.0}, "sigma_b2=-1.0 must be at least 0: it is a variance"),
        ({"seeds": (-1,)}, "seeds=-1 must be in [0, 2^63)"),
        ({"depth": 0}, "depth=0 must be at least 1"),
        ({"n_shown": 1}, "n_shown=1 must be at least 2"),
        ({"mode": "linear"}, "mode='linear' must be one of faithful, closed-form"),
        ({"dataset": "cats"}, "dataset='cats' must be one of"),
        ({"dataset_options": {"colour": 1}}, "dataset_options='colour' must be of"),
        ({"layers": (7,)}, "layers=7 must be in [1, 6], the network's"),
        ({"mode": "faithful", "batch_size": 201}, "batch_size=201 must be at most n_fit=200"),
        (
            {"architecture": "residual", "activation": "relu"},
            "activation='relu' must be \"tanh\": it is that of residual networks",
        ),
        (
            {"architecture": "convolutional", "depth": 2},
            "depth=2 must be at least 3: it counts the first convolution",
        ),
        ({"bounded": 1}, "bounded=1 must be True or False"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_sentence(change, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        dataclasses.replace(SMALL, **change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_fit": 5000}, "n_fit=5000 must be at most 1437, the training images of digits"),
        ({"n_shown": 400}, "n_shown=400 must be at most 360, the test images of digits"),
        (
            {"dataset": "wine", "n_fit": 10, "architecture": "convolutional"},
            "dataset='wine' holds no images, which convolutional networks need",
        ),
    ],
)
def test_what_the_data_cannot_satisfy_is_refused_before_any_work(change, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        run(dataclasses.replace(SMALL, **change), store=Store(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_images_that_are_at_hand_are_not_loaded_again(monkeypatch):
    at_hand, table = SMALL.load(), run()
    monkeypatch.setattr(EntropyMap, "load", lambda *_: pytest.fail("they are at hand"))
    pd.testing.assert_frame_equal(run(dataset=at_hand), table, check_exact=True)
    wrong = dataclasses.replace(SMALL, dtype="float64")
    with pytest.raises(ValueError, match=r"dataset is digits .* the settings ask for .*float64"):
        run(wrong, dataset=at_hand)
