"""Singular values of long matrix products, each to its own relative accuracy.

A product of many random matrices has singular values that spread over more orders of magnitude
than float64 holds, and even within range a plain product loses every value below 1e-16 of the
largest. Here it is kept as Q diag(e^s) T with orthonormal Q, logarithms s and a well-conditioned T,
the form in which quantum Monte Carlo keeps its chains of propagators (Loh et al. 1992).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.linalg import lapack
from torch import Tensor

PLAIN_RATIO = 1e-4
"""Smallest over largest singular value down to which a plain SVD keeps 11 digits of each."""

_WINDOW = 200.0  # nats in one window; its margins on both sides then fit float64's range of ±700
_MARGIN = 60.0  # singular values e⁶⁰ apart do not feel each other in float64


class Product:
    """A batch of products A_l … A_1 of (E, N, N) matrices, multiplied from the left."""

    def __init__(self, members: int, size: int, device: torch.device | str = "cpu") -> None:
        eye = torch.eye(size, dtype=torch.float64, device=device)
        self.s = torch.zeros_like(eye[:1].expand(members, -1))
        self.t = eye.expand(members, size, size)

    def absorb(self, columns: Tensor, rank: Tensor) -> Tensor:
        """Take ``columns`` = (new factors) Q, (E, N, N), and return the new Q.

        ``rank`` (E,) is the product's rank: rounding cannot tell an exact 0 from a small value.
        """
        q, self.s, factor, order = _step(columns, self.s, rank)
        self.t = factor @ self.t.gather(1, order[:, :, None].expand(-1, -1, self.t.shape[2]))
        return q

    def log_singular_values(self) -> Tensor:
        """Return log σ, (E, N), ascending, −inf for each dimension that the rank lacks.

        Relative errors of σ are about ε × layers × the condition of one absorbed factor with its
        rows and columns scaled to norm 1, at every size of σ.
        """
        live = self.s > -math.inf
        top = self.s.max(1, keepdim=True).values.clamp(min=-1e300)
        scaled = (self.s - top).exp()[:, :, None] * self.t
        values = torch.linalg.svdvals(scaled)  # descending
        rank = live.sum(1, keepdim=True)
        kept = torch.arange(live.shape[1], device=live.device) < rank
        least = torch.where(kept, values, math.inf).min(1).values
        logs = torch.where(kept, values.log() + top, -math.inf)
        graded = least < PLAIN_RATIO * values[:, 0]
        for k in torch.nonzero(graded).flatten().tolist():
            n = int(rank[k])
            exact = _graded_logs(self.s[k, live[k]], self.t[k, live[k]])
            logs[k, :n] = torch.as_tensor(exact, dtype=logs.dtype, device=logs.device)
        return logs.flip(1)


def _step(columns: Tensor, s: Tensor, rank: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Factor columns · diag(e^s) as Q diag(e^s′) t′ P with column norms sorted beforehand.

    Returns Q, s′, the triangular t′ and the order that is P: (P x)_i = x_order[i].
    Rows are sorted too: Householder's QR then keeps small rows to their own accuracy (Cox and
    Higham 1998), which a saturated activation's slopes need.
    """
    order = (columns.norm(dim=1).log() + s).argsort(dim=1, descending=True)
    s = s.gather(1, order)
    columns = columns.gather(2, order[:, None, :].expand_as(columns))
    rows = columns.abs().amax(2).argsort(dim=1, descending=True)[:, :, None].expand_as(columns)
    q, r = torch.linalg.qr(columns.gather(1, rows))
    q = torch.empty_like(q).scatter_(1, rows, q)
    live = torch.arange(s.shape[1], device=s.device) < rank[:, None]
    new = torch.where(live, s + r.diagonal(dim1=1, dim2=2).abs().log(), -math.inf)
    inside = (live[:, :, None] & (s > -math.inf)[:, None, :]).triu()
    gap = torch.where(inside, s[:, None, :] - new[:, :, None], -math.inf)
    return q, new, torch.where(inside, r * gap.exp(), 0.0), order


def _graded_logs(s: Tensor, t: Tensor) -> np.ndarray:
    """Return log σ of diag(e^s) t, descending, by one-sided Jacobi rotations; t (r, N)."""
    # two steps of the QR iteration make t square and triangular, and leave next to nothing between
    # values that lie far apart
    full = torch.tensor([s.numel()], device=s.device)
    for _ in range(2):
        _, new, factor, _ = _step(t.mT[None], s[None], full)
        s, t = new[0], factor[0]
    order = s.argsort(descending=True)
    logs, matrix = s[order].cpu().numpy(), t[order][:, order].cpu().numpy()
    out = np.empty_like(logs)
    start = 0
    while start < logs.size:
        stop = int(np.searchsorted(-logs, -(logs[start] - _WINDOW), side="right"))
        first = int(np.searchsorted(-logs, -(logs[start] + _MARGIN)))
        last = int(np.searchsorted(-logs, -(logs[stop - 1] - _MARGIN), side="right"))
        values = _jacobi_logs(logs[first:last], matrix[first:last, first:last])
        out[start:stop] = values[start - first : stop - first]
        start = stop
    return np.sort(out)[::-1].copy()


def _jacobi_logs(s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return log σ of diag(e^s) t, descending: LAPACK's preconditioned Jacobi on tᵀ diag(e^s)."""
    top = s.max()
    columns = np.asfortranarray(t.T * np.exp(s - top))
    # joba 0: accurate for a well-conditioned matrix with scaled columns; jobr 0: keep tiny values
    values, _, _, work, _, info = lapack.dgejsv(
        columns, joba=0, jobu=3, jobv=3, jobr=0, jobt=1, overwrite_a=1
    )
    if info != 0:
        raise ArithmeticError(f"Jacobi rotations did not converge for a matrix {columns.shape}")
    return np.sort(np.log(values) + (math.log(work[0]) - math.log(work[1])) + top)[::-1]
