"""Shards are whole or absent, equal for equal keys, and told when damaged."""

import json
import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mflib.experiment.store import ShardDamaged, Store, canonical
from mflib.files import write_atomically

KEY = {"activation": "tanh", "sigma_w2": (1.5, 0.1), "steps": 3, "range": None}


def table(scale=1.0):
    return pd.DataFrame({"x": [0.1 * scale, np.pi, np.nan], "n": [1, 2, 3], "ok": [True] * 3})


def refuse():
    raise AssertionError("computed although it is stored")


def table_file(store, key=KEY):
    return store.record_path(key).with_name(store.record(key)["table"])


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0x01
    path.write_bytes(content)


def test_a_table_is_computed_once_and_read_back_the_same(tmp_path):
    store = Store(tmp_path)
    assert not store.has(KEY)
    first = store.fetch(KEY, table)
    second = Store(tmp_path).fetch(KEY, refuse)
    pd.testing.assert_frame_equal(first, table(), check_exact=True)
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert store.has(KEY)


def test_arrays_of_any_shape_are_kept(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([1 + 2j, np.nan]), "c": np.int64(4)}
    first = Store(tmp_path).fetch(KEY, lambda: arrays)
    second = Store(tmp_path).fetch(KEY, refuse)
    for name, value in arrays.items():
        np.testing.assert_array_equal(first[name], value)
        np.testing.assert_array_equal(second[name], value)
        assert second[name].dtype == value.dtype


def test_the_order_of_a_key_does_not_matter_but_every_value_does(tmp_path):
    store = Store(tmp_path)
    assert store.name(KEY) == store.name(dict(reversed(KEY.items())))
    names = {
        store.name({**KEY, **change})
        for change in ({}, {"steps": 4}, {"device": "cuda"}, {"sigma_w2": (1.5, 0.1 + 1e-18)})
    }
    assert len(names) == 3  # 0.1 + 1e-18 is 0.1
    assert store.name({**KEY, "sigma_w2": (1.5, 0.1 + 2e-17)}) not in names


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.arange(2), {1, 2}])
def test_a_key_that_json_cannot_hold_is_refused(value):
    with pytest.raises(ValueError, match="plain finite numbers"):
        canonical({"bad": value})


@pytest.mark.parametrize("place", [0.01, 0.3, 0.5, 0.9, 0.99])
def test_one_flipped_byte_is_named_and_computed_again(tmp_path, place):
    store = Store(tmp_path)
    store.fetch(KEY, table)
    path = table_file(store)
    good = path.read_bytes()
    flip(path, int(place * len(good)))
    with pytest.raises(ShardDamaged, match=path.name):
        store.read(KEY)
    with pytest.warns(RuntimeWarning, match=rf"{path.name}.*computing it again"):
        again = store.fetch(KEY, table)
    pd.testing.assert_frame_equal(again, table(), check_exact=True)
    assert path.read_bytes() == good
    store.fetch(KEY, refuse)


def test_every_flipped_byte_of_a_record_is_noticed(tmp_path):
    store = Store(tmp_path)
    store.fetch(KEY, table)
    path = store.record_path(KEY)
    good = path.read_bytes()
    harmless = 0
    for position in range(len(good)):
        flip(path, position)
        try:
            record = store.record(KEY)
        except ShardDamaged:
            pass
        else:  # only white space between tokens may change without notice
            assert record == json.loads(good, object_hook=lambda d: d) | record
            assert good[position : position + 1].isspace()
            harmless += 1
        path.write_bytes(good)
    assert harmless < len(good) / 10


def test_a_table_that_is_gone_is_computed_again(tmp_path):
    store = Store(tmp_path)
    store.fetch(KEY, table)
    table_file(store).unlink()
    with pytest.warns(RuntimeWarning, match="is gone"):
        store.fetch(KEY, table)
    assert table_file(store).is_file()


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# In a process of its own: the umask belongs to the whole process, and so do threads.
WRITES = """
import os, sys
from pathlib import Path
import pandas as pd
from mflib.experiment.store import Store
from mflib.files import write_atomically
root = Path(sys.argv[1])
os.umask(int(sys.argv[2], 8))
(root / "ordinary").open("w").close()
(root / "kept").write_text("old")
(root / "kept").chmod(0o600)
write_atomically(root / "kept", b"new")
Store(root).write({"i": 0}, pd.DataFrame({"x": [0.1]}))
"""

