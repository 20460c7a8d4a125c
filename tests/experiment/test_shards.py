"""The runner of shards: order, threads, failures, interrupts, and what is kept of them."""

import contextlib
import os
import signal
import threading
import time

import pandas as pd
import pytest
import threadpoolctl
import torch

from mflib.experiment import _shards
from mflib.experiment._shards import Stopped, gather, side_by_side
from mflib.experiment.store import Store

LONG = 30.0  # seconds after which a thread that waits for another gives up


def blas_threads():
    pools = threadpoolctl.threadpool_info()
    return {pool["filepath"]: pool["num_threads"] for pool in pools if pool["user_api"] == "blas"}


@pytest.fixture
def two_threads():
    """Give torch and the BLAS two threads, and hold the runner to leaving them so."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        assert set(blas_threads().values()) == {2}
        yield
        assert torch.get_num_threads() == 2
        assert set(blas_threads().values()) == {2}
    torch.set_num_threads(before)


def wait_for_stop(stopping):
    deadline = time.monotonic() + LONG
    while not stopping():
        assert time.monotonic() < deadline, "was not stopped"
        time.sleep(0.001)


def advance_until_stopped(advance):
    with pytest.raises(Stopped):
        wait_for_stop(lambda: advance(0.0))
    raise Stopped


def interrupt():
    """Press ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


# --- side by side ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("two_threads")
def test_results_have_the_order_of_the_items_whichever_is_done_first():
    second_done = threading.Event()

    def compute(item, _):
        if item == "first":
            assert second_done.wait(LONG)
        else:
            second_done.set()
        return item.upper()

    items = ["first", "second", "third"]
    assert side_by_side(compute, items) == ["FIRST", "SECOND", "THIRD"]
    assert side_by_side(compute, []) == []


@pytest.mark.usefixtures("two_threads")
def test_as_many_run_at_once_as_torch_has_threads_each_on_one():
    both = threading.Barrier(2)

    def compute(_, __):
        both.wait(LONG)
        return torch.get_num_threads(), *blas_threads().values(), threading.get_ident()

    (*first, one), (*second, other) = side_by_side(compute, [0, 1])
    assert set(first) == set(second) == {1}
    assert len({one, other, threading.get_ident()}) == 3


def test_on_cuda_they_run_one_after_another_in_the_callers_thread():
    def where(*_):
        return threading.get_ident()

    idents = side_by_side(where, range(3), device=torch.device("cuda"))
    assert idents == [threading.get_ident()] * 3


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, Stopped])
@pytest.mark.parametrize("others", ["raise Stopped", "end"])
def test_a_failure_stops_the_others_and_is_raised_as_it_is(kind, others):
    begun, both, failure = [], threading.Barrier(2), kind("why")

    def compute(item, stopping):
        begun.append(item)
        both.wait(LONG)
        if item == 1:
            raise failure
        wait_for_stop(stopping)
        if others == "raise Stopped":
            raise Stopped

    with pytest.raises(kind) as caught:
        side_by_side(compute, range(6))
    assert sorted(begun) == [0, 1]
    assert caught.value is failure


@pytest.mark.usefixtures("two_threads")
def test_an_interrupt_of_the_caller_stops_those_that_run_and_waits_for_them():
    begun, ended, both = [], [], threading.Barrier(2)

    def compute(item, stopping):
        begun.append(item)
        both.wait(LONG)
        if item == 0:
            interrupt()
        wait_for_stop(stopping)
        ended.append(item)

    with pytest.raises(KeyboardInterrupt):
        side_by_side(compute, range(6))
    assert sorted(begun) == sorted(ended) == [0, 1]


# --- tables ---------------------------------------------------------------------------------------

KEYS = {name: {"name": name} for name in "abc"}


def table_of(name):
    return pd.DataFrame({"name": [name]})


def gathered(compute, store=None, **options):
    tables = gather(KEYS, compute, store=store, title="tables", **{"progress": False, **options})
    return [table["name"][0] for table in tables]


