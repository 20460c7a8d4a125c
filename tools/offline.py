"""Compute the papers' long computations on a machine without a network, and bring them home.

On a machine with a network, once:

    python tools/offline.py wheels CARRY/wheels      # packages that the other machine lacks
    python tools/offline.py data CARRY/data          # MNIST, Fashion-MNIST, CIFAR-10, folded
    python tools/offline.py keys CARRY/keys.json     # which shards will be known here

On the other machine, in a copy of the project:

    python tools/offline.py work --wheels CARRY/wheels --data CARRY/data --minutes 25 --out OUT

and with what it has written, at home again:

    python tools/offline.py take OUT/shards-*.tar --record

``work`` computes the groups of shards that are missing, the most telling first, until its minutes
are over, and packs every new shard. Whatever stops it, what is computed is kept, and the same
command goes on. ``state`` says how far it is, ``pack`` packs what is there at any time. What a
group needs of mflib and torch runs in a process of its own, so that a crash costs one group.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import hashlib
import io
import itertools
import json
import lzma
import math
import os
import queue
import re
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20
PIECE = 15 * MIB  # of an archive of shards
PIECES = 4
RESERVE = 20.0  # seconds of the end for stopping and packing, or a tenth of all if that is less
SLACK = 2.0  # times as long as was guessed, a computation's first group may take
IN_A_ROW = 3  # groups of a computation that may fail before the rest of it is set aside

COMPUTING = ("python-flint",)
NOTEBOOKS = ("papermill", "jupytext", "nbclient", "ipykernel", "plotly")
# What a machine on which people train networks has, with what that needs.
THERE = (
    "torch", "torchvision", "numpy", "scipy", "pandas", "pyarrow", "scikit-learn", "matplotlib",
    "seaborn", "pillow", "typer", "tqdm", "PyYAML", "threadpoolctl", "requests", "setuptools",
)  # fmt: skip
MODULES = ("papermill", "jupytext", "nbclient", "ipykernel", "plotly")  # as they are imported


class Refused(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


def write(file: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def write_json(file: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    write(file, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def read_json(file: Path, otherwise: Any) -> Any:
    """Return what a JSON file holds, or ``otherwise`` where it is missing or torn."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return otherwise


def folder(name: str, path: Path) -> Path:
    """Return a folder that must be there. Raises Refused."""
    if not path.is_dir():
        raise Refused(f"{name} {path} is no folder: name one that is there")
    return path.resolve()


def mib(size: float) -> str:
    """Return a number of bytes for a reader."""
    return f"{size / MIB:.1f} MiB"


# --- wheels -----------------------------------------------------------------------------------


