"""How the whole suite runs."""

from __future__ import annotations

import os

from hypothesis import settings

# A shared machine may pause any example; and where a failure must be the change's own, examples are
# the same in every run. Elsewhere they are new each time, so that fuzzing goes on.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
