"""How the whole suite runs, and the one browser of a process."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
from hypothesis import settings

# A shared machine may pause any example; and where a failure must be the change's own, examples are
# the same in every run. Elsewhere they are new each time, so that fuzzing goes on.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def pytest_configure():
    """Take Ctrl-C as usual: who begins the tests in a shell's background has them ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def chromium():
    """Start the system's Chromium; where there is none, skip, or fail if one is required."""
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        if os.environ.get("MFLIB_REQUIRE_BROWSER"):
            pytest.fail("MFLIB_REQUIRE_BROWSER is set, but no Chromium is on the PATH: install one")
        pytest.skip("no Chromium on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield browser
        browser.close()
