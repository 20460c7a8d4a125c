"""Table 1 of the reconstruction paper, case by case, for the registry."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mflib.experiment import costs
from mflib.experiment.store import Store

STEPS = 160  # that are timed: some 20 s a case on a large GPU


def _case(index: int, rehearse: bool) -> costs.Case:
    return (
        costs.paper_cases(rehearse=True)[index]
        if rehearse
        else costs.paper_cases(steps=STEPS)[index]
    )


def keys(index: int, rehearse: bool, *, device: str) -> list[dict[str, Any]]:
    """Return the key of the shard of one case."""
    return [costs.key(_case(index, rehearse), device)]


def measure(
    index: int, rehearse: bool, *, store: Store, device: str, progress: bool
) -> pd.DataFrame:
    """Measure one case, if the store does not have it."""
    return costs.table([_case(index, rehearse)], store=store, device=device, progress=progress)
