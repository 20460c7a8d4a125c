"""Singular values of input-output Jacobians: sampled, measured on a network, held against theory.

J = ∂y^D/∂z⁰ = D^D W^D … D¹ W¹ with D^l = diag φ′(z^l) (paper eq. 11); λ are the eigenvalues of
J Jᵀ, the squared singular values.

Which one when: ``sample_spectrum`` for random fully connected networks of any depth at their fixed
point; ``singular_values`` for a given network and input, all of them or the largest;
``quadrature`` for the whole density where J is too large to write down; ``fit`` to hold samples
against ``mflib.theory.isometry``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, stack_module_state, vjp, vmap

from mflib.experiment import _checks, draws
from mflib.experiment._goodness import Fit, Law, fit
from mflib.experiment._graded import Product
from mflib.experiment.nonlinearities import MODULES, nonlinearity
from mflib.theory import mean_field

__all__ = [
    "Fit",
    "Law",
    "Quadrature",
    "SingularValues",
    "fit",
    "quadrature",
    "sample_spectrum",
    "singular_values",
]

METHODS = ("auto", "exact", "lanczos")

_BLOCK_BYTES = 64 * 2**20
_FORWARD_BYTES = 8 * 2**20
_REVERSE_BYTES = 2**20  # times the layers: reverse mode keeps all activations
_EXACT_ENTRIES = 2**22  # entries of all Jacobians together up to which "auto" writes them down
_EXACT_SIDE = 1024
_CONDITION = 1e5  # layers are multiplied out up to this condition: 11 digits of each σ remain
_RANGE = 200.0  # … and while their scale stays within e^±200


# --- random networks at the fixed point --------------------------------------------------------


def sample_spectrum(
    activation: str,
    *,
    width: int,
    depth: int,
    sigma_w2: float,
    n_networks: int,
    seed: int,
    q: float | None = None,
    sigma_b2: float | None = None,
    ensemble: str = "orthogonal",
    independent: bool = False,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Sample log λ of Jacobians of fully connected networks at the fixed point.

    Returns (n_networks, width), each row ascending, −inf where λ = 0. An input of random direction
    is scaled so that z¹ has variance q* and sent through W^l and b^l; D^l = diag φ′(z^l) follows
    from that pass, so D^l and W^l depend on one another as they do in a network.
    ``independent=True`` draws z^l ~ N(0, q*) afresh instead, as the theory assumes: the difference
    is O(1/width).

    Give q (> 0; then σ_b² = q − σ_w² E[φ²]) or ``sigma_b2`` (then q is the fixed point q*).
    ``ensemble``: "orthogonal" (σ_w × Haar) or "gaussian" (N(0, σ_w²/width)). The product is kept
    in graded form (``_graded``): each λ has a relative error of about 1e-10 at any depth, however
    small it is beside the largest; exact zeros (ReLU, hard-tanh) are counted, not computed: λ = 0
    for as many as the layer with the fewest active units lacks.

    Network k depends on seed, k and the sizes alone. Raises ValueError for values out of range.
    Source: Pennington, Schoenholz, Ganguli 2017, eq. 7 and §4.

    >>> sample_spectrum("relu", width=9, depth=5, sigma_w2=2, q=1, n_networks=4, seed=0).shape
    (4, 9)
    """
    for name, size, least in (
        ("width", width, 1),
        ("depth", depth, 1),
        ("n_networks", n_networks, 1),
    ):
        _checks.count(name, size, least)
    _checks.number("seed", seed, int)
    _checks.require(ensemble in draws.SCHEMES, "ensemble", ensemble, "gaussian or orthogonal")
    nonlinearity(activation)
    sigma_w2 = _checks.variance("sigma_w2", sigma_w2)
    _checks.require(
        sigma_w2 > 0, "sigma_w2", sigma_w2, "above 0: the Jacobian is 0 without weights"
    )
    q, sigma_b2 = _fixed_point(activation, sigma_w2, q, sigma_b2, independent)
    network = _Chain(activation, width, depth, sigma_w2, sigma_b2, q, ensemble, independent)
    block = max(1, _BLOCK_BYTES // (8 * 6 * width * width))
    parts = []
    for start in range(0, n_networks, block):
        names = range(start, min(n_networks, start + block))
        seeds = [draws.derive_seed(seed, "jacobian", k) for k in names]
        parts.append(2 * network.sample(draws.generators(seeds, device=device)).cpu().numpy())
    return np.concatenate(parts)


def _fixed_point(
    activation: str, sigma_w2: float, q: float | None, sigma_b2: float | None, independent: bool
) -> tuple[float, float]:
    """Return q* and σ_b² from the one of them that is given."""
    if (q is None) == (sigma_b2 is None):
        raise ValueError(
            f"q={q!r} and sigma_b2={sigma_b2!r}: give one of them, the other follows at the fixed "
            "point."
        )
    if q is not None:
        _checks.require(_checks.number("q", q, float) > 0, "q", q, "above 0")
        used = float(mean_field.length_map(activation, q, sigma_w2, 0.0))
        left = float(q) - used
        left = 0.0 if abs(left) <= 1e-12 * used else left
        if left < 0 and not independent:
            raise ValueError(
                f"q={q:g} is no fixed point at sigma_w2={sigma_w2:g}: sigma_b2 would be "
                f"{left:.3g}; give a larger q, a smaller sigma_w2, or independent=True."
            )
        return float(q), left
    sigma_b2 = _checks.variance("sigma_b2", sigma_b2)
    point = mean_field.fixed_point(activation, sigma_w2, sigma_b2)
    if not float(point.q) > 0:
        raise ValueError(
            f"{activation} at sigma_w2={sigma_w2:g}, sigma_b2={sigma_b2:g} has no q* > 0 "
            f"({point.reason or 'q* = 0'}): give q instead, or other variances."
        )
    return float(point.q), sigma_b2


@dataclasses.dataclass(frozen=True)
class _Chain:
    """The law of the networks whose Jacobians are sampled."""

    activation: str
    width: int
    depth: int
    sigma_w2: float
    sigma_b2: float
    q: float
    ensemble: str
    independent: bool

    def sample(self, members: Sequence[torch.Generator]) -> Tensor:
        """Return log σ (E, N) of one network per generator."""
        n, width, device = len(members), self.width, members[0].device
        phi = nonlinearity(self.activation)
        y = self._normal(members)
        y *= math.sqrt(max(0.0, self.q - self.sigma_b2) / self.sigma_w2 * width) / y.norm(
            dim=1, keepdim=True
        )
        product = Product(n, width, device)
        columns = torch.eye(width, dtype=torch.float64, device=device).expand(n, width, width)
        rank = torch.full((n,), width, device=device)
        log_condition = log_scale = 0.0
        for _ in range(self.depth):
            weights = self._weights(members)
            if self.independent:
                z = math.sqrt(self.q) * self._normal(members)
            else:
                z = torch.bmm(weights, y[:, :, None])[:, :, 0]
                z += math.sqrt(self.sigma_b2) * self._normal(members)
                y = phi(z)
            slope = phi.derivative(z).abs()
            least, most = (float(end) for end in slope.aminmax())
            condition, scale = self._growth(least, most)
            if log_condition + condition > math.log(_CONDITION) or log_scale + scale > _RANGE:
                columns = product.absorb(columns, rank)
                log_condition = log_scale = 0.0
            columns = slope[:, :, None] * torch.bmm(weights, columns)
            rank = torch.minimum(rank, slope.count_nonzero(1))
            log_condition += condition
            log_scale += scale
        product.absorb(columns, rank)
        return product.log_singular_values()

    def _growth(self, least: float, most: float) -> tuple[float, float]:
        """Bound log condition and |log scale| of one factor D W; ∞ where only rank is known."""
        if self.ensemble != "orthogonal" or least == 0:
            return math.inf, 0.0
        gain = math.log(most) + 0.5 * math.log(self.sigma_w2)
        return math.log(most) - math.log(least), abs(gain)

    def _normal(self, members: Sequence[torch.Generator]) -> Tensor:
        return draws.standard_normal((self.width,), members, dtype=torch.float64)

    def _weights(self, members: Sequence[torch.Generator]) -> Tensor:
        variance = torch.full((len(members),), self.sigma_w2, dtype=torch.float64)
        return draws.draw_weights(
            self.width,
            self.width,
            variance.to(members[0].device),
            members,
            scheme=self.ensemble,
            dtype=torch.float64,
        )


# --- the Jacobian of a given network ------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class SingularValues:
    """Singular values of the Jacobians of one or many networks, descending.

    ``values``: (..., k), float64, with (samples,) or (members, samples) in front; ``complete``
    says whether k is all of min(n_out, n_in). ``method`` is what was used, "exact" or "lanczos";
    ``residual`` (..., k) bounds the distance from each value to a singular value of J, up to the
    rounding of the network's own dtype (0 where J was written down). ``shape`` is (n_out, n_in).
    """

    values: np.ndarray
    residual: np.ndarray
    method: str
    shape: tuple[int, int]

    @property
    def complete(self) -> bool:
        """Whether these are all singular values."""
        return self.values.shape[-1] == min(self.shape)

    @property
    def log_lambda(self) -> np.ndarray:
        """Return log λ = 2 log σ, ascending, −inf where σ is 0; (..., k)."""
        with np.errstate(divide="ignore"):
            return 2 * np.log(self.values[..., ::-1])


def singular_values(
    network: Any,
    x: Tensor,
    *,
    method: str = "auto",
    k: int | None = None,
    hidden: bool = False,
    block: int = 2,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> SingularValues:
    """Return the singular values of ∂network(x)/∂x at each sample.

    ``network``: an ensemble with ``n_members`` and ``module(k)`` (all members at once), a list of
    modules of one architecture, a module, or a differentiable function; x: (n, *shape), the same
    for all members, as the network takes it; samples must not mix (batch normalisation in training
    mode does). ``hidden=True`` cuts a Sequential behind its last activation: y^D, not the logits.

    "exact" writes J down by forward or reverse mode and takes all singular values (the largest k if
    k is given), each to about 1e-16 of the largest. "lanczos" takes the largest k (default 6) from
    products with J and Jᵀ alone: block Golub-Kahan bidiagonalisation with full
    reorthogonalisation, until each residual is ``tolerance`` × the largest value; values err by
    about residual²/gap, so that 1e-5 gives eight digits and more. ``block`` ≥ 1 is how many copies
    of a repeated value are sure to be found (a linear convolution has pairs, one for each Fourier
    mode and its mirror; random nonlinear networks have none).
    "auto" is exact while all Jacobians have up to 4·10⁶ entries in sum and 1024 rows or columns,
    and Lanczos beyond. Computed in the network's own dtype: pass ``.double()`` for eight digits.

    Raises ValueError for bad arguments, for modules that mix samples or draw at random, and for
    outputs that are not finite. Source: Golub and Kahan 1965; Golub, Luk and Overton 1981.
    """
    _checks.require(method in METHODS, "method", method, f"one of {', '.join(METHODS)}")
    if k is not None:
        _checks.count("k", k, 1)
    _checks.require(_checks.number("tolerance", tolerance, float) > 0, "tolerance", tolerance,
                    "above 0")  # fmt: skip
    _checks.count("block", block, 1)
    _checks.number("seed", seed, int)
    operator = _Operator(network, x, hidden)
    least = min(operator.n_in, operator.n_out)
    if k is not None and k > least:
        raise ValueError(
            f"k={k} must be at most {least}: a Jacobian of {operator.shape} has no more"
        )
    if method == "auto":
        entries = operator.batch * operator.n_in * operator.n_out
        method = "exact" if entries <= _EXACT_ENTRIES and least <= _EXACT_SIDE else "lanczos"
    if method == "exact":
        values = torch.linalg.svdvals(operator.dense().double())[:, :k]
        residual = torch.zeros_like(values)
    else:
        values, residual = _largest(operator, min(least, k or 6), block, tolerance, seed)
    lead = tuple(operator.lead)
    values, residual = (a.double().cpu().reshape(*lead, -1) for a in (values, residual))
    return SingularValues(values.numpy(), residual.numpy(), method, operator.shape)


class _Operator:
    """J of every member and sample at once, (B, n_out, n_in), known through its products.

    Members and samples do not mix, so one pass multiplies all their Jacobians.
    """

    def __init__(self, network: Any, x: Tensor, hidden: bool = False) -> None:
        self._apply, self._push, self._x, n_lead = _as_map(network, x, hidden)
        with torch.no_grad():
            y = self._apply(self._x)
        self.lead = self._x.shape[:n_lead]
        if not isinstance(y, Tensor) or y.shape[:n_lead] != self.lead:
            raise ValueError(
                f"network maps x {tuple(self._x.shape)} to {tuple(getattr(y, 'shape', ()))}: it "
                "must return one tensor whose first dimension is still the samples."
            )
        if not torch.isfinite(y).all():
            raise ValueError("network gives values that are not finite at x: scale x or weights.")
        with torch.no_grad():
            alone = self._apply(self._x.narrow(n_lead - 1, 0, 1))
        first = y.narrow(n_lead - 1, 0, 1)
        if not torch.allclose(alone, first, rtol=1e-3, atol=1e-3 * float(y.abs().max())):
            raise ValueError(
                "network mixes samples: its output at the first x changes when the others are left "
                "out; give one sample at a time, or a network that treats samples apart."
            )
        self._y_shape = y.shape[n_lead:]
        self._pull: tuple[int, Callable[..., Any]] | None = None
        self.batch = math.prod(self.lead)
        self.n_in, self.n_out = (math.prod(a.shape[n_lead:]) for a in (self._x, y))
        self.like = self._x.new_empty(0)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_out, n_in)."""
        return self.n_out, self.n_in

    def forward(self, v: Tensor) -> Tensor:
        """Return J v; (p, B, n_in) -> (p, B, n_out)."""
        out = self._push(v.reshape(-1, *self._x.shape))
        return out.detach().reshape(-1, self.batch, self.n_out)

    def backward(self, u: Tensor) -> Tensor:
        """Return Jᵀ u; (p, B, n_out) -> (p, B, n_in)."""
        p = len(u)
        if self._pull is None or self._pull[0] != p:
            # vectors become samples, p to each: the graph of one forward pass serves all products
            # with as many vectors, and no member's weights are copied
            repeated = self._x.repeat_interleave(p, dim=len(self.lead) - 1)
            self._pull = p, vjp(self._apply, repeated)[1]
        rows = u.transpose(0, 1).reshape(*self.lead[:-1], -1, *self._y_shape)
        out = self._pull[1](rows)[0].detach()
        return out.reshape(self.batch, p, self.n_in).transpose(0, 1)

    def dense(self) -> Tensor:
        """Return J (B, n_out, n_in), or its transpose, from unit vectors on the shorter side."""
        # reverse mode keeps every layer's activations, forward mode none
        reverse = 4 * self.n_out < self.n_in
        product, side = (self.backward, self.n_out) if reverse else (self.forward, self.n_in)
        longest = self.batch * max(self.n_in, self.n_out) * self.like.element_size()
        step = max(1, (_REVERSE_BYTES if reverse else _FORWARD_BYTES) // longest)
        rows = []
        for start in range(0, side, step):
            units = torch.eye(side, dtype=self.like.dtype, device=self.like.device)
            units = units[start : start + step]
            rows.append(product(units[:, None, :].expand(-1, self.batch, -1)))
        return torch.cat(rows).permute(1, 0, 2)

    def sides(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], int]:
        """Return A, Aᵀ and A's number of columns, where A is J or Jᵀ with the fewer columns."""
        if self.n_in <= self.n_out:
            return self.forward, self.backward, self.n_in
        return self.backward, self.forward, self.n_out


def _as_map(
    network: Any, x: Tensor, hidden: bool
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Tensor, int]:
    """Return a function, its tangent map at x, x itself and its number of batch dimensions."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() < 2 or not x.numel():
        what = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x must be a real tensor (samples, *shape) with samples, not {what}.")
    if hasattr(network, "module") and hasattr(network, "n_members"):
        network = [network.module(k) for k in range(network.n_members)]
    if isinstance(network, list | tuple | nn.ModuleList):
        modules = [_prepared(module, hidden) for module in network]
        if not modules:
            raise ValueError("network is an empty list: give at least one module.")
        parameters, buffers = stack_module_state(modules)
        parameters = {name: value.detach() for name, value in parameters.items()}

        def one(state: Any, rows: Tensor) -> Any:
            return functional_call(modules[0], state, (rows,))

        def push_one(state: Any, rows: Tensor, vectors: Tensor) -> Any:
            return _push(lambda x: one(state, x), rows, vectors)

        state = parameters, buffers
        x = _like(modules[0], x).expand(len(modules), *x.shape).contiguous()
        # vectors inside, members outside: the other way round copies the weights for each vector
        push = vmap(push_one, in_dims=(0, 0, 1), out_dims=1)
        return lambda rows: vmap(one)(state, rows), lambda v: push(state, x, v), x, 2
    if isinstance(network, nn.Module):
        module = _prepared(network, hidden)
        frozen = {name: value.detach() for name, value in module.named_parameters()}

        def network(rows: Tensor) -> Any:
            return functional_call(module, frozen, (rows,))

        x = _like(module, x)
    elif not callable(network) or hidden:
        what = "a function has no layers to cut" if callable(network) else "it cannot be called"
        raise ValueError(f"network {network!r} must be an ensemble, modules or a function: {what}.")
    x = x.detach()
    return network, lambda v: _push(network, x, v), x, 1


def _push(function: Callable[[Tensor], Any], x: Tensor, vectors: Tensor) -> Any:
    """Return the derivative of a function at x along each of the vectors (p, *x.shape)."""
    return vmap(lambda vector: jvp(function, (x,), (vector,))[1])(vectors)


def _like(module: nn.Module, x: Tensor) -> Tensor:
    first = next(module.parameters(), x)
    return x.detach().to(first)


def _prepared(module: Any, hidden: bool) -> nn.Module:
    """Return a module whose samples do not mix, cut behind its last activation if ``hidden``."""
    if not isinstance(module, nn.Module):
        raise ValueError(f"network holds a {type(module).__name__}: give torch.nn modules.")
    for name, part in module.named_modules():
        mixes = isinstance(part, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd)
        if mixes and part.training:
            raise ValueError(
                f"layer {name!r} ({type(part).__name__}) mixes samples or draws at random while "
                "training: call eval() on the network first."
            )
    if not hidden:
        return module
    if isinstance(module, nn.Sequential):
        for k in reversed(range(len(module))):
            if isinstance(module[k], _ACTIVATIONS):
                return module[: k + 1]
    raise ValueError("hidden=True needs a Sequential with an activation from this package.")


_ACTIVATIONS = tuple({type(build()) for build in MODULES.values()})


# --- the largest values: block Golub-Kahan --------------------------------------------------------


def _random(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return drawn.to(like)


def _orthonormal(block: Tensor, basis: Tensor, generator: torch.Generator) -> Tensor:
    """Return an orthonormal basis (B, n, b) of block's span outside ``basis`` (B, n, j).

    Directions that vanish there are replaced by random ones: the Krylov space has then closed,
    and what it has not seen, such as further copies of a repeated value, is still to be found.
    """
    epsilon = torch.finfo(block.dtype).eps
    norms = block.norm(dim=1, keepdim=True)
    reference = norms.amax(2, keepdim=True).clamp(min=torch.finfo(block.dtype).tiny)
    block = torch.where(norms > 0, block / reference, 0)
    for _ in range(3):
        for _ in range(2):
            block = block - basis @ (basis.mT @ block)
        q, r = torch.linalg.qr(block)
        lost = (r.diagonal(dim1=1, dim2=2).abs() < 100 * epsilon * block.shape[1] ** 0.5)[:, None]
        if not lost.any():
            break
        block = torch.where(lost, _random(q.shape, generator, q), q)
    # rounding along basis grows as a direction shrinks: project what has norm 1
    return torch.linalg.qr(q - basis @ (basis.mT @ q)).Q


def _largest(
    operator: _Operator, k: int, block_size: int, tolerance: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the k largest singular values and their residuals, each (B, k)."""
    forward, backward, n = operator.sides()
    generator = torch.Generator().manual_seed(draws.derive_seed(seed, "lanczos"))
    basis = operator.like.new_empty(operator.batch, n, 0)
    images, normal = [], []  # A V and AᵀA V, block by block
    block = _random((operator.batch, n, min(block_size, n)), generator, operator.like)
    next_check = max(4, math.ceil(2 * k / block_size))
    while True:
        block = _orthonormal(block, basis, generator)
        basis = torch.cat([basis, block], dim=2)
        image = forward(block.permute(2, 0, 1))
        block = backward(image).permute(1, 2, 0)
        images.append(image.permute(1, 2, 0))
        normal.append(block)
        full = basis.shape[2] == n
        if full or (len(images) >= next_check and basis.shape[2] >= k):
            _, values, right = torch.linalg.svd(torch.cat(images, 2), full_matrices=False)
            values, right = values[:, :k], right.mT[:, :, :k]
            gap = torch.cat(normal, 2) @ right - (basis @ right) * values[:, None].square()
            # |AᵀA v − σ²v| bounds the error of σ², which is at least σ times the error of σ
            residual = gap.norm(dim=1) / values.clamp(min=torch.finfo(values.dtype).tiny)
            residual = torch.minimum(residual, gap.norm(dim=1).sqrt())
            if full or bool((residual <= tolerance * values[:, :1]).all()):
                return values, residual
            next_check = math.ceil(1.25 * len(images))
        block = block[:, :, : n - basis.shape[2]]


# --- the whole density: stochastic Lanczos quadrature ---------------------------------------------


@dataclasses.dataclass(frozen=True)
class Quadrature:
    """Gauss rules of random vectors for the density of λ: what stands for a spectrum.

    ``log_lambda``, ``weight``: (..., probes, steps), −inf where λ = 0; the weights of each probe
    sum to 1. ``shape`` is J's; λ are the min(n_out, n_in) squared singular values. Each probe's
    rule integrates polynomials in λ of degree below 2 steps exactly for its own vector, so a mean
    over probes errs by sampling alone there: errors are standard errors over probes.
    """

    log_lambda: np.ndarray
    weight: np.ndarray
    shape: tuple[int, int]

    def moment(self, order: int) -> tuple[np.ndarray, np.ndarray]:
        """Return m_k = tr (J Jᵀ)^k / min(n_out, n_in) and its standard error, each (...)."""
        _checks.count("order", order, 0)
        return self._over_probes(np.sum(self.weight * np.exp(self.log_lambda) ** order, axis=-1))

    def cdf(self, log_lambda: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the share of λ up to exp(log_lambda) (m,) and its standard error, (..., m).

        Each probe's rule steps at its nodes: between them the share is known to one weight.
        """
        at = np.atleast_1d(np.asarray(log_lambda, dtype=np.float64))
        below = self.log_lambda[..., None] <= at
        return self._over_probes(np.sum(self.weight[..., None] * below, axis=-2), axis=-2)

    def _over_probes(self, rows: np.ndarray, axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
        n = rows.shape[axis]
        return rows.mean(axis), rows.std(axis, ddof=1) / math.sqrt(n)


def quadrature(
    network: Any,
    x: Tensor,
    *,
    probes: int = 8,
    steps: int = 40,
    hidden: bool = False,
    seed: int = 0,
) -> Quadrature:
    """Estimate the density of the Jacobian's λ at each sample from products with J and Jᵀ alone.

    Golub-Kahan bidiagonalisation with full reorthogonalisation from ``probes`` ≥ 2 random unit
    vectors, ``steps`` ≥ 1 products each: J costs nothing to store, and time is linear in
    probes × steps × members × samples. Arguments otherwise as in ``singular_values``. Source:
    Golub and Meurant 1994; Ubaru, Chen and Saad 2017.
    """
    _checks.count("probes", probes, 2)
    _checks.count("steps", steps, 1)
    _checks.number("seed", seed, int)
    operator = _Operator(network, x, hidden)
    n = min(operator.shape)
    generator = torch.Generator().manual_seed(draws.derive_seed(seed, "quadrature"))
    start = _random((probes, operator.batch, n), generator, operator.like)
    diagonal, upper = _bidiagonal(operator, start, min(steps, n))
    size = diagonal.shape[-1]
    matrix = torch.diag_embed(diagonal.double()) + torch.diag_embed(upper.double(), offset=1)
    _, sigma, right = torch.linalg.svd(matrix)
    shape = (probes, *operator.lead, size)
    nodes, weight = (
        np.moveaxis(a.cpu().reshape(shape).numpy(), 0, -2) for a in (sigma, right[..., 0].square())
    )
    with np.errstate(divide="ignore"):
        return Quadrature(2 * np.log(nodes), weight, operator.shape)


def _bidiagonal(operator: _Operator, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return the diagonal (…, steps) and upper diagonal (…, steps − 1) of Uᵀ A V, V e_1 ∝ start.

    Where the Krylov space closes early the rest is 0, which its rule gives no weight.
    """
    forward, backward, _ = operator.sides()
    epsilon = torch.finfo(start.dtype).eps
    v, _ = _unit(start, torch.zeros_like(start[..., :1]))
    left: list[Tensor] = []
    right = [v]
    diagonal: list[Tensor] = []
    upper: list[Tensor] = []
    floor = torch.zeros_like(start[..., :1])
    for step in range(steps):
        u, alpha = _unit(_outside(forward(right[-1]), left), floor)
        floor = torch.maximum(floor, 100 * epsilon * alpha)
        diagonal.append(alpha)
        left.append(u)
        if step + 1 < steps:
            v, beta = _unit(_outside(backward(u), right), floor)
            upper.append(beta)
            right.append(v)
    empty = start.new_empty(*start.shape[:-1], 0)
    return torch.cat([empty, *diagonal], -1), torch.cat([empty, *upper], -1)


def _outside(vector: Tensor, basis: list[Tensor]) -> Tensor:
    """Return the part of a vector (…, n) orthogonal to the basis, projected twice."""
    if not basis:
        return vector
    known = torch.stack(basis, dim=-2)
    for _ in range(2):
        along = (known @ vector[..., None])[..., 0]
        vector = vector - (along[..., None, :] @ known)[..., 0, :]
    return vector


def _unit(vector: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Return a vector of norm 1 and its norm before; 0 and 0 where it is at most ``floor``."""
    norm = vector.norm(dim=-1, keepdim=True)
    kept = norm > floor
    return torch.where(kept, vector / norm, 0.0), torch.where(kept, norm, 0.0)
