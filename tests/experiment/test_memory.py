"""Networks that do not fit into the memory together are trained in halves, bit for bit the same."""

import dataclasses

import pandas as pd
import pytest
import torch
from scarce import Memory

from mflib.experiment import descent, training
from mflib.experiment.store import Store
from mflib.experiment.training import Grid

NINE = Grid(
    sigma_w2=(1.0, 1.3, 1.76, 2.2, 3.0, 3.5, 3.9, 4.4, 5.0),
    depths=(6,),
    width=18,
    dataset="digits",
    learning_rate=0.02,
    batch_size=32,
    steps=8,
    evaluation_samples=300,
)


def count(network, inputs):
    """Return two rows of each network, in an order of their own."""
    rows = [
        {"member": k, "which": which, "norm": float(network.weights[which][k].norm())}
        for which in (1, 0)
        for k in range(network.n_members)
    ]
    return pd.DataFrame(rows)


def run(grid=NINE, **arguments):
    return training.observed(
        grid, count, at=(0, 3, 8), n_inputs=4, device="cpu", progress=False, **arguments
    )


@pytest.mark.parametrize(
    ("changes", "share", "splits"),
    [
        ({}, 0.65, 1),  # nine do not fit, four and five do
        ({"activation": "sigmoid", "dtype": "float64"}, 0.2, 8),  # one at a time
        ({"momentum": 0.5, "learning_rate": (0.02, 0.05), "sigma_b2": (0.01,) * 9}, 0.3, 4),
        ({"architecture": "convolutional", "channels": 6, "stride2": 1}, 0.65, 1),
    ],
    ids=["two halves", "alone", "two rates", "images"],
)
def test_halves_have_the_bits_of_the_whole(changes, share, splits, monkeypatch):
    grid = dataclasses.replace(NINE, **changes)
    memory = Memory()
    monkeypatch.setitem(descent._EVALUATION_BYTES, "cpu", 100_000)  # so scored in several chunks
    monkeypatch.setattr(torch, "empty", memory)
    whole = run(grid)
    assert memory.held == 0
    memory.limit = share * memory.most
    with pytest.warns(RuntimeWarning, match="networks of depth 6 take too much memory at") as said:
        halved = run(grid)
    assert len(said) == 1
    assert memory.refused == splits
    pd.testing.assert_frame_equal(halved, whole, check_exact=True)


def test_a_network_that_does_not_fit_alone_is_told_in_one_sentence(tmp_path, monkeypatch):
    grid = dataclasses.replace(NINE, sigma_w2=(1.0, 2.0))
    monkeypatch.setattr(torch, "empty", Memory(10_000))
    with (
        pytest.warns(RuntimeWarning, match="2 networks of depth 6"),
        pytest.raises(MemoryError, match="one network of depth 6 does not fit into the memory"),
    ):
        training.trainability(grid, store=Store(tmp_path), device="cpu", progress=False)
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("another")], ids=str)
def test_other_failures_are_not_tried_again(error, monkeypatch):
    calls = []

    def fail(*_, **__):
        calls.append(1)
        raise error

    monkeypatch.setattr(torch, "softmax", fail)
    with pytest.raises(type(error), match=str(error)):
        training.trainability(NINE, device="cpu", progress=False)
    assert len(calls) == 1


def test_the_words_of_the_cpu_allocator_are_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert training._out_of_memory(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_with_too_little_memory_trains_in_halves():
    grid = Grid(
        sigma_w2=tuple(1.5 + 0.01 * k for k in range(64)),
        depths=(20,),
        width=512,
        dataset="digits",
        batch_size=256,
        steps=6,
        steps_per_epoch=3,
        precision="ieee",
    )
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    whole = training.trainability(grid, device="cuda", progress=False, memory_limit=2**40)
    torch.cuda.empty_cache()
    share = 0.7 * torch.cuda.max_memory_reserved() / torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        with pytest.warns(RuntimeWarning, match="64 networks of depth 20 take too much memory"):
            halved = training.trainability(grid, device="cuda", progress=False, memory_limit=2**40)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    # A product of another number of matrices may be taken by another kernel there.
    pd.testing.assert_frame_equal(halved, whole, rtol=1e-4, atol=0.01)
