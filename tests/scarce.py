"""A memory that runs out, for tests of what is done then."""

from __future__ import annotations

import math
import weakref

import torch


class Memory:
    """What ``torch.empty`` has to give: tensors that are still held count against ``limit``."""

    def __init__(self, limit: float = math.inf) -> None:
        self.limit, self.held, self.most, self.refused = limit, 0, 0, 0
        self.empty = torch.empty

    def __call__(self, *shape, **options):
        tensor = self.empty(*shape, **options)
        size = tensor.numel() * tensor.element_size()
        if self.held + size > self.limit:
            self.refused += 1
            raise torch.OutOfMemoryError(f"{size} bytes wanted, {self.limit - self.held} free")
        self.held += size
        self.most = max(self.most, self.held)
        weakref.finalize(tensor, self.free, size)
        return tensor

    def free(self, size: int) -> None:
        self.held -= size
