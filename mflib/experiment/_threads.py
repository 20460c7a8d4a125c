"""Work of the processor on what a GPU trains, side by side: its cores are idle until it is done."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import TypeVar

import threadpoolctl
import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def of_each(
    compute: Callable[[Item], Result], items: Sequence[Item], *, device: torch.device
) -> list[Result]:
    """Return ``compute(item)`` of every item, in their order, for networks that live on ``device``.

    Beside a GPU as many are computed at once as torch has threads, each on one thread of the
    linear algebra. Networks on the CPU are trained side by side already, so there one after
    another. The numbers are the same; what an item raises is raised once those that run have ended.
    """
    threads = min(torch.get_num_threads(), len(items)) if device.type == "cuda" else 1
    if threads <= 1:
        return [compute(item) for item in items]
    with (
        threadpoolctl.threadpool_limits(1, user_api="blas"),
        concurrent.futures.ThreadPoolExecutor(threads) as pool,
    ):
        futures = [pool.submit(compute, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)
