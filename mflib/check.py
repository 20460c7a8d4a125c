"""What computations will use on this machine, and what to install where it falls short."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Callable

from mflib import notebooks

PACKAGES = ("numpy", "scipy", "torch", "torchvision", "python-flint", "jupyter-book", "snakemake")

DATA_SETS = ("mnist", "fashion-mnist", "cifar10")


@functools.cache
def driver_gpus() -> tuple[str, ...]:
    """Return the GPUs that the NVIDIA driver names, whether or not torch can use them."""
    if not shutil.which("nvidia-smi"):
        return ()
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in answer.stdout.splitlines() if line.strip())


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return f"GPU: {', '.join(names)}"
    return "CPU"


def _torch_build() -> str:
    import torch

    cuda = torch.version.cuda
    return f"{torch.__version__} ({f'built for CUDA {cuda}' if cuda else 'built for the CPU only'})"


def _memory() -> str:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{total / 2**30:.1f} GiB"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _data(name: str) -> str:
    from mflib.experiment import data

    found = data.found(name)
    return str(found) if found else f"not here (looked in {', '.join(map(str, data.roots()))})"


def _attempt(find: Callable[[], str]) -> str:
    """Return what ``find`` finds, or its error in words: a check goes on past what is broken."""
    try:
        return find()
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return f"not known ({type(error).__name__}: {error})"


def findings() -> list[tuple[str, str]]:
    """Return what was found as (what, found) rows."""
    rows = [
        ("device", _attempt(_device)),
        ("torch", _attempt(_torch_build)),
        ("NVIDIA driver", "; ".join(driver_gpus()) or "none seen"),
        ("cores", f"{notebooks.available_cores()} usable of {os.cpu_count()}"),
        ("memory", _attempt(_memory)),
        ("Python", f"{platform.python_version()} on {platform.platform()}"),
        *((package, _version(package)) for package in PACKAGES if package != "torch"),
        ("digits", "bundled with scikit-learn"),
    ]
    return rows + [(name, _attempt(functools.partial(_data, name))) for name in DATA_SETS]


def _gpu_remedy() -> str:
    if "CPU only" not in _attempt(_torch_build):
        return "the driver may be older than the CUDA that torch is built for; update the driver."
    pinned = _version("torch").split("+")[0]
    return (
        "this torch is built for the CPU only. The ordinary package index holds the build for "
        "CUDA: see that no other index or folder of wheels is set for pip ('pip config list'), "
        f"then run: .venv/bin/python -m pip install --force-reinstall torch=={pinned}"
    )


def advice() -> list[str]:
    """Return one sentence for each thing that falls short and what to do about it."""
    advised = []
    if driver_gpus() and not _attempt(_device).startswith("GPU"):
        advised.append(f"The driver shows a GPU that torch cannot use: {_gpu_remedy()}")
    missing = [n for n in DATA_SETS if _attempt(functools.partial(_data, n)).startswith("not here")]
    if missing:
        advised.append(
            f"Not on this machine: {', '.join(missing)}. They are downloaded when first asked "
            "for; without a network, set MFLIB_DATA to a folder as torchvision keeps it. "
            "Everything in the quick profile runs without them."
        )
    return advised
