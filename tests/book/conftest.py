"""The built book and a server of its pages, each made once."""

from __future__ import annotations

import fcntl
import functools
import http.server
import subprocess
import threading
import time
from pathlib import Path

import pytest

from mflib import build, paths


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="session")
def html() -> Path:
    """Build the book, unless it is up to date, and return the folder of its pages."""
    paths.build().mkdir(exist_ok=True)
    # Every worker asks for it, and one builds.
    with open(paths.build() / "tests.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(
            ["make", "--no-print-directory", "book", f"START={int(time.time())}"],
            cwd=paths.root(),
            check=True,
            timeout=1500,
        )
    return build.index().parent


@pytest.fixture(scope="session")
def site(html):
    """Serve the book on a port of this machine and return its address."""
    handler = functools.partial(_Quiet, directory=str(html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