def records(store):
    return len(list(store.root.rglob("*.json")))


@pytest.mark.usefixtures("two_threads")
def test_tables_come_in_the_order_of_keys_read_or_computed(tmp_path):
    store, computed = Store(tmp_path), []
    store.write(KEYS["b"], table_of("b"))

    def compute(name, _):
        computed.append(name)
        return table_of(name)

    assert gathered(compute, store) == ["a", "b", "c"]
    assert sorted(computed) == ["a", "c"]
    assert records(store) == 3
    assert gathered(compute, store) == ["a", "b", "c"]
    assert len(computed) == 2
    assert gathered(compute) == ["a", "b", "c"]
    assert len(computed) == 5


@pytest.mark.usefixtures("two_threads")
def test_an_interrupt_keeps_what_was_done_and_what_ends_meanwhile(tmp_path):
    """Shard a is done; b, which cannot be stopped, ends after ctrl-C; c stops at its next step."""
    store, c_stopped = Store(tmp_path), threading.Event()

    def compute(name, advance):
        if name == "b":
            assert c_stopped.wait(LONG)
        elif name == "c":
            interrupt()
            try:
                advance_until_stopped(advance)
            finally:
                c_stopped.set()
        return table_of(name)

    with pytest.raises(KeyboardInterrupt, match="stopped after 2 of 3 shards, all kept"):
        gathered(compute, store)
    assert [store.has(key) for key in KEYS.values()] == [True, True, False]
    assert records(store) == 2
    assert not list(tmp_path.rglob("*.part"))
    again = []

    def rest(name, _):
        again.append(name)
        return table_of(name)

    assert gathered(rest, store) == ["a", "b", "c"]
    assert again == ["c"]


def test_an_interrupt_without_a_store_says_that_nothing_is_kept():
    def compute(name, advance):
        if name == "b":
            interrupt()
            advance_until_stopped(advance)
        return table_of(name)

    with pytest.raises(KeyboardInterrupt, match="stopped after 1 of 3 shards, none kept, for want"):
        gathered(compute)


@pytest.mark.usefixtures("two_threads")
def test_a_failure_is_raised_as_it_is_and_what_was_done_is_kept(tmp_path):
    store, failure, a_kept = Store(tmp_path), ValueError("no such table"), threading.Event()

    def compute(name, advance):
        if name == "b":
            deadline = time.monotonic() + LONG
            while not store.has(KEYS["a"]) and time.monotonic() < deadline:
                time.sleep(0.001)
            a_kept.set()
            raise failure
        if name == "c":
            assert a_kept.wait(LONG)
            advance_until_stopped(advance)
        return table_of(name)

    with pytest.raises(ValueError, match="no such table") as caught:
        gathered(compute, store)
    assert caught.value is failure
    assert [store.has(key) for key in KEYS.values()] == [True, False, False]


@pytest.mark.usefixtures("two_threads")
def test_the_bar_moves_by_parts_of_shards_of_unequal_size_and_ends_full(tmp_path, monkeypatch):
    bars = []

    class Bar(contextlib.nullcontext):
        def __init__(self, total, **_):
            super().__init__(self)
            self.total, self.moves = total, []
            bars.append(self)

        def update(self, n):
            self.moves.append(n)

    def compute(name, advance):
        for _ in range(4):
            advance(0.2)
        return table_of(name)

    monkeypatch.setattr(_shards, "Bar", Bar)
    store, sizes = Store(tmp_path), {"a": 1.0, "b": 10.0, "c": 100.0}
    store.write(KEYS["b"], table_of("b"))
    gathered(compute, store, size=sizes.__getitem__)
    (bar,) = bars
    assert bar.total == 111.0
    assert sorted(bar.moves) == pytest.approx([0.2] * 5 + [10.0] + [20.0] * 5)


def test_where_nobody_watches_there_is_no_bar(capsys):
    gathered(lambda name, _: table_of(name), progress=True)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
