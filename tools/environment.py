"""Make the project's environment, ``.venv``, with the versions that ``requirements.lock`` says.

``environment.py classroom`` adds what ``requirements-classroom.lock`` names, to the same place, and
``environment.py cluster`` what ``requirements-cluster.lock`` names.

A new environment holds what the lock names and what that needs. After a change of the lock, what
it names is brought to its versions, and what it no longer names stays: the lock cannot tell that
from what a platform adds (CUDA's libraries) or a user did. Delete ``.venv`` for a new one.

Run by ``make`` with any Python 3, before anything is installed; it uses the standard library only,
and no syntax newer than 3.6, so that an old Python gets a sentence and not a SyntaxError.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
LOCKS = {
    "book": "requirements.lock",
    "classroom": "requirements-classroom.lock",
    "cluster": "requirements-cluster.lock",
}
DONE = os.path.join(VENV, "complete")
LOG = os.path.join(ROOT, "_build", "setup.log")


def wanted(parts):
    """Return, for each part, a hash of what it is made from, and of where.

    The folder counts because an environment that was moved or copied still points to its old
    place.
    """
    return {part: _hash(LOCKS["book"], LOCKS[part], "pyproject.toml") for part in parts}


def _hash(*names):
    digest = hashlib.sha256(ROOT.encode())
    for name in names:
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def finished():
    """Return the parts that the environment was finished with, and their hashes."""
    try:
        with open(DONE) as file:
            return dict(line.split() for line in file)
    except (OSError, ValueError):
        return {}


def is_complete(parts):
    """Tell whether the environment has the parts, from these locks, and its Python still runs."""
    done = finished()
    right = all(done.get(part) == digest for part, digest in wanted(parts).items())
    return right and os.access(PYTHON, os.X_OK)


def refuse_unusable_python():
    """Exit with one sentence if this Python cannot make the environment."""
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit(
            f"mflib needs Python 3.11 or newer, and {sys.executable} is "
            f"{sys.version.split()[0]}: install one and name it, as in 'make PYTHON=python3.12'."
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        version = "{}.{}".format(*sys.version_info)
        sys.exit(
            f"{sys.executable} cannot make environments: install its venv module "
            f"(on Debian and Ubuntu: apt install python{version}-venv) and run make again."
        )


def run(command, report=None):
    """Run a command, its output into the log and by line to ``report``; exit if it fails."""
    with open(LOG, "a") as log:
        # Open files are passed on, and the lock among them: pip may outlive a killed setup, and
        # the next one must then wait for it.
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            close_fds=False,
        )
        for line in process.stdout:
            log.write(line)
            if report:
                report(line)
    if process.wait():
        with open(LOG) as log:
            end = log.read().splitlines()[-8:]
        sys.exit("\n".join(["", *end, f"The installation failed; all of it is in {LOG}."]))


class Progress:
    """A sign of life: how many of the locked packages pip has got so far."""

    def __init__(self, locks):
        self.total = 0
        for lock in locks:
            with open(lock) as file:
                self.total += sum("==" in line for line in file)
        self.seen = 0

    def __call__(self, line):
        found = re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)==", line)
        if found:
            self.seen += 1
            self.show(f"{self.seen}/{self.total} {found[1]}")
        elif line.startswith("Installing collected packages"):
            self.show("all found, installing")

    def show(self, text):
        """Show a text in place on a terminal; elsewhere, one line for every 25 packages."""
        if sys.stdout.isatty():
            print(f"\r\033[K  {text}", end="", flush=True)
        elif "/" not in text or self.seen % 25 == 0:
            print(f"  {text}", flush=True)


def make(parts):
    """Make the environment, or bring a complete one to changed locks or more parts."""
    refuse_unusable_python()
    started = time.time()
    open(LOG, "w").close()
    names = " and ".join(LOCKS[part] for part in parts)
    print(f"Setting up .venv from {names} (a few minutes the first time)", flush=True)
    # Without its mark an environment may be half made: it is made anew. The mark goes first and
    # comes last, so that an interrupted change is not taken for a whole one either.
    if os.path.exists(DONE) and os.access(PYTHON, os.X_OK):
        os.unlink(DONE)
    else:
        shutil.rmtree(VENV, ignore_errors=True)
        run([sys.executable, "-m", "venv", VENV])
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "install"]
    locks = [os.path.join(ROOT, LOCKS[part]) for part in parts]
    run([*pip, *(word for lock in locks for word in ("-r", lock))], Progress(locks))
    run([*pip, "--no-deps", "--no-build-isolation", "-e", ROOT])
    with open(DONE + ".part", "w") as file:
        file.writelines(f"{part} {digest}\n" for part, digest in wanted(parts).items())
    os.replace(DONE + ".part", DONE)
    clear = "\r\033[K" if sys.stdout.isatty() else ""
    print(f"{clear}Set up in {time.time() - started:.0f} s", flush=True)


def main():
    """Make the environment if it is not complete; two at once wait for each other."""
    asked = {"book", *sys.argv[1:]}
    if is_complete(asked):
        return
    os.makedirs(os.path.dirname(LOG), exist_ok=True)
    with open(os.path.join(os.path.dirname(LOG), "setup.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), True)
        if not is_complete(asked):
            # A part that was there stays up to date with the others.
            make([part for part in LOCKS if part in asked | finished().keys()])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nStopped; run make again to go on.")
