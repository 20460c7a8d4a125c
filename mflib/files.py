"""Files that are there as a whole or not at all, whatever stops the process or the machine."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

_LEFT_FOR_DEAD = 24 * 3600.0  # seconds


def write_atomically(path: Path, content: bytes | str | Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all, and have it on disk on return; text as UTF-8.

    ``content`` may be a function instead, which writes to the file that it is given.
    The file is as open to others as the umask lets a new file be, so that a cache can be shared.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    # Not tempfile.mkstemp: its files are for their owner alone.
    handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name, too, must survive a power cut
    finally:
        os.close(folder)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file as `write_atomically`."""
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def remove_leftovers(folder: Path) -> None:
    """Remove the half-written files of writers that were killed in this folder a day ago or more.

    Nobody reads them, but nobody else removes them either. Younger ones may still be written to.
    """
    for part in folder.glob(".*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > _LEFT_FOR_DEAD:
                part.unlink()
