"""A Slurm of one machine in a scratch folder, to try a sweep on before a cluster, and to test with.

    python3 tools/slurm.py start FOLDER [--cpus 4] [--memory 8192] [--gpus 0]
    python3 tools/slurm.py stop-node FOLDER
    python3 tools/slurm.py start-node FOLDER
    python3 tools/slurm.py stop FOLDER

``start`` prints the lines to ``export``, so that sbatch, squeue and Snakemake find it, as in
``eval "$(python3 tools/slurm.py start FOLDER)"``. Everything is its own (munge key and socket,
configuration, ports on the loopback, state, logs), so a Slurm that the machine has already is not
touched. ``stop`` ends the jobs and the daemons and removes what ``start`` wrote. ``stop-node`` and
``start-node`` end and start slurmd, as where a node fails and comes back. The jobs run as the user
who started it; linuxproc follows their processes by their parents, so that no cgroup is needed.

It needs Debian's or Ubuntu's packages slurm-wlm and munge, and the standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = (*DAEMONS, "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
# The daemons live where an ordinary user's PATH does not look.
SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
# What `start` writes into the folder, and `stop` takes away again.
MADE_FOLDERS = ("bin", "devices", "log", "munge", "run", "spool", "state")
MADE = ("slurm.conf", "gres.conf", *MADE_FOLDERS)
MARK = "# Written by tools/slurm.py: a Slurm of one machine"
# Whether the folder itself goes as well.
MADE_FOLDER = "# The folder was made with it"
# A socket's path has to fit into sockaddr_un.
LONGEST_SOCKET = 107

CONFIGURATION = """\
{mark}
{made_folder}
ClusterName=scratch
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
# Nothing listens on any address but the loopback.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
# A node that answers again is used again, and one that does not is given up after seconds.
ReturnToService=2
SlurmdTimeout={timeout}
KillWait=2
UnkillableStepTimeout=20
# A job is looked for once a second at most, and started as soon as it is there.
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
# The counts below are believed, also where the machine has fewer processors.
SlurmdParameters=config_overrides
{gpus}NodeName=scratch NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory}{gres}
PartitionName=scratch Nodes=scratch Default=YES MaxTime=INFINITE DefMemPerCPU=256 State=UP
"""


def refuse(sentence: str) -> None:
    """Exit with one sentence and the exit code of bad input."""
    print(sentence, file=sys.stderr)
    sys.exit(2)


def tool(name: str) -> str:
    """Return the path of one of Slurm's or munge's programs."""
    found = shutil.which(name, path=SEARCHED)
    if found is None:
        missing = [name for name in COMMANDS if not shutil.which(name, path=SEARCHED)]
        refuse(
            f"There is no Slurm here ({', '.join(missing)} not found): install it, on Debian and "
            "Ubuntu with 'apt install --no-install-recommends slurm-wlm munge'."
        )
    assert found
    return found


def environment(folder: Path) -> dict[str, str]:
    """Return the environment in which Slurm's programs find the one in the folder."""
    # The variables of a job that this runs in would be taken for options.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return kept | {"SLURM_CONF": str(folder / "slurm.conf")}


