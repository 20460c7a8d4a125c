"""A flipped byte or a cut end is named, and what it damages is never used."""

from __future__ import annotations

import hashlib
import pickle
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mflib import build, files, notebooks, paths, recorded
from mflib.experiment import data
from mflib.experiment.store import ShardDamaged, Store
from mflib.sweep import runs

KEY = {"activation": "tanh", "sigma_w2": [1.5, 0.1], "steps": 3}


def damages(content: bytes, times: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield damaged copies: one bit flipped in each, then cut off at random places, the last byte
    and all of it among them."""
    draw = random.Random(seed)
    for place in draw.sample(range(len(content)), min(times, len(content))):
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        yield "one byte flipped", bytes(flipped)
    lengths = [len(content) - 1, 0, *(draw.randrange(len(content)) for _ in range(times // 4))]
    for length in lengths:
        yield "end cut off", content[:length]


def said_by(warned: list[warnings.WarningMessage]) -> str:
    return "\n".join(str(each.message) for each in warned)


# --- shards ---------------------------------------------------------------------------------------


def a_table() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    return pd.DataFrame({"sigma_w2": rng.random(40), "steps": np.arange(40), "ok": [True] * 40})


def some_arrays() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(4).random((5, 6)), "y": np.arange(3)}


@pytest.mark.parametrize("compute", [a_table, some_arrays])
@pytest.mark.parametrize("part", ["table", "record"])
def test_a_damaged_shard_is_named_and_computed_again(tmp_path, fault, counts, compute, part):
    store = Store(tmp_path)
    want = store.fetch(KEY, compute)
    record = store.record_path(KEY)
    file = record if part == "record" else record.with_name(store.record(KEY)["table"])
    good = file.read_bytes()
    for kind, content in damages(good, counts.flips, seed=1):
        file.write_bytes(content)
        computed: list[int] = []

        def again(computed: list[int] = computed) -> pd.DataFrame | dict[str, np.ndarray]:
            computed.append(1)
            return compute()

        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found = store.fetch(KEY, again)
        if content == good[:-1] and part == "record":
            assert not computed  # the line end after the record says nothing
        else:
            assert computed
            assert file.name in said_by(warned)
            assert "computing it again" in said_by(warned)
            target = f"{part} of a shard" if part == "record" else "shard"
            fault(kind=kind, target=target, outcome="named, computed again")
        if isinstance(want, dict):
            assert want.keys() == found.keys()
            assert all(np.array_equal(want[name], found[name]) for name in want)
        else:
            pd.testing.assert_frame_equal(want, found, check_exact=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            store.read(KEY)
        file.write_bytes(good)


def test_a_shard_in_the_place_of_another_is_not_used(tmp_path, fault):
    store, other = Store(tmp_path), {**KEY, "steps": 4}
    store.fetch(KEY, a_table)
    store.fetch(other, lambda: a_table() * 2)
    store.record_path(KEY).write_bytes(store.record_path(other).read_bytes())
    with pytest.raises(ShardDamaged, match="holds another key"):
        store.read(KEY)
    fault(kind="swapped for another", target="record of a shard", outcome="named, computed again")


# --- data files -----------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + b"".join(length.to_bytes(4, "big") for length in array.shape)
        + array.tobytes()
    )


def cifar_batch(images: np.ndarray, labels: list[int]) -> bytes:
    return pickle.dumps({"data": images.reshape(len(images), -1), "labels": labels}, protocol=4)


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Path, list]]:
    """Return what lays out a small set whose checksums pass for the published ones."""
    data.import_torchvision()
    from torchvision import datasets

    rng = np.random.default_rng(0)
    monkeypatch.setenv("MFLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MFLIB_DATA", str(tmp_path / "data"))

    def lay_out(name: str) -> tuple[Path, list[Path]]:
        root = tmp_path / "data"
        kind = getattr(datasets, data._TORCHVISION[name])
        if name == "cifar10":
            monkeypatch.setattr(kind, "train_list", [["data_batch_1", ""], ["data_batch_2", ""]])
            monkeypatch.setattr(kind, "test_list", [["test_batch", ""]])
        contents = []
        for number, file in enumerate(data._files(kind, root)):
            images = rng.integers(0, 256, (10, 28, 28), np.uint8)
            labels = np.arange(10, dtype=np.uint8)
            if name == "cifar10":
                pixels = rng.integers(0, 256, (10, 3, 32, 32), np.uint8)
                contents.append((file, cifar_batch(pixels, labels.tolist())))
            else:
                contents.append((file, idx(labels if number % 2 else images)))
        for file, content in contents:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        md5 = {file.name: hashlib.md5(content).hexdigest() for file, content in contents}
        if name == "cifar10":
            for which in ("train_list", "test_list"):
                listed = [[file, md5[file]] for file, _ in getattr(kind, which)]
                monkeypatch.setattr(kind, which, listed)
        else:
            monkeypatch.setitem(data._IDX_MD5, kind.__name__, md5)
        return root, [file for file, _ in contents]

    return lay_out


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_a_damaged_data_file_is_named_and_refused(sets, fault, counts, name):
    _, files = sets(name)
    want = data.load(name).fingerprint()
    times = max(2, counts.flips // len(files))
    for number, file in enumerate(files):
        good = file.read_bytes()
        for kind, content in damages(good, times, seed=number):
            file.write_bytes(content)
            with pytest.raises(data.DataDamaged, match=f"{file.name} is damaged") as caught:
                data.load(name)
            assert "\n" not in str(caught.value)
            fault(kind=kind, target="data file of the user", outcome="named, refused")
        file.write_bytes(good)
    assert data.load(name).fingerprint() == want


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_damaged_data_file_in_the_cache_is_downloaded_again(
    sets, fault, counts, name, tmp_path, monkeypatch
):
    from torchvision import datasets

    root, files = sets(name)
    want = data.load(name).fingerprint()
    data.cache_root().parent.mkdir()
    root.rename(data.cache_root())
    monkeypatch.delenv("MFLIB_DATA")
    kind = getattr(datasets, data._TORCHVISION[name])
    published = {file.name: (data.cache_root() / file.relative_to(root)) for file in files}
    contents = {file: path.read_bytes() for file, path in published.items()}

    def download(fetched: datasets.VisionDataset) -> None:
        for path in data._files(kind, Path(fetched.root)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents[path.name])

    def unreachable(fetched: datasets.VisionDataset) -> None:
        raise OSError("network is unreachable")

    for number, (file, path) in enumerate(published.items()):
        for what, content in damages(contents[file], 2, seed=number):
            path.write_bytes(content)
            monkeypatch.setattr(kind, "download", unreachable)
            with (
                pytest.warns(RuntimeWarning, match="downloading it again"),
                pytest.raises(data.DataDamaged, match=f"{file} is damaged.*not be downloaded"),
            ):
                data.load(name)
            monkeypatch.setattr(kind, "download", download)
            with pytest.warns(RuntimeWarning, match=f"{file} is damaged.*downloading it again"):
                assert data.load(name).fingerprint() == want
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert data.load(name).fingerprint() == want
            fault(kind=what, target="data file in the cache", outcome="named, downloaded again")
    assert not list(data.cache_root().glob(".*"))  # no part of a download stays


def test_a_damaged_download_is_not_kept(sets, fault, monkeypatch):
    from torchvision import datasets

    _, files = sets("mnist")
    monkeypatch.delenv("MFLIB_DATA")
    contents = {file.name: file.read_bytes() for file in files}
    contents[files[2].name] = contents[files[2].name][:-1]

    def download(fetched: datasets.MNIST) -> None:
        for path in data._files(datasets.MNIST, Path(fetched.root)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents[path.name])

    monkeypatch.setattr(datasets.MNIST, "download", download)
    with pytest.raises(data.DataUnavailable, match="could not be downloaded"):
        data.load("mnist")
    assert [p for p in data.cache_root().rglob("*") if p.is_file()] == []
    fault(kind="end cut off", target="download", outcome="refused, nothing kept")


# --- recorded results -----------------------------------------------------------------------------


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a recorded table with arrays beside it, in a project of their own."""
    monkeypatch.setenv("MFLIB_ROOT", str(tmp_path))
    output = tmp_path / "results" / "some-grid.csv"
    buffer = tmp_path / "arrays.npz"
    np.savez(buffer, **some_arrays())
    recorded.write(
        output,
        a_table().to_csv(index=False).encode(),
        command="python tools/record_grid.py",
        code="0123456789abcdef",
        seconds=1.0,
        beside={"some-grid.npz": buffer.read_bytes()},
        note="σ_w² in the rows",
    )
    return output


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".json"])
def test_a_damaged_result_is_named_and_refused(result, fault, counts, suffix):
    file = result.with_suffix(suffix)
    good = file.read_bytes()

    def load() -> None:
        if suffix == ".npz":
            recorded.arrays(file.name)
        else:
            recorded.table(result.name)

    load()
    for kind, content in damages(good, counts.flips, seed=2):
        file.write_bytes(content)
        with pytest.raises(recorded.Damaged) as caught:
            load()
        said = str(caught.value)
        assert said.startswith(f"results/{file.name} ")
        assert "git checkout -- results/some-grid" in said
        assert "\n" not in said
        if suffix != ".json":
            assert "'python tools/record_grid.py'" in said
        target = "record of a result" if suffix == ".json" else "recorded result"
        fault(kind=kind, target=target, outcome="named, refused")
    file.unlink()
    with pytest.raises(recorded.Damaged, match=f"{file.name}.*get it back"):
        load()
    fault(kind="deleted", target="recorded result", outcome="named, refused")


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".json"])
def test_a_damaged_result_is_refused_before_its_chapter_is_executed(result, fault, suffix):
    root = result.parents[1]
    (root / "notebooks" / "profiles").mkdir(parents=True)
    cell = '# %% tags=["parameters"]\nseed: int = 0  # seed of the draws\n'
    for name in ("some", "other"):
        (root / "notebooks" / f"{name}.py").write_text(cell)
    (root / "notebooks" / "profiles" / "quick.yaml").write_text("some: {}\nother: {}\n")
    assert len(notebooks.plan("some").files) == 4
    file = result.with_suffix(suffix)
    flipped = bytearray(file.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    file.write_bytes(flipped)
    with pytest.raises(ValueError, match=f"^results/some-grid{suffix} .*git checkout") as caught:
        notebooks.plan("some")
    assert "\n" not in str(caught.value)
    assert notebooks.plan("other")
    fault(kind="one byte flipped", target="recorded result", outcome="named, refused")


# --- executed notebooks ---------------------------------------------------------------------------


@pytest.fixture
def executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> notebooks.Plan:
    """Return the plan of a chapter of a project of its own, and write its executed copy."""
    monkeypatch.setenv("MFLIB_ROOT", str(tmp_path))
    monkeypatch.setenv("MFLIB_RUNS", str(tmp_path / "runs"))
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    (tmp_path / "notebooks" / "profiles" / "quick.yaml").write_text("some: {}\n")
    (tmp_path / "notebooks" / "some.py").write_text(
        '# %% tags=["parameters"]\nseed: int = 0  # seed of the draws\n\n# %%\nprint("σ", seed)\n'
    )
    plan = notebooks.plan("some")
    write_executed(plan, notebooks.executed("some"))
    return plan


def write_executed(plan: notebooks.Plan, file: Path) -> None:
    """Write what executing would write, without a kernel."""
    notebook = notebooks.read(plan.name)
    notebooks._finish(notebook, {"parameters": plan.values, "digest": plan.digest()})
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(file, notebooks._sealed(notebook))


def test_a_damaged_notebook_is_executed_again(executed, fault, counts, capsys):
    """Its stamp, which is what Snakemake compares, is then newer than the notebook."""
    file = notebooks.executed("some")
    good = file.read_bytes()

    def is_stale() -> bool:
        return build.notebook_stamp("some").stat().st_mtime_ns > file.stat().st_mtime_ns

    assert notebooks.is_fresh(executed)
    assert not is_stale()
    for kind, content in damages(good, counts.flips, seed=3):
        file.write_bytes(content)
        assert not notebooks.is_fresh(executed)
        assert is_stale()
        # Where it no longer says what it was executed from, it is as if there were none.
        named = "some.ipynb was altered since it was written" in capsys.readouterr().err
        assert named or notebooks.record(file).get("digest") != executed.digest()
        fault(kind=kind, target="executed notebook", outcome="executed again")
    file.write_bytes(good)
    assert notebooks.is_fresh(executed)


@pytest.mark.parametrize("suffix", [".ipynb", ".json"])
def test_a_damaged_run_of_a_sweep_is_done_again(executed, fault, counts, suffix):
    digest = executed.point()
    file = runs.folder("some") / f"{digest}.ipynb"
    write_executed(executed, file)
    runs._write_outcome(executed, file, error=None, seconds=1.0)
    outcome = runs.outcome_file("some", digest)
    want = runs.sound(outcome)
    assert want
    damaged = outcome.with_suffix(suffix)
    good = damaged.read_bytes()
    for kind, content in damages(good, counts.flips, seed=5):
        damaged.write_bytes(content)
        if content == good[:-1] and suffix == ".json":
            assert runs.sound(outcome) == want  # the line end after the record says nothing
        else:
            assert runs.sound(outcome) is None
            fault(kind=kind, target="run of a sweep", outcome="done again")
    damaged.write_bytes(good)
    assert runs.sound(outcome) == want
    damaged.unlink()
    assert runs.sound(outcome) is None
    fault(kind="deleted", target="run of a sweep", outcome="done again")


def test_what_the_book_shows_is_as_recorded_and_read_through_the_check():
    found = [file for file in paths.results().rglob("*") if file.is_file()]
    files = [file for file in found if file.suffix != ".json"]
    assert files
    for file in files:
        assert recorded.read(file)
    for source in paths.notebooks().glob("*.py"):
        code = "\n".join(
            line for line in source.read_text(encoding="utf-8").splitlines() if line[:1] != "#"
        )
        assert "results()" not in code, f"{source.name} reads results/ past recorded.table"
