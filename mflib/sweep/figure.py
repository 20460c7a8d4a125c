"""One result of a sweep over the parameters that vary in it, as small multiples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Drawn:
    """A drawn figure: the claim or figure it shows (None for all verdicts), picture and words."""

    id: str | None
    png: bytes
    caption: str
    alt: str


def draw(
    manifest: Mapping[str, Any],
    outcomes: Sequence[Mapping[str, Any] | None],
    runs: Path,
    show: str | None = None,
) -> Drawn | None:
    return None