def ask(folder: Path, *command: str) -> str:
    """Return what one of Slurm's programs says, or an empty text where it fails or hangs."""
    try:
        done = subprocess.run(
            [tool(command[0]), *command[1:]],
            env=environment(folder), capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    """Tell whether the condition came true within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def memory_mb() -> int:
    """Return the memory of the machine in MiB."""
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20)


def pid_of(folder: Path, name: str) -> int | None:
    """Return the process of a daemon of this folder, or None where it does not run."""
    try:
        pid = int((folder / "run" / f"{name}.pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, ValueError):
        return None
    # After a crash the number may belong to anybody: only a daemon with this folder is ours.
    ours = any(str(folder).encode() in word for word in words) and name.encode() in words[0]
    return pid if ours and state != "Z" else None


def processes_of_jobs(folder: Path) -> Iterator[int]:
    """Yield the processes of this Slurm's jobs, its own step daemons among them."""
    wanted = f"SLURM_CONF={folder / 'slurm.conf'}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            title = (entry / "comm").read_text().strip()
        except OSError:
            continue
        # A user's shell may have SLURM_CONF as well, but no number of a job.
        in_job = any(variable.startswith(b"SLURM_JOB_ID=") for variable in variables)
        if wanted in variables and (in_job or title == "slurmstepd"):
            yield int(entry.name)


def log_of(folder: Path, name: str) -> str:
    """Return the end of a daemon's log."""
    try:
        return "\n".join((folder / "log" / f"{name}.log").read_text().splitlines()[-8:])
    except OSError:
        return ""


def launch(folder: Path, name: str, *arguments: str) -> None:
    """Start a daemon, which goes into the background by itself, and see that it runs."""
    # Whoever waits for the end of our output does not wait for the daemon's.
    with (folder / "log" / f"{name}.start").open("w+") as said:
        done = subprocess.run(
            [tool(name), *arguments],
            env=environment(folder), stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            timeout=60, check=False,
        )  # fmt: skip
        said.seek(0)
        words = said.read().strip()
    if done.returncode or not wait_for(lambda: pid_of(folder, name), 10):
        raise RuntimeError(f"{name} did not start:\n{words}\n{log_of(folder, name)}")


def end(folder: Path, name: str) -> None:
    """End a daemon, with force if it does not go by itself."""
    pid = pid_of(folder, name)
    for number, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if wait_for(lambda: pid_of(folder, name) is None, seconds):
            return
    raise RuntimeError(f"{name} (process {pid}) does not end")


def node_is(folder: Path, *states: str) -> bool:
    """Tell whether the node is in one of the states."""
    return ask(folder, "sinfo", "--noheader", "--format=%T") in states


def write(folder: Path, made_folder: bool, cpus: int, memory: int, gpus: int, timeout: int) -> None:
    """Write the configuration, the key and the empty folders."""
    controller_port, node_port = free_ports(2)
    # The configuration comes first: it says that the rest is ours, should we be killed now.
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            mark=MARK,
            made_folder=MADE_FOLDER if made_folder else "# The folder was there before",
            folder=folder,
            host=socket.gethostname().split(".")[0],
            user=getpass.getuser(),
            controller_port=controller_port,
            node_port=node_port,
            timeout=timeout,
            cpus=cpus,
            memory=memory,
            gpus="GresTypes=gpu\n" if gpus else "",
            gres=f" Gres=gpu:{gpus}" if gpus else "",
        )
    )
    for name in MADE_FOLDERS:
        (folder / name).mkdir(mode=0o755, exist_ok=True)
    # Slurm counts files as devices, and any will do: whether there is a GPU is not looked at.
    devices = [folder / "devices" / f"gpu{number}" for number in range(gpus)]
    for device in devices:
        device.touch()
    (folder / "gres.conf").write_text(
        "".join(f"NodeName=scratch Name=gpu File={device}\n" for device in devices)
    )
    key = folder / "munge" / "key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    # Snakemake's job step takes SLURM_CONF, as all that begins with SLURM_, from the environment
    # of its srun, which then looks in /etc only. A cluster has its configuration there.
    wrapper = folder / "bin" / "srun"
    wrapper.write_text(
        f"#!/bin/sh\nSLURM_CONF={shlex.quote(str(folder / 'slurm.conf'))}\nexport SLURM_CONF\n"
        f'exec {shlex.quote(tool("srun"))} "$@"\n'
    )
    wrapper.chmod(0o755)


def start_node(folder: Path) -> None:
    """Start slurmd and wait until its node takes jobs."""
    if pid_of(folder, "slurmd") is None:
        launch(folder, "slurmd", "-N", "scratch", "-f", str(folder / "slurm.conf"))
    if not wait_for(lambda: node_is(folder, "idle", "mixed", "allocated", "completing"), 30):
        said = ask(folder, "scontrol", "show", "node")
        raise RuntimeError(f"the node takes no jobs:\n{said}\n{log_of(folder, 'slurmd')}")