READS = """
import os, sys
from mflib.experiment.store import Store
threads = lambda: len(os.listdir("/proc/self/task"))
before = threads()
assert Store(sys.argv[1]).read({"i": 0})["x"][0] == 0.1
print(threads() - before)
"""


def run_alone(script, *words):
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("umask", "mode"), [("022", 0o644), ("007", 0o660)])
def test_files_are_as_open_to_others_as_the_umask_says(tmp_path, umask, mode):
    run_alone(WRITES, tmp_path, umask)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert len(modes) == 4  # an ordinary file, one replaced, a table and its record
    assert set(modes.values()) == {mode}, modes


def test_the_file_being_written_is_hidden_beside_its_own_and_on_disk_before_it_is_named(
    tmp_path, monkeypatch
):
    path, steps = tmp_path / "file", []
    sync, replace = os.fsync, os.replace

    def watched_sync(handle):
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        steps.append((kind, os.fstat(handle).st_size if kind == "file" else None))
        sync(handle)

    def watched_replace(part, whole):
        assert Path(part).parent == tmp_path
        assert Path(part).match(".file.*.part")
        steps.append(("name", None))
        replace(part, whole)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_atomically(path, b"content")
    assert steps == [("file", 7), ("name", None), ("folder", None)]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
def test_reading_a_table_starts_no_thread(tmp_path):
    """A thread that outlives the read can abort the process as it ends (apache/arrow#33975)."""
    Store(tmp_path).write({"i": 0}, table())
    assert run_alone(READS, tmp_path) == "0"


def test_tables_with_any_column_are_read_as_pandas_reads_them(tmp_path):
    frame = pd.DataFrame(
        {
            "text": ["a", None, "c"],
            "kind": pd.Categorical(["u", "v", "u"]),
            "when": pd.date_range("2020-01-01", periods=3, tz="UTC"),
            "single": np.float32([0.1, np.nan, np.inf]),
            "count": pd.array([1, None, 3], dtype="Int64"),
            "small": np.int8([1, 2, 3]),
        }
    )
    for number, some in enumerate((frame, frame[:0], pd.DataFrame(np.eye(2)))):
        key = {"number": number}
        Store(tmp_path).write(key, some)
        expected = pd.read_parquet(table_file(Store(tmp_path), key))
        pd.testing.assert_frame_equal(Store(tmp_path).read(key), expected, check_exact=True)


def test_a_failed_computation_stores_nothing(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ZeroDivisionError):
        store.fetch(KEY, lambda: 1 / 0)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def race(root, barrier, scale):
    barrier.wait()
    for i in range(40):
        Store(root).write({"i": i}, table(scale))


def test_processes_that_write_the_same_shards_leave_whole_ones(tmp_path):
    """Two writers of different content race; afterwards every shard is one of the two, whole."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    writers = [
        context.Process(target=race, args=(tmp_path, barrier, scale)) for scale in (1.0, 2.0)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    store = Store(tmp_path)
    for i in range(40):
        assert store.read({"i": i})["x"][0] in (0.1, 0.2)
    assert not list(tmp_path.rglob("*.part"))


def test_how_far_a_shard_is_goes_when_it_is_written_or_forgotten(tmp_path):
    store, other = Store(tmp_path), {**KEY, "steps": 4}
    for k in range(3):
        store.write_partial(KEY, {"x": np.arange(k)})
    store.write_partial(other, {"x": np.ones(2)})
    folder = store.partial_path(KEY).parent
    lost = folder / "of-old-code.partial"
    lost.write_bytes(b"")
    os.utime(lost, (0, 0))
    assert len(list(tmp_path.rglob("*.partial"))) == 3
    np.testing.assert_array_equal(Store(tmp_path).get_partial(KEY)["x"], np.arange(2))
    store.write(KEY, table())
    assert list(tmp_path.rglob("*.partial")) == [store.partial_path(other)]
    assert store.get_partial(KEY) is None
    pd.testing.assert_frame_equal(store.read(KEY), table())


def test_the_record_says_what_when_and_with_what(tmp_path):
    store = Store(tmp_path)
    store.fetch(KEY, table)
    record = store.record(KEY)
    assert record["key"] == json.loads(canonical(KEY))
    assert {"computed", "seconds", "versions", "sha256", "table"} <= set(record)
    assert record["versions"]["numpy"] == np.__version__


def test_the_default_root_is_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MFLIB_CACHE", str(tmp_path))
    assert Store().root == tmp_path / "shards"
