"""What a shard in training has so far, kept beside where it will be: stopped, it goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import numbers
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from mflib.experiment import _checks
from mflib.experiment.descent import Descent, Evaluation
from mflib.experiment.store import NotKept, Store, decode, encode

EVERY = 60.0
"""Seconds of training after which its state is written, unless asked otherwise."""

_COST = 20  # times as long as a writing takes, it trains until the next
_FORMAT = 1
_SCORES = tuple(field.name for field in dataclasses.fields(Evaluation))

Members = Sequence[tuple[int, float]]
Tables = list[pd.DataFrame]


def seconds(every: float) -> float:
    """Return how often a state is to be kept. Raises ValueError for no number, or one below 0."""
    sound = isinstance(every, numbers.Real) and not isinstance(every, bool) and every >= 0
    _checks.require(sound, "checkpoint_every", every, "seconds, at least 0 (infinite for none)")
    return float(every)


class Checkpoint:
    """The state of one shard's training in a store: read at once, written every so often.

    A shard is trained as one ensemble, or in parts one after another where memory is small: then
    the tables of the parts that are done are kept with the state of the one in training. A file
    that is damaged, or of something else, is named in a warning, and the training begins anew; so
    it goes on without a checkpoint where none can be written.

    ``every``: seconds of training between two writings, at least, and at least twenty times as
    long as one takes; infinite for none.
    """

    def __init__(self, store: Store | None, key: Mapping[str, Any], every: float) -> None:
        self.store, self.key, self.every = store, key, every
        self.found = self._read()
        self.done: list[tuple[Members, Tables]] = self.found.done if self.found else []
        self.earlier = self.found.seconds if self.found else 0.0
        self.began = time.monotonic()
        self.due = self.began + every
        self.now: tuple[Members, Descent, list[Evaluation], Tables] | None = None

    def finished(self, members: Members) -> Tables | None:
        """Return the tables of members whose training has ended; raise MemoryError for too many.

        Members of which a part alone was in training did not fit into the memory together.
        """
        for those, tables in self.done:
            if those == members:
                return tables
        current = [self.found.members] if self.found else []
        for those in [*(part for part, _ in self.done), *current]:
            if len(those) < len(members) and set(those) <= set(members):
                raise MemoryError("trained in halves before")
        return None

    def begin(
        self, members: Members, run: Descent, evaluations: list[Evaluation], seen: Tables
    ) -> int:
        """Watch over a training, and resume where these members were; return the steps done.

        ``evaluations`` and ``seen`` are what is scored and observed on the way, added to here.
        """
        self.now, found, self.found = (members, run, evaluations, seen), self.found, None
        if found is None or found.members != members:
            return 0
        try:
            run.resume(found.state, found.steps)
        except (ValueError, RuntimeError) as error:
            self._refuse(f"{error}")
            return 0
        evaluations += found.evaluations
        seen += found.seen
        return found.steps

    @contextlib.contextmanager
    def watching(self, members: Members) -> Iterator[Tables]:
        """Let go of the networks at the end; keep the tables put into the list that it gives.

        A part that ended is in the next file written.
        """
        tables: Tables = []
        try:
            yield tables
            self.done.append((members, tables))
        finally:
            self.now = None  # their memory may be what is missing

    def step(self) -> None:
        """Write the state before this step if it is time."""
        if self.store is None or self.now is None or time.monotonic() < self.due:
            return
        members, run, evaluations, seen = self.now
        if run.x.is_cuda:
            torch.cuda.synchronize()  # so that steps still to be taken are not counted as writing
        started = time.monotonic()
        state = _State(
            members, run.steps_done, evaluations, seen, self.done,
            self.earlier + started - self.began, run.state(),
        )  # fmt: skip
        try:
            self.store.write_partial(self.key, state.arrays())
        except NotKept as error:
            warnings.warn(f"the state of a training is not kept: {error}", stacklevel=2)
            self.every = math.inf
        ended = time.monotonic()
        self.due = ended + max(self.every, _COST * (ended - started))

    def _read(self) -> _State | None:
        if self.store is None:
            return None
        arrays = self.store.get_partial(self.key)
        if arrays is None:
            return None
        try:
            return _State.of(arrays)
        except Exception as error:  # whatever a file that is none of ours may lead to
            self._refuse(f"{type(error).__name__}: {error}")
            return None

    def _refuse(self, why: str) -> None:
        assert self.store is not None
        path = self.store.partial_path(self.key)
        warnings.warn(
            f"{path} is no state of this training ({why}): beginning anew",
            RuntimeWarning,
            stacklevel=3,
        )


@dataclasses.dataclass
class _State:
    """What a file holds; ``state``: see ``Descent.state``."""

    members: Members
    steps: int
    evaluations: list[Evaluation]
    seen: Tables
    done: list[tuple[Members, Tables]]
    seconds: float
    state: torch.Tensor

    def arrays(self) -> dict[str, np.ndarray]:
        """Return it as arrays, fit for the store."""
        header = {
            "format": _FORMAT,
            "members": self.members,
            "steps": self.steps,
            "scored": len(self.evaluations),
            "seen": len(self.seen),
            "done": [[members, len(tables)] for members, tables in self.done],
            "seconds": round(self.seconds, 3),
        }
        found = {"header": _as_array(json.dumps(header).encode()), "state": self.state.numpy()}
        for k, scores in enumerate(self.evaluations):
            found |= {f"{name} {k}": getattr(scores, name) for name in _SCORES}
        tables = [*self.seen, *(table for _, tables in self.done for table in tables)]
        return found | {f"table {k}": _as_array(encode(one)[1]) for k, one in enumerate(tables)}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> _State:
        """Return what ``arrays`` holds. Raises KeyError, ValueError … where that is no state."""
        header = json.loads(arrays["header"].tobytes())
        if header["format"] != _FORMAT:
            raise ValueError(f"format {header['format']}")
        n_tables = sum(name.startswith("table ") for name in arrays)
        tables = [decode(arrays[f"table {k}"].tobytes(), "parquet") for k in range(n_tables)]
        rest = iter(tables[header["seen"] :])
        done = [(_members(m), [next(rest) for _ in range(n)]) for m, n in header["done"]]
        scores = [
            Evaluation(**{name: arrays[f"{name} {k}"] for name in _SCORES})
            for k in range(header["scored"])
        ]
        return cls(
            _members(header["members"]), int(header["steps"]), scores, tables[: header["seen"]],
            done, float(header["seconds"]), torch.from_numpy(arrays["state"]),
        )  # fmt: skip


def _members(pairs: Sequence[Sequence[float]]) -> Members:
    return [(int(k), float(rate)) for k, rate in pairs]


def _as_array(content: bytes) -> np.ndarray:
    return np.frombuffer(content, dtype=np.uint8)
