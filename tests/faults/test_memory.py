"""Too little memory for the networks of a grid: it goes on in halves, and no number changes."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from scarce import Memory

from mflib.experiment import training
from mflib.experiment.store import Store

GRID = training.Grid(
    sigma_w2=(1.0, 1.5, 2.0, 2.5, 3.0, 4.0),
    depths=(6,),
    width=16,
    dataset="digits",
    learning_rate=0.02,
    batch_size=32,
    steps=6,
    evaluation_samples=200,
)


def test_a_grid_that_does_not_fit_is_computed_in_halves(tmp_path, fault, monkeypatch):
    memory = Memory()
    monkeypatch.setattr(torch, "empty", memory)

    def run(store: Store | None = None) -> pd.DataFrame:
        return training.trainability(GRID, store=store, device="cpu", progress=False)

    whole = run()
    timed = [name for name in whole if "seconds" in name]
    shares = (0.9, 0.65, 0.4, 0.25)
    for share in shares:
        memory.limit, memory.refused = share * memory.most, 0
        with pytest.warns(RuntimeWarning, match="networks of depth 6 take too much memory"):
            halved = run()
        assert memory.refused > 0
        pd.testing.assert_frame_equal(
            halved.drop(columns=timed), whole.drop(columns=timed), check_exact=True
        )
    fault(
        kind="too little GPU memory (simulated)",
        target="grid",
        times=len(shares),
        outcome="computed in halves, numbers unchanged",
    )

    memory.limit = 1000
    with (
        pytest.warns(RuntimeWarning, match="take too much memory"),
        pytest.raises(MemoryError, match="does not fit into the memory") as caught,
    ):
        run(Store(tmp_path))
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    fault(
        kind="too little GPU memory (simulated)",
        target="one network",
        outcome="one sentence, nothing written",
    )
