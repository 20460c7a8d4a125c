"""Which device to compute on."""

from __future__ import annotations

import torch


def resolve_device(device: torch.device | str = "auto") -> torch.device:
    """Return the device to compute on: "auto" is CUDA where there is one, else the CPU.

    Raises ValueError for any other name, and for "cuda" where there is none.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if str(device).split(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f'device {str(device)!r} must be "auto", "cpu" or "cuda"')
    chosen = torch.device(device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError('device "cuda" was asked for, but torch finds no GPU: use "cpu" or "auto"')
    return chosen
