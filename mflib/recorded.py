"""Tables that are computed once and kept in results/, each with a record of where it came from."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mflib.experiment.store import write_atomically
from mflib.report import provenance


def write(
    output: Path,
    content: bytes,
    *,
    command: str,
    code: str | dict[str, str],
    seconds: float,
    **more: Any,
) -> None:
    """Write a table and, beside it (.json), where it came from.

    The record holds the table's name and SHA-256, the date, ``seconds`` that it took, device,
    commit, versions, the ``command`` that makes it, the version of the ``code`` that computed it
    (``sources.code_version``), and ``more``, which takes the place of these where it names them.
    """
    found = {
        "table": output.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "computed": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "device": provenance.device_name("cpu"),
        "commit": provenance.commit(),
        "code": code,
        "versions": provenance.versions(),
        "command": command,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, content)
    write_atomically(
        output.with_suffix(".json"),
        (json.dumps(found | more, indent=1, ensure_ascii=False) + "\n").encode(),
    )
