"""Shards are whole or absent, equal for equal keys, and told when damaged."""

import json
import multiprocessing
import os

import numpy as np
import pandas as pd
import pytest

from mflib.experiment.store import ShardDamaged, Store, canonical, write_atomically

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