def normal(name: str) -> str:
    """Return a package's name as package indices compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(python: str) -> dict[str, str]:
    """Return {name: version} of requirements.lock on a Python such as "3.12"."""
    from packaging.requirements import Requirement

    found = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            one = Requirement(line)
            if holds(one, python):
                found[normal(one.name)] = next(iter(one.specifier)).version
    return found


def holds(one: Any, python: str) -> bool:
    """Tell whether a requirement is one of Linux on x86-64 and this Python, and no extra's."""
    there = {
        "python_version": python, "python_full_version": f"{python}.0", "extra": "",
        "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64",
        "os_name": "posix", "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }  # fmt: skip
    return one.marker is None or one.marker.evaluate(there)


def needs(metadata: Iterable[str], python: str) -> list[str]:
    """Return the names of the packages that a package's metadata asks for."""
    from packaging.requirements import Requirement

    return [normal(one.name) for one in map(Requirement, metadata) if holds(one, python)]


def there_already(names: Iterable[str], python: str) -> set[str]:
    """Return these packages with what they need, as far as they are installed here."""
    from importlib import metadata

    found: set[str] = set()
    waiting = [normal(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            with contextlib.suppress(metadata.PackageNotFoundError):
                waiting += needs(metadata.requires(name) or [], python)
    return found


def named_packages(file: Path) -> set[str]:
    """Return the names of a list of packages: of pip list, of pip freeze, or one to a line."""
    lines = filter(str.strip, file.read_text(encoding="utf-8").splitlines())
    return {normal(re.split(r"[=<>!~@\[;]", line.split()[0])[0]) for line in lines}


def download(name: str, version: str, target: Path, python: str) -> Path:
    """Download one wheel for Linux on x86-64 and return it. Raises Refused."""
    before = set(target.glob("*.whl"))
    # pip takes a platform to the letter, so an older C library's are named one by one
    platforms = [f"manylinux_2_{n}_x86_64" for n in (35, 34, 31, 28, 27, 24, 17, 12, 5)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"),
        *("--no-deps", "--only-binary=:all:", "--implementation", "cp"),
        *("--python-version", python, "-d", str(target), f"{name}=={version}"),
        *(word for each in platforms for word in ("--platform", each)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise Refused(f"{name} {version} cannot be downloaded for Python {python}: {last}")
    for old in before:
        if normal(old.name.split("-")[0]) == name and f"-{version}-" not in old.name:
            old.unlink()  # two versions would stop the whole installation
    return next(
        file
        for file in target.glob("*.whl")
        if normal(file.name.split("-")[0]) == name and f"-{version}-" in file.name
    )


def asked_of(wheel: Path) -> list[str]:
    """Return the lines of a wheel's metadata on what it needs."""
    with zipfile.ZipFile(wheel) as archive:
        file = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(file).decode()
    lines = (line.partition(":") for line in text.splitlines())
    return [rest.strip() for name, _, rest in lines if name == "Requires-Dist"]


def wheels(args: argparse.Namespace) -> int:
    """Download what the other machine lacks, in the versions of requirements.lock."""
    if not re.fullmatch(r"3\.\d+", args.python):
        raise Refused(f"--python {args.python} is no version such as 3.12")
    versions = locked(args.python)
    there = (
        named_packages(args.have) if args.have else there_already(THERE, args.python)
    )  # fmt: skip
    waiting = [normal(name) for name in args.names or COMPUTING]
    waiting += [normal(name) for name in NOTEBOOKS if args.notebooks]
    args.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop(0)
        if name in found or (name in there and name not in map(normal, args.names)):
            continue
        if name not in versions:
            raise Refused(f"{name} is not in requirements.lock: only what that names is carried")
        found[name] = download(name, versions[name], args.folder, args.python)
        size = found[name].stat().st_size
        print(f"{found[name].name}: {mib(size)}", flush=True)
        waiting += needs(asked_of(found[name]), args.python)
    total = sum(file.stat().st_size for file in args.folder.glob("*.whl"))
    print(f"{len(list(args.folder.glob('*.whl')))} wheels in {args.folder}: {mib(total)}")
    return 0


def install(wheels: Path, site: Path, log: Path) -> None:
    """Install all wheels of a folder into ``site``. Raises Refused."""
    files = sorted(wheels.glob("*.whl"))
    if not files:
        return
    stamp = hashlib.sha256("".join(f"{f.name}{f.stat().st_size}" for f in files).encode())
    done = site / "installed.txt"
    if done.is_file() and done.read_text() == stamp.hexdigest():
        return
    shutil.rmtree(site, ignore_errors=True)
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"),
        *("--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--target", str(site)),
        *map(str, files),
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    with log.open("a") as file:
        file.write(said.stdout + said.stderr)
    if said.returncode:
        last = (said.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise Refused(f"the wheels in {wheels} cannot be installed: {last}")
    done.write_text(stamp.hexdigest())


# --- data sets --------------------------------------------------------------------------------

# Files of torchvision's layout, with the shape of their images where these are photographs: of
# drawings LZMA makes less without any help.
SETS: dict[str, dict[str, tuple[int, int, int, int] | None]] = {
    "mnist": {}, "fashion-mnist": {}, "cifar10": {"cifar-10-batches-py/batches.meta": None}
}  # fmt: skip
for _set, _place in (("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")):
    for _part, _what in itertools.product(("train", "t10k"), ("images-idx3", "labels-idx1")):
        SETS[_set][f"{_place}/raw/{_part}-{_what}-ubyte"] = None
for _file in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
    SETS["cifar10"][f"cifar-10-batches-py/{_file}"] = (10_000, 3, 32, 32)


def painted(pixels: bytes, shape: tuple[int, int, int, int]) -> bytes:
    """Return photographs (n, 3, h, w) side by side as one lossless WebP picture.

    That is a quarter less than what LZMA makes of CIFAR-10.
    """
    import numpy as np
    from PIL import Image

    n, colours, height, width = shape
    side = math.isqrt(n - 1) + 1
    tiles = np.zeros((side * side, colours, height, width), np.uint8)
    tiles[:n] = np.frombuffer(pixels, np.uint8).reshape(shape)
    tiles = tiles.reshape(side, side, colours, height, width).transpose(0, 3, 1, 4, 2)
    picture = Image.fromarray(np.ascontiguousarray(tiles.reshape(side * height, side * width, 3)))
    found = io.BytesIO()
    picture.save(found, "webp", lossless=True, method=2)
    return found.getvalue()


def photographs(picture: bytes, shape: tuple[int, int, int, int]) -> bytes:
    """Return the pixels of photographs from their picture. Raises ValueError for another one."""
    import numpy as np
    from PIL import Image

    n, colours, height, width = shape
    side = math.isqrt(n - 1) + 1
    try:
        seen = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    except OSError as error:
        raise ValueError(str(error)) from None
    tiles = seen.reshape(side, height, side, width, colours).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(tiles.reshape(-1, colours, height, width)[:n]).tobytes()


def folded(content: bytes, path: str, shape: tuple[int, int, int, int] | None) -> bytes:
    """Return a file as few bytes, headed by a line of JSON on what it is."""
    head: dict[str, Any] = {
        "path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    rest, packed = content, b""
    if shape is not None:
        size = shape[0] * shape[1] * shape[2] * shape[3]
        # a pickle says before a text how long it is
        start = content.index(b"T" + size.to_bytes(4, "little")) + 5
        pixels = content[start : start + size]
        packed = painted(pixels, shape)
        rest = content[:start] + content[start + size :]
        head |= {"shape": shape, "start": start, "packed": len(packed)}
    line = json.dumps(head).encode() + b"\n"
    return line + packed + lzma.compress(rest)


def unfolded(content: bytes) -> tuple[str, bytes]:
    """Return the path and the content of a folded file. Raises ValueError where it is damaged."""
    line, _, body = content.partition(b"\n")
    try:
        head = json.loads(line)
        size = head.get("packed", 0)
        whole = lzma.decompress(body[size:])
        if size:
            pixels, start = photographs(body[:size], tuple(head["shape"])), head["start"]
            whole = whole[:start] + pixels + whole[start:]
        if hashlib.sha256(whole).hexdigest() != head["sha256"]:
            raise ValueError("checksum")
        if head["path"] not in {path for files in SETS.values() for path in files}:
            raise ValueError("path")
    except (ValueError, KeyError, TypeError, lzma.LZMAError) as error:
        raise ValueError(str(error)) from None
    return head["path"], whole


def fold(args: argparse.Namespace) -> int:
    """Write data sets as small files of at most ``--piece`` MiB each."""
    source = args.source or os.environ.get("MFLIB_DATA")
    if source is None:
        raise Refused("which data sets? name their folder with --from, or with MFLIB_DATA")
    root = folder("--from", Path(source).expanduser())
    if not 1 <= args.piece <= 1000:
        raise Refused(f"--piece {args.piece:g} must be in [1, 1000] MiB")
    for name in args.sets:
        for path in SETS[name]:
            if not (root / path).is_file():
                raise Refused(f"{root} has no {path}: {name} must be laid out as torchvision does")
    args.folder.mkdir(parents=True, exist_ok=True)

    def one(path: str, shape: tuple[int, int, int, int] | None) -> int:
        content = folded((root / path).read_bytes(), path, shape)
        name, limit = path.replace("/", "-") + ".fold", int(args.piece * MIB)
        for old in args.folder.glob(f"{name}*"):
            old.unlink()
        n = -(-len(content) // limit)
        for k in range(n):
            file = args.folder / (name if n == 1 else f"{name}.{k + 1}of{n}")
            write(file, content[k * limit : (k + 1) * limit])
            print(f"{file.name}: {mib(file.stat().st_size)}", flush=True)
        return len(content)

    work = [(path, shape) for each in args.sets for path, shape in SETS[each].items()]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        total = sum(pool.map(lambda each: one(*each), work))
    print(f"{', '.join(args.sets)} in {args.folder}: {mib(total)}")
    return 0


def unfold(source: Path, work: Path) -> list[str]:
    """Put every data file of which all pieces have come into ``work/data``; return the paths.

    Pieces of the others wait in ``work/pieces`` for the rest. Raises Refused for a damaged one.
    """
    waiting = work / "pieces"
    for file in source.glob("*.fold*"):
        if not (waiting / file.name).is_file():
            waiting.mkdir(parents=True, exist_ok=True)
            write(waiting / file.name, file.read_bytes())
    pieces: dict[str, list[tuple[int, int, Path]]] = {}
    for file in waiting.glob("*.fold*"):
        name, _, place = file.name.partition(".fold")
        k, n = map(int, place[1:].split("of")) if place else (1, 1)
        pieces.setdefault(name, []).append((k, n, file))

    def one(files: list[tuple[int, int, Path]]) -> str | None:
        if len(files) < files[0][1]:
            return None
        content = b"".join(file.read_bytes() for _, _, file in sorted(files))
        try:
            path, whole = unfolded(content)
        except ValueError as error:
            for _, _, file in files:
                file.unlink()
            names = ", ".join(file.name for _, _, file in files)
            raise Refused(f"{names} is damaged ({error}): bring it again") from None
        write(work / "data" / path, whole)
        for _, _, file in files:
            write(file, b"")  # known, so that it is not taken in again
        return path

    fresh = [files for files in pieces.values() if all(f.stat().st_size for _, _, f in files)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return sorted(path for path in pool.map(one, fresh) if path)


# --- shards -----------------------------------------------------------------------------------

RECORD = re.compile(r"(?:.*/)?([0-9a-f]{2})/(\1[0-9a-f]{30})\.json")
PARTIAL = re.compile(r"(?:.*/)?([0-9a-f]{2})/(\1[0-9a-f]{30})\.partial")
TABLE = re.compile(r"(?:.*/)?([0-9a-f]{2})/(\1[0-9a-f]{30}\.[0-9a-f]{16}\.(?:parquet|npz))")
MEMBERS = (RECORD, TABLE, PARTIAL)


def shards(work: Path) -> dict[str, list[Path]]:
    """Return the record and the table of every shard that is in the work folder."""
    found = {}
    for record in sorted((work / "cache" / "shards").glob("??/*.json")):
        table = record.with_name(str(read_json(record, {}).get("table", "")) or "-")
        if RECORD.fullmatch(f"{record.parent.name}/{record.name}") and table.is_file():
            found[record.stem] = [table, record]
    return found


def pack(work: Path, out: Path, limit: int = PIECE, pieces: int = PIECES) -> tuple[int, int]:
    """Pack all shards that were computed in ``work``; return how many, and how many are left out.

    Those that no earlier packing has taken come first, so that none is ever left out for good.
    """
    came = set(read_json(work / "came.json", []))
    before = set(read_json(work / "packed.json", []))
    new = {name: files for name, files in shards(work).items() if name not in came}
    order = sorted(new, key=lambda name: (name in before, name))
    # and how far those are that were being computed, where there is room
    for file in sorted((work / "cache" / "shards").glob("??/*.partial")):
        with contextlib.suppress(FileNotFoundError):  # what was only begun is done now
            if file.stat().st_size + 3 * 10240 <= limit:
                new[file.name] = [file]
                order.append(file.name)
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("shards-*.tar"):
        old.unlink()
    n = 0
    taken: list[str] = []
    while len(taken) < len(order) and n < pieces:
        buffer, some = io.BytesIO(), 0
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name in order[len(taken) + some :]:
                try:
                    found = [(file, file.read_bytes()) for file in new[name]]
                except FileNotFoundError:
                    found = []
                # headers and padding of each file, and the end of the archive
                size = sum(len(content) + 1024 for _, content in found) + 2 * 10240
                if some and buffer.tell() + size > limit:
                    break
                for file, content in found:
                    member = tarfile.TarInfo(f"{file.parent.name}/{file.name}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
                some += 1
        n += 1
        write(out / f"shards-{n}.tar", buffer.getvalue())
        taken += order[len(taken) : len(taken) + some]
    write_json(work / "packed.json", sorted(before | set(taken)))
    chapters = sorted((work / "chapters").glob("*.ipynb"))
    if chapters:
        with tarfile.open(out / "chapters.tar", "w") as archive:
            for file in chapters:
                archive.add(file, file.name)
    for name in ("report.json", "log.txt"):
        if (work / name).is_file():
            write(out / name, (work / name).read_bytes())
    left = order[len(taken) :]
    whole = [sum(not name.endswith(".partial") for name in names) for names in (taken, left)]
    return whole[0], whole[1]


def packed(n: int, more: int, out: Path) -> str:
    """Return how many shards were packed, in words."""
    return f"{n} shards packed into {out}" + (f", {more} more for another packing" if more else "")


def unpack(archives: Sequence[Path], store: Any) -> tuple[list[str], list[str], list[str]]:
    """Put the sound shards of archives into a store of mflib; return three lists of words.

    Those are the names of the shards that are new there, of those that it had, and a sentence for
    everything that is damaged. Nothing is extracted to a place that an archive names.
    """
    from mflib.experiment.store import ShardDamaged, Store

    new, known, damaged = [], [], []
    for archive in archives:
        with tempfile.TemporaryDirectory() as scratch:
            apart = Store(scratch)
            records: list[Path] = []
            begun: list[Path] = []
            try:
                with tarfile.open(archive) as members:
                    for member in members:
                        matches = (kind.fullmatch(member.name) for kind in MEMBERS)
                        place = next(filter(None, matches), None)
                        if not place or not member.isfile():
                            damaged.append(f"{archive.name}: {member.name} is no part of a shard")
                            continue
                        file = apart.root / place[1] / member.name.rpartition("/")[2]
                        file.parent.mkdir(exist_ok=True)
                        content = members.extractfile(member)
                        file.write_bytes(content.read() if content else b"")
                        if file.suffix in (".json", ".partial"):
                            (records if file.suffix == ".json" else begun).append(file)
            except (tarfile.TarError, EOFError, OSError) as error:
                damaged.append(f"{archive.name} is torn or no archive ({error})")
            for record in records:
                said = read_json(record, {})
                try:
                    key = said["key"]
                    if apart.record_path(key) != record:
                        raise ShardDamaged("its name is not that of its key")
                    apart.read(key)
                except (ShardDamaged, KeyError, TypeError, ValueError) as error:
                    reason = str(error).replace(f"{scratch}/", "")
                    damaged.append(f"{archive.name}: shard {record.stem} is damaged: {reason}")
                    continue
                try:
                    store.read(key)
                    known.append(record.stem)
                except (ShardDamaged, KeyError):  # absent, or worse than the one that comes
                    table = record.with_name(said["table"])
                    for file in (table, record):  # the record last: a shard is there or it is not
                        write(store.root / record.parent.name / file.name, file.read_bytes())
                    new.append(record.stem)
            for file in begun:
                try:
                    key, far = state_of(file)
                    if apart.partial_path(key) != file:
                        raise ValueError("its name is not that of its key")
                except Exception as error:  # whatever a damaged archive brings numpy to
                    damaged.append(f"{archive.name}: {file.name} is damaged: {error}")
                    continue
                if not store.has(key) and far > known_state(store.partial_path(key)):
                    write(store.partial_path(key), file.read_bytes())
    return new, known, damaged


def state_of(file: Path) -> tuple[dict[str, Any], tuple[int, int]]:
    """Return the key of a shard in training, and roughly how far it is: parts done, steps.

    Raises what a damaged file brings numpy to.
    """
    import numpy as np

    with np.load(file, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}  # reads all, and the checksums
    header = json.loads(found["header"].tobytes())
    return json.loads(str(found["key"])), (len(header["done"]), int(header["steps"]))


def known_state(file: Path) -> tuple[int, int]:
    """Return how far a state is that is kept already: nowhere where it is missing or damaged."""
    try:
        return state_of(file)[1]
    except Exception:  # whatever a damaged file brings numpy to
        return (-1, -1)


def take(args: argparse.Namespace) -> int:
    """Put the shards of archives into the store, and say which parts of tables are complete."""
    for file in args.archives:
        if not file.is_file():
            raise Refused(f"there is no archive {file}")
    sys.path.insert(0, str(ROOT))
    from mflib import results
    from mflib.experiment.data import DataDamaged, DataUnavailable
    from mflib.experiment.store import Store
    from mflib.results.tables import unrecorded

    store = Store(args.store)
    new, known, damaged = unpack(args.archives, store)
    for sentence in damaged:
        print(f"offline: refused: {sentence}", file=sys.stderr)
    print(f"{len(new)} shards are new in {store.root}, {len(known)} were there already")
    flag = " --rehearse" if args.rehearse else ""
    reports = {file.parent / "report.json" for file in args.archives}
    groups = [group for file in reports for group in read_json(file, {}).get("groups", [])]
    told = {group["computation"] for group in groups}
    for name in results.REGISTRY:
        if told and name not in told:
            continue  # the report beside the archives says that nothing of it was computed
        one = results.computation(name, rehearse=args.rehearse)
        try:
            left = results.pending([name], rehearse=args.rehearse, store=store)
        except (DataUnavailable, DataDamaged) as error:
            print(f"{name}: its shards are not known without its data: {error}")
            continue
        wanted = unrecorded(one, rehearse=args.rehearse)
        open_parts = {job.group.part for job in left}
        ready = [part for part in wanted if part not in open_parts]
        rest = f"{len(left)} groups are pending"
        if not ready:
            print(f"{name}: no part is newly complete; {rest}")
            continue
        print(f"{name}: complete and not yet recorded: {', '.join(ready)}; {rest}")
        if args.record:
            file = results.collect(name, store=store, rehearse=args.rehearse)
            print(f"{name}: recorded in {file}")
        else:
            print(f"{name}: 'mflib results run {name}{flag}', or --record here, records that")
    return 1 if damaged else 0


# --- the process that computes ------------------------------------------------------------------


def compute_for_parent(args: argparse.Namespace) -> int:
    """Answer questions on standard input, one line of JSON each, with one line of JSON.

    Only this process imports torch. When the one that asks is gone, it stops at what it is doing.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what others print belongs to the log
    questions: queue.Queue[dict[str, Any] | None] = queue.Queue()
    busy = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            questions.put(json.loads(line))
        questions.put(None)
        if busy.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=listen, daemon=True).start()
    code = 0
    while (question := questions.get()) is not None:
        busy.set()
        try:
            answer = _answer(question, args)
        except KeyboardInterrupt as stopped:
            answer, code = {"stopped": str(stopped) or "stopped"}, 130
        except ModuleNotFoundError as error:
            answer = {"missing": error.name}
        except Exception as error:
            import traceback

            traceback.print_exc()
            said = " ".join(str(error).split())
            answer = {"failed": f"{type(error).__name__}: {said[:500]}"}
        busy.clear()
        print(json.dumps(answer), file=answers, flush=True)
        if code:
            break
    return code


def _answer(question: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    return {"who": _who, "take": _take, "list": _list, "group": _group}[question["what"]](
        question, args
    )


def _who(_: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Say what computes here."""
    import importlib.util
    import platform

    import numpy as np
    import torch

    from mflib import results
    from mflib.experiment._devices import resolve_device

    known: dict[str, Any] = {
        "python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__,
        "cuda": torch.version.cuda, "gpu": torch.cuda.is_available(),
        "cores": len(os.sched_getaffinity(0)), "known": list(results.REGISTRY),
        "lacks": [name for name in MODULES if importlib.util.find_spec(name) is None],
    }  # fmt: skip
    if known["gpu"]:
        memory = torch.cuda.get_device_properties(0).total_memory
        known |= {"device": torch.cuda.get_device_name(), "memory_gb": round(memory / 1e9, 1)}
    else:
        known["device"] = "CPU"
    if args.device != "cuda" or known["gpu"]:
        known["kind"] = resolve_device(args.device).type
    return known


def _take(question: dict[str, Any], _: argparse.Namespace) -> dict[str, Any]:
    """Put shards of archives into the store."""
    from mflib.experiment.store import Store

    new, known, damaged = unpack([Path(file) for file in question["archives"]], Store())
    return {"came": new + known, "new": len(new), "damaged": damaged}


def _without_network() -> None:
    """Have a data set that is not here refused at once, and not after a minute of trying."""
    from mflib.experiment import data

    def refuse(_kind: Any, _root: Path, name: str, damage: Any) -> None:
        raise damage or data.DataUnavailable(f"{name} was not brought: bring all of it with --data")

    setattr(data, "_download", refuse)  # noqa: B010


def _list(question: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Say which groups are pending, in their order, and which cannot be for want of data."""
    from mflib import results
    from mflib.experiment.data import DataDamaged, DataUnavailable
    from mflib.experiment.store import Store
    from mflib.results.tables import unrecorded

    _without_network()
    store, jobs, absent = Store(), [], {}
    common = {"rehearse": args.rehearse, "store": store, "device": args.device}
    for name in question["ids"] or results.REGISTRY:
        try:
            jobs += [(job.group, name) for job in results.pending([name], **common)]
        except (DataUnavailable, DataDamaged):
            # some of it may need other data, which are here
            one = results.computation(name, rehearse=args.rehearse)
            wanted = unrecorded(one, rehearse=args.rehearse)
            for group in one.groups():
                try:
                    keys = one.keys(group, question["kind"])
                except (DataUnavailable, DataDamaged) as error:
                    absent[f"{name} {group.name}"] = str(error)
                else:
                    if group.part in wanted and not all(map(store.has, keys)):
                        jobs.append((group, name))
    for job in list(jobs) if question["home"] is not None else ():
        name = f"{job[1]} {job[0].name}"
        one = results.computation(job[1], rehearse=args.rehearse)
        if question["home"].get(name) != digest(one.keys(job[0], question["kind"])):
            jobs.remove(job)
            absent[name] = "its shards would have other keys than at home, and be lost there"
    jobs.sort(key=lambda job: job[0].stage)  # stable, as results.pending sorts
    found = [
        {"computation": name, "group": group.name, "guess": round(group.seconds, 3)}
        for group, name in jobs
    ]
    return {"jobs": found, "absent": absent}


def digest(keys: Iterable[dict[str, Any]]) -> str:
    """Return a hash of the names of shards."""
    from mflib.experiment.store import Store

    names = "\n".join(sorted(map(Store.name, keys)))
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def keys(args: argparse.Namespace) -> int:
    """Write down which shards each group has, for another machine to compare its own with."""
    from mflib import results
    from mflib.experiment.data import DataDamaged, DataUnavailable

    unknown = [name for name in args.ids if name not in results.REGISTRY]
    if unknown:
        known = ", ".join(results.REGISTRY)
        raise Refused(f"no computation {unknown[0]!r}: those known are {known}")
    found: dict[str, str] = {}
    for name in args.ids or results.REGISTRY:
        one = results.computation(name, rehearse=args.rehearse)
        for group in one.groups():
            try:
                found[f"{name} {group.name}"] = digest(one.keys(group, args.device))
            except (DataUnavailable, DataDamaged) as error:
                raise Refused(f"{name}: {error}") from None
    write_json(args.file, found)
    print(f"the keys of {len(found)} groups are in {args.file}")
    return 0


def _group(question: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Compute a group and say what it took."""
    import resource

    import torch

    from mflib import results

    _without_network()
    kind = question["kind"]
    if kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
    note = results.compute_group(
        question["computation"], question["group"], device=kind, rehearse=args.rehearse,
        progress=False,
    )  # fmt: skip
    if kind == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": note["seconds"], "shards": len(note["shards"]), "device": note["device"],
        "peak_gb": round(peak / 1e9, 2), "code": note["code"],
    }  # fmt: skip


class Worker:
    """The process that computes, begun anew where it has died."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.process: subprocess.Popen[bytes] | None = None
        self.buffer = b""

    def start(self) -> subprocess.Popen[bytes]:
        """Return the process, which waits for questions."""
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, str(Path(__file__).resolve()), "_compute"]
            command += ["--device", self.run.args.device]
            command += ["--rehearse"] if self.run.args.rehearse else []
            with (self.run.work / "log.txt").open("ab") as log:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                    env=self.run.environment(), start_new_session=True,
                )  # fmt: skip
            self.buffer = b""
        return self.process

    def ask(self, **question: Any) -> dict[str, Any]:
        """Return the answer; {"died": …} where the process ends, {"stopped": …} where time does."""
        process = self.start()
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return {"died": process.wait()}
        told = None
        while b"\n" not in self.buffer:
            if told is None and self.run.over():
                process.send_signal(signal.SIGINT)
                told = time.monotonic()
            if told is not None and time.monotonic() - told > self.run.reserve / 2:
                self.kill()
                return {"stopped": "it did not stop and was ended"}
            if select.select([process.stdout], [], [], 0.2)[0]:
                some = os.read(process.stdout.fileno(), 1 << 16)
                if not some:
                    code = process.wait()
                    return {"stopped": "ended"} if told is not None else {"died": code}
                self.buffer += some
        line, _, self.buffer = self.buffer.partition(b"\n")
        return dict(json.loads(line))

    def kill(self) -> None:
        """End the process, whatever it does."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):
                    if pipe:
                        pipe.close()
        self.process = None


# --- the process that decides -------------------------------------------------------------------


@contextlib.contextmanager
def alone(work: Path) -> Iterator[None]:
    """Hold a work folder. Raises Refused where another process does."""
    with (work / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(
                f"{work} is being worked in already: see 'offline.py state --work {work}', "
                "or name another folder with --work"
            ) from None
        yield


def at_work(work: Path) -> bool:
    """Tell whether a process works in this folder."""
    try:
        with (work / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@dataclasses.dataclass
class Run:
    """One run of ``work``: what it may use, how far it is, and what it says of that."""

    args: argparse.Namespace
    work: Path
    report: dict[str, Any] = dataclasses.field(default_factory=dict)
    signalled: str = ""
    began: float = dataclasses.field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        seconds = 60 * self.args.minutes
        self.reserve = min(RESERVE, seconds / 10)
        self.ends = self.began + seconds - self.reserve
        earlier = read_json(self.work / "report.json", {})
        self.report = {name: earlier.get(name, []) for name in ("groups", "chapters")}
        self.report |= {"failed": [], "pending": [], "absent": {}}
        self.worker = Worker(self)

    def left(self) -> float:
        """Return the seconds in which groups may still be computed."""
        return self.ends - time.monotonic()

    def over(self) -> bool:
        """Tell whether to stop."""
        return bool(self.signalled) or self.left() <= 0

    def say(self, words: str) -> None:
        """Print a line, and into the log."""
        line = f"[{time.monotonic() - self.began:6.1f} s] {words}"
        with contextlib.suppress(OSError):  # where nobody reads any more, the work goes on
            print(line, flush=True)
        with (self.work / "log.txt").open("a") as log:
            log.write(line + "\n")

    def tell(self, state: str, **more: Any) -> None:
        """Write down how far the run is."""
        self.report |= {
            "state": state, "process": os.getpid(), "minutes": self.args.minutes,
            "seconds": round(time.monotonic() - self.began, 1),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "rehearse": self.args.rehearse, **more,
        }  # fmt: skip
        write_json(self.work / "report.json", self.report)

    def environment(self) -> dict[str, str]:
        """Return what the processes that compute find: code, packages, data and a cache."""
        path = [str(ROOT), str(self.work / "site"), os.environ.get("PYTHONPATH", "")]
        found = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "MFLIB_CACHE": str(self.work / "cache"),
            "PYTHONUNBUFFERED": "1",
        }
        if self.args.data is not None:
            own = any(self.args.data.glob("*.fold*")) or not any(
                (self.args.data / Path(path).parts[0]).is_dir()
                for files in SETS.values()
                for path in files
            )
            found["MFLIB_DATA"] = str(self.work / "data" if own else self.args.data)
        elif (self.work / "data").is_dir():  # of an earlier command
            found["MFLIB_DATA"] = str(self.work / "data")
        return found

    def prepare(self) -> None:
        """Install, unfold, take in; raise Refused for what cannot be."""
        args = self.args
        self.tell("preparing")
        if args.wheels is not None:
            install(args.wheels, self.work / "site", self.work / "log.txt")
        if args.data is not None:
            came = unfold(args.data, self.work)
            if came:
                self.say(f"data: {len(came)} files unfolded")
        who = self.worker.ask(what="who")
        if "stopped" in who:
            return
        if "missing" in who:
            raise Refused(
                f"there is no module {who['missing']!r} here: bring its package with --wheels"
            )
        if "kind" not in who and "torch" in who:
            raise Refused("--device cuda was asked for, but torch finds no GPU here")
        if "torch" not in who:
            raise Refused(f"nothing can be computed here: {who.get('failed') or who}")
        if who["kind"] == "cpu" and args.device == "auto" and not args.rehearse:
            raise Refused(
                "there is no GPU here, and on a CPU each group would take hours to days: give "
                "--rehearse for tiny sizes, or --device cpu to do it all the same"
            )
        unknown = [name for name in args.ids if name not in who["known"]]
        if unknown:
            known = ", ".join(who["known"])
            raise Refused(f"no computation {unknown[0]!r}: those known are {known}")
        if args.chapters and who["lacks"]:
            raise Refused(
                f"chapters need {', '.join(who['lacks'])}: bring what 'offline.py wheels "
                "--notebooks' downloads"
            )
        self.kind = who["kind"]
        self.report["device"] = {**who, "driver": driver() if who["gpu"] else ""}
        self.say(f"{who['device']}, torch {who['torch']}, Python {who['python']}")
        if args.shards:
            said = self.worker.ask(what="take", archives=[str(file) for file in args.shards])
            for sentence in said.get("damaged", [f"all archives: {said}"]):
                self.say(f"refused: {sentence}")
            came = sorted({*read_json(self.work / "came.json", []), *said.get("came", [])})
            write_json(self.work / "came.json", came)
            self.say(f"{said.get('new', 0)} shards taken from archives")

    def expected(self, job: dict[str, Any]) -> float:
        """Return the seconds that a group is expected to take.

        That is the registry's guess, times how wrong it was for earlier groups of the computation.
        """
        earlier = [
            each["seconds"] / max(each["guess"], 1e-3)
            for each in self.report["groups"]
            if each["computation"] == job["computation"]
        ]
        return max(earlier[-3:], default=self.args.slack) * max(job["guess"], 1e-3)

    def compute(self) -> None:
        """Compute group after group until none is left, or none that fits into the time."""
        if self.over():
            return
        home = None if self.args.keys is None else read_json(self.args.keys, {})
        said = self.worker.ask(what="list", ids=self.args.ids, kind=self.kind, home=home)
        if "stopped" in said:
            return
        if "jobs" not in said:
            self.say(f"nothing can be listed: {said}")
            self.report["failed"].append({"computation": "", "group": "", "why": str(said)})
            return
        jobs, self.report["absent"] = said["jobs"], said["absent"]
        for why in sorted(set(said["absent"].values())):
            n = list(said["absent"].values()).count(why)
            self.say(f"{n} groups cannot be computed: {why}")
        self.say(f"{len(jobs)} groups to compute, {self.left() / 60:.1f} minutes left")
        failing: dict[str, int] = {}
        while jobs and not self.over():
            self.report["pending"] = [f"{job['computation']} {job['group']}" for job in jobs]
            fits = [job for job in jobs if self.expected(job) <= self.left()]
            if not (fits or self.args.fill):
                self.say(f"none of the {len(jobs)} groups left fits into {self.left():.0f} s")
                break
            job = (fits or jobs)[0]
            name = f"{job['computation']} {job['group']}"
            self.tell("computing", now=name)
            done = self.worker.ask(what="group", kind=self.kind, **job)
            if "stopped" in done:
                self.say(f"{name}: {done['stopped']}")
                break
            jobs.remove(job)
            after = f"{len(jobs)} groups and {self.left() / 60:.1f} minutes left"
            if "shards" in done:
                self.report["groups"].append({**job, **done})
                failing[job["computation"]] = 0
                self.say(f"{name}: {done['shards']} shards in {done['seconds']:g} s; {after}")
                continue
            why = done.get("failed") or done.get("missing") or f"its process died ({done['died']})"
            self.report["failed"].append({**job, "why": why})
            self.say(f"{name}: failed: {why}; {after}")
            self.worker.kill()  # an error of CUDA stays with its process
            failing[job["computation"]] = failing.get(job["computation"], 0) + 1
            if failing[job["computation"]] == IN_A_ROW:
                rest = [each for each in jobs if each["computation"] == job["computation"]]
                jobs = [each for each in jobs if each not in rest]
                why = f"{IN_A_ROW} groups before it failed in a row"
                self.report["failed"] += [{**each, "why": why} for each in rest]
                self.say(f"{job['computation']}: {len(rest)} groups set aside: {why}")
        self.report["pending"] = [f"{job['computation']} {job['group']}" for job in jobs]

    def run_chapters(self) -> None:
        """Execute chapters at the paper's profile, one after another."""
        if self.args.chapters:
            self.worker.kill()  # which holds memory of the GPU
        for name in self.args.chapters:
            if self.over():
                return
            self.tell("executing chapters", now=name)
            target = self.work / "chapters" / f"{name}.ipynb"
            target.parent.mkdir(exist_ok=True)
            profile = "quick" if self.args.rehearse else "paper"
            command = [sys.executable, "-m", "mflib.cli", "run", name]
            command += ["--profile", profile, "-o", str(target)]
            began = time.monotonic()
            with (self.work / "log.txt").open("ab") as log:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                    env=self.environment(), start_new_session=True,
                )  # fmt: skip
            while process.poll() is None and not self.over():
                time.sleep(0.2)
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(self.reserve / 2)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                state = "stopped; its shards are kept"
            else:
                state = "finished" if process.returncode == 0 else "failed"
            seconds = round(time.monotonic() - began, 1)
            devices = devices_of(target) if target.is_file() else []
            note = {"chapter": name, "state": state, "seconds": seconds, "devices": devices}
            self.report["chapters"] = [
                each for each in self.report["chapters"] if each["chapter"] != name
            ] + [note]
            self.say(f"chapter {name} ({profile} profile): {state} after {seconds:g} s")

    def throughput(self) -> dict[str, float]:
        """Return the shards that each computation makes in a minute."""
        found = {}
        for name in dict.fromkeys(each["computation"] for each in self.report["groups"]):
            mine = [each for each in self.report["groups"] if each["computation"] == name]
            seconds = sum(each["seconds"] for each in mine)
            found[name] = round(60 * sum(each["shards"] for each in mine) / max(seconds, 0.1), 2)
        return found

    def finish(self) -> int:
        """Say how it ended, pack, and return the exit code."""
        self.worker.kill()
        chapters = [each for each in self.report["chapters"] if each["state"] != "finished"]
        unfinished = bool(self.report["pending"] or chapters)
        if self.signalled:
            state = f"stopped by {self.signalled}"
        else:
            state = "time is up" if unfinished and self.left() <= 1 else "ended"
        self.tell(
            state,
            now="",
            shards_per_minute=self.throughput(),
            peak_gb=max((each["peak_gb"] for each in self.report["groups"]), default=0.0),
        )
        n, more = pack(self.work, self.args.out, pieces=PIECES - bool(self.args.chapters))
        left = len(self.report["pending"])
        failed = len(self.report["failed"])
        said = packed(n, more, self.args.out)
        self.say(f"{state}: {left} groups pending, {failed} failed; {said}")
        write(self.args.out / "log.txt", (self.work / "log.txt").read_bytes())
        return 130 if self.signalled else int(bool(failed))


def driver() -> str:
    """Return the version of the GPU's driver, where nvidia-smi says it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        return said.stdout.strip().partition("\n")[0]
    return ""


def devices_of(notebook: Path) -> list[str]:
    """Return the devices that the records of an executed notebook name."""
    cells = read_json(notebook, {}).get("cells", [])
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    found = [output.get("metadata", {}).get("mflib", {}) for output in outputs]
    named = [each.get("provenance", {}).get("device") for each in found]
    return sorted({name for name in named if name})


def work(args: argparse.Namespace) -> int:
    """Check everything, then compute until all is done or the minutes are over, and pack."""
    least = 0.1 if args.rehearse else 1.0
    if not least <= args.minutes <= 100_000:
        raise Refused(f"--minutes {args.minutes:g} must be in [{least:g}, 100000]")
    if not 0 < args.slack <= 1000:
        raise Refused(f"--slack {args.slack:g} must be in (0, 1000]")
    args.wheels = args.wheels and folder("--wheels", args.wheels)
    args.data = args.data and folder("--data", args.data)
    for file in args.shards:
        if not file.is_file():
            raise Refused(f"there is no archive {file}")
        if file.resolve().parent == args.out.resolve():
            raise Refused(f"{file} lies in --out, where archives are replaced: name another folder")
    if args.keys is not None and not isinstance(read_json(args.keys, None), dict):
        raise Refused(f"{args.keys} is no file that 'offline.py keys' has written")
    for name in args.chapters:
        if not (ROOT / "notebooks" / f"{name}.py").is_file():
            raise Refused(f"no notebook {name!r}: 'mflib list' names those there are")
    args.out, folder_of = args.out.resolve(), args.work.resolve()
    for place in (args.out, folder_of):
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(
                f"{place} cannot be made ({error.strerror}): name another folder"
            ) from None
    if args.detach:
        return detach(folder_of)
    run = Run(args, folder_of)
    with alone(folder_of):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda n, _: setattr(run, "signalled", signal.Signals(n).name))
        try:
            run.prepare()
            run.compute() if args.groups else None
            run.run_chapters()
        except Refused as error:
            run.worker.kill()
            run.tell("refused", why=str(error))
            raise
        except BaseException as error:  # a fault of this program loses no shard either
            run.say(f"failed: {type(error).__name__}: {error}")
            run.finish()
            raise
        return run.finish()


def detach(work: Path) -> int:
    """Have the same command go on in a session of its own, and return."""
    with alone(work):  # refuse here what the other could only log
        command = [word for word in sys.argv[1:] if word != "--detach"]
    with (work / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    print(f"process {process.pid} works in {work}: 'offline.py state --work {work}' says how far")
    return 0


def state(args: argparse.Namespace) -> int:
    """Say how far the work in a folder is; 0 where it has ended, 3 where it goes on."""
    work = folder("--work", args.work)
    known = read_json(work / "report.json", None)
    busy = at_work(work)
    if known is None:
        print("beginning" if busy else f"nothing has been worked on in {work}")
        return 3 if busy else 0
    came = set(read_json(work / "came.json", []))
    new = sum(name not in came for name in shards(work))
    said = known["state"] if busy or known["state"] not in RUNNING else "killed"
    now = f" {known['now']}" if busy and known.get("now") else ""
    print(
        f"{said}{now}: {len(known['groups'])} groups done, {len(known['failed'])} failed, "
        f"{len(known['pending'])} pending; {new} shards computed here"
    )
    for each in known["failed"]:
        print(f"failed: {each['computation']} {each['group']}: {each['why']}")
    if known.get("why"):
        print(known["why"])
    return 3 if busy else 0


RUNNING = ("preparing", "computing", "executing chapters")


def pack_now(args: argparse.Namespace) -> int:
    """Pack what is there, whether or not it is being worked on."""
    work = folder("--work", args.work)
    chapters = any((work / "chapters").glob("*.ipynb"))
    n, more = pack(work, args.out, pieces=PIECES - chapters)
    print(packed(n, more, args.out))
    return 0


# --- the command line -------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    top = argparse.ArgumentParser(prog="offline.py", description=__doc__.splitlines()[0])
    commands = top.add_subparsers(dest="command", required=True)

    one = commands.add_parser("wheels", help="download the packages that the other machine lacks")
    one.add_argument("folder", type=Path, metavar="DIR")
    one.add_argument("names", nargs="*", metavar="NAME", help="packages; else what computing needs")
    one.add_argument("--python", default="3.12", help="its Python; 3.12 if not given")
    one.add_argument("--notebooks", action="store_true", help="what chapters need, too")
    one.add_argument("--have", type=Path, metavar="FILE", help="its 'pip list'; else a usual one")
    one.set_defaults(do=wheels)

    one = commands.add_parser("data", help="write data sets as small files")
    one.add_argument("folder", type=Path, metavar="DIR")
    one.add_argument("--from", dest="source", metavar="DIR", help="MFLIB_DATA if not given")
    one.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="SET")
    one.add_argument("--piece", type=float, default=20.0, help="MiB that a file may have; 20")
    one.set_defaults(do=fold)

    usual = Path(tempfile.gettempdir()) / "mflib-offline"
    one = commands.add_parser("keys", help="write down the shards' keys, to be compared there")
    one.add_argument("file", type=Path, metavar="FILE")
    one.add_argument("ids", nargs="*", metavar="ID", help="computations; all if none is given")
    one.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="the other's; cuda")
    one.add_argument("--rehearse", action="store_true", help="of a rehearsal")
    one.set_defaults(do=keys)

    one = commands.add_parser("work", help="compute what is missing, and pack it")
    one.add_argument("ids", nargs="*", metavar="ID", help="computations; all if none is given")
    one.add_argument("--minutes", type=float, required=True, help="after which it has ended")
    one.add_argument("--out", type=Path, required=True, metavar="DIR")
    one.add_argument("--wheels", type=Path, metavar="DIR")
    one.add_argument("--data", type=Path, metavar="DIR", help="folded, or as torchvision has it")
    one.add_argument("--shards", type=Path, nargs="+", default=[], metavar="FILE")
    one.add_argument("--keys", type=Path, metavar="FILE", help="of home: leave out what differs")
    one.add_argument("--work", type=Path, default=usual, metavar="DIR", help=f"{usual}")
    one.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    one.add_argument("--rehearse", action="store_true", help="tiny sizes")
    one.add_argument("--detach", action="store_true", help="go on in the background")
    one.add_argument("--chapters", nargs="+", default=[], metavar="NAME")
    one.add_argument("--no-groups", dest="groups", action="store_false", help="chapters only")
    one.add_argument(
        "--slack", type=float, default=SLACK,
        help="times its guess that a computation's first group may take; 2",
    )  # fmt: skip
    one.add_argument(
        "--fill", action="store_true",
        help="in the last minutes begin a group that will not end; its finished shards are kept",
    )  # fmt: skip
    one.set_defaults(do=work)

    one = commands.add_parser("state", help="say how far it is; exit code 3 while it goes on")
    one.add_argument("--work", type=Path, default=usual, metavar="DIR")
    one.set_defaults(do=state)

    one = commands.add_parser("pack", help="pack what is there")
    one.add_argument("--work", type=Path, default=usual, metavar="DIR")
    one.add_argument("--out", type=Path, required=True, metavar="DIR")
    one.set_defaults(do=pack_now)

    one = commands.add_parser("take", help="put packed shards into the store")
    one.add_argument("archives", type=Path, nargs="+", metavar="FILE")
    one.add_argument("--store", type=Path, metavar="DIR", help="the user's cache if not given")
    one.add_argument("--record", action="store_true", help="put complete parts into results/")
    one.add_argument("--rehearse", action="store_true", help="shards of a rehearsal")
    one.set_defaults(do=take)

    one = commands.add_parser("_compute")
    one.add_argument("--device", default="auto")
    one.add_argument("--rehearse", action="store_true")
    one.set_defaults(do=compute_for_parent)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; 2 where something cannot be."""
    args = parser().parse_args(arguments)
    try:
        return int(args.do(args))
    except Refused as error:
        print(f"offline: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
