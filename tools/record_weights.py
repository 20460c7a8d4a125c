"""Record the fits of all networks in a folder: a table, and beside it where it came from.

    python tools/record_weights.py [FOLDER] [-o results/levy-phase-diagram-weights.csv]

FOLDER is ``nets`` in the folder MFLIB_DATA unless given. A PROVENANCE.md in the folder above it,
with table rows "folder | what | check | origin; licence", says where each network comes from.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path

from mflib import paths, recorded, sources
from mflib.experiment import data, weights
from mflib.experiment.store import Store

NAME = "levy-phase-diagram-weights.csv"


def origins(folder: Path) -> dict[str, dict[str, str]]:
    """Return what PROVENANCE.md says of each folder that it lists, by the folder's name."""
    file = folder.parent / "PROVENANCE.md"
    if not file.is_file():
        return {}
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 4 and not set(cells[0]) <= set("-: "):
            found[cells[0]] = dict(zip(("what", "check", "origin"), cells[1:], strict=True))
    return found


def networks(folder: Path) -> list[dict[str, object]]:
    """Return name, file, size, SHA-256 and origin of every network in the folder."""
    stated = origins(folder)
    found = []
    for name, path in weights.files(folder).items():
        content = path.read_bytes()
        place = f"{folder.name}/{path.relative_to(folder).as_posix()}"
        found.append(
            {
                "network": name,
                "file": place,
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                **stated.get(place.rsplit("/", 1)[0], {"origin": "not stated"}),
            }
        )
    return found


def record(folder: Path, output: Path) -> None:
    """Fit all networks of a folder, and write the table and, beside it, its provenance."""
    listed = networks(folder)
    started = time.perf_counter()
    table = weights.fit_folder(folder, balanced=True, store=Store())
    recorded.write(
        output,
        table.to_csv(index=False, float_format="%.7g").encode(),
        command=f"python tools/record_weights.py {folder.name} -o results/{output.name}",
        code=sources.code_version("mflib.experiment._tails"),
        seconds=time.perf_counter() - started,
        matrices=len(table),
        fitted=int(table["alpha"].notna().sum()),
        networks=listed,
    )


def main() -> None:
    """Read the command line and record."""
    given = os.environ.get("MFLIB_DATA")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="nets in MFLIB_DATA unless given")
    parser.add_argument("-o", "--output", type=Path, default=paths.results() / NAME)
    options = parser.parse_args()
    folder = options.folder or (Path(given).expanduser() / "nets" if given else None)
    if folder is None:
        parser.error("give a folder of networks, or set MFLIB_DATA")
    try:
        record(folder, options.output)
    except (ValueError, data.DataUnavailable, data.DataDamaged) as error:
        print(f"record_weights: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