def start(folder: Path, cpus: int, memory: int, gpus: int, timeout: int) -> None:
    """Set Slurm up in the folder, or only say so where it runs there already."""
    for name in COMMANDS:
        tool(name)
    if len(str(folder / "munge" / "socket")) > LONGEST_SOCKET:
        refuse(f"{folder} is too long for a socket in it: name a folder with a shorter path.")
    if any(character.isspace() or character in "#=," for character in str(folder)):
        refuse(f"{folder} has a space or one of # = , in it, which slurm.conf cannot say.")
    if is_made(folder) and all(pid_of(folder, name) for name in ("munged", "slurmctld")):
        start_node(folder)
    else:
        if is_made(folder):
            # Killed, or half up: what is left of it is no base to start from.
            stop(folder)
        elif folder.exists() and any(folder.iterdir()):
            refuse(f"{folder} is not empty: name a new folder for the scratch Slurm.")
        made_folder = not folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write(folder, made_folder, cpus, memory, gpus, timeout)
            launch(
                folder, "munged",
                # A scratch folder is often closed to other users, which is no fault here.
                "--force", "--num-threads=2",
                f"--key-file={folder}/munge/key", f"--socket={folder}/munge/socket",
                f"--seed-file={folder}/munge/seed", f"--pid-file={folder}/run/munged.pid",
                f"--log-file={folder}/log/munged.log",
            )  # fmt: skip
            launch(folder, "slurmctld", "-f", str(folder / "slurm.conf"))
            start_node(folder)
        except BaseException:
            stop(folder)
            raise
    print(f"export SLURM_CONF={shlex.quote(str(folder / 'slurm.conf'))}")
    print(f"export PATH={shlex.quote(str(folder / 'bin'))}:$PATH")


def is_made(folder: Path) -> bool:
    """Tell whether the folder's configuration is one that ``start`` wrote."""
    try:
        return (folder / "slurm.conf").read_text().startswith(MARK)
    except (OSError, UnicodeDecodeError):
        return False


def stop(folder: Path) -> None:
    """End the jobs and the daemons, and remove what ``start`` wrote."""
    with_folder = is_made(folder) and MADE_FOLDER in (folder / "slurm.conf").read_text()
    if pid_of(folder, "slurmctld"):
        ask(folder, "scancel", f"--user={getpass.getuser()}")
        if pid_of(folder, "slurmd"):
            wait_for(lambda: not ask(folder, "squeue", "--noheader"), 10)
    for name in ("slurmd", "slurmctld"):
        end(folder, name)
    # Steps outlive slurmd by design: what is left has no Slurm any more.
    for _ in range(20):
        left = list(processes_of_jobs(folder))
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            break
        time.sleep(0.1)
    end(folder, "munged")
    for name in MADE:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if with_folder:
        # Not where somebody put something else into it.
        with contextlib.suppress(OSError):
            folder.rmdir()


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["start", "stop", "start-node", "stop-node"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cpus", type=int, default=4, help="processors of the node")
    parser.add_argument("--memory", type=int, default=memory_mb(), help="its memory in MiB")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs to count (none need be there)")
    parser.add_argument(
        "--timeout", type=int, default=6, help="seconds after which a silent node is given up"
    )
    given = parser.parse_args()
    folder = given.folder.resolve()
    for name, least in (("cpus", 1), ("memory", 256), ("gpus", 0), ("timeout", 1)):
        if getattr(given, name) < least:
            refuse(f"--{name} {getattr(given, name)}: it has to be {least} or more.")
    if given.what != "start" and not is_made(folder):
        refuse(f"{folder} holds no Slurm that 'tools/slurm.py start' made.")
    try:
        if given.what == "start":
            start(folder, given.cpus, given.memory, given.gpus, given.timeout)
        elif given.what == "stop":
            stop(folder)
        elif given.what == "start-node":
            start_node(folder)
        else:
            end(folder, "slurmd")
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        sys.exit(f"Slurm in {folder}: {error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped.")


if __name__ == "__main__":
    main()
