"""Initialisation of plain ``torch.nn`` modules by the papers' schemes, in place.

Every function checks the whole module before it changes anything, draws in float64 from the
generator it is given, and returns a report of what it set. Layers are Linear, Conv1d, Conv2d and
Conv3d; any other module with parameters (normalisation, attention, recurrent) is left alone and
reported.

Which one when: ``gaussian_`` is the mean-field ensemble; ``orthogonal_`` gives fully connected
networks dynamical isometry; ``delta_orthogonal_`` gives it to convolutional ones, and lets every
Fourier mode of the signal through; ``critical_`` chooses the variances too. ``stable_`` draws
heavy tails, whose critical regime is extended.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mflib.experiment import _checks, draws
from mflib.theory import activations, isometry, mean_field

Variances = float | Mapping[str, float] | Callable[[str], float | None]

_Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
KEEPS = ("norm", "variance")
SCHEMES = ("gaussian", "orthogonal")
LEFT_ALONE = "left alone"
_EULER = 0.5772156649015329
VARIANCE = 0.25
"""Relative variance of λ that ``critical_`` aims at: a standard deviation of half the mean."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """What was done to one module.

    ``scheme`` is "gaussian", "orthogonal", "delta-orthogonal", "stable" or "left alone".
    ``sigma_w2`` and ``sigma_b2`` are what was asked for; ``measured_w2`` is N_in times the mean
    square of the weights that now stand in the layer, N_in = input channels per group × kernel
    taps.

    With "stable" they are D_w and D_b, and ``measured_w2`` is D_w from the mean logarithm of the
    weights' moduli, since below the stability index ``alpha`` = 2 no mean square settles:
    E log|W| = log s + γ (1/α − 1) for W ~ S_α(s), so D_w = 2 N_in exp(α E log|W| − γ (1 − α)),
    with relative standard error √(π²/6 (1 + α²/2)/n) for n weights.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    scheme: str
    sigma_w2: float = math.nan
    sigma_b2: float = math.nan
    measured_w2: float = math.nan
    note: str = ""
    alpha: float = math.nan


@dataclasses.dataclass(frozen=True)
class Report:
    """What an initialiser did, one entry per module with parameters of its own; print it."""

    layers: tuple[Layer, ...]

    def __getitem__(self, name: str) -> Layer:
        return next(layer for layer in self.layers if layer.name == name)

    def __str__(self) -> str:
        return "\n".join(_line(layer) for layer in self.layers)


@dataclasses.dataclass(frozen=True)
class Critical(Report):
    """What ``critical_`` chose, and the layers it set.

    ``q_star`` is the pre-activations' variance at the fixed point; ``input_square`` is the mean
    square of an input's entries that puts the first layer there. ``relative_variance`` is that of
    the squared singular values λ of the Jacobian of ``depth`` layers, m₂/m₁² − 1, in the limit of
    many channels; their mean is 1.
    """

    activation: str
    scheme: str
    depth: int
    sigma_w2: float
    sigma_b2: float
    q_star: float
    relative_variance: float
    input_square: float
    note: str = ""

    def __str__(self) -> str:
        head = (
            f"{self.activation}, {self.scheme}, {self.depth} hidden layers: "
            f"sigma_w2 = {self.sigma_w2:.8g}, sigma_b2 = {self.sigma_b2:.4g}, "
            f"q* = {self.q_star:.4g} (inputs of mean square {self.input_square:.4g}), "
            f"relative variance of the Jacobian's spectrum {self.relative_variance:.3g}"
        )
        return "\n".join([head + (f"; {self.note}" if self.note else ""), super().__str__()])


def _line(layer: Layer) -> str:
    words = f"{layer.name or '(the module)'}: {layer.kind} {layer.shape} {layer.scheme}"
    if layer.scheme == "stable":
        words += (
            f", alpha = {layer.alpha:.6g}, D_w = {layer.sigma_w2:.6g} "
            f"(measured {layer.measured_w2:.6g}), D_b = {layer.sigma_b2:.6g}"
        )
    elif layer.scheme != LEFT_ALONE:
        words += (
            f", sigma_w2 = {layer.sigma_w2:.6g} (measured {layer.measured_w2:.6g}), "
            f"sigma_b2 = {layer.sigma_b2:.6g}"
        )
    return words + (f"; {layer.note}" if layer.note else "")


# --- the initialisers -----------------------------------------------------------------------


def gaussian_(
    module: nn.Module,
    *,
    sigma_w2: Variances,
    sigma_b2: Variances,
    generator: torch.Generator,
) -> Report:
    """Fill every layer with independent Gaussian weights and biases.

    W ~ N(0, σ_w²/N_in), N_in = input channels per group × kernel taps; b ~ N(0, σ_b²).

    ``sigma_w2``, ``sigma_b2`` ≥ 0: one number for all layers, or a mapping or function of the
    layer's name in ``module.named_modules()``. A layer that the mapping does not name, or for
    which the function returns None, is left alone. Raises ValueError, before anything is changed,
    for a negative variance, an unknown name, a lazy, parametrised, shared or non-real weight.

    Source: paper §3.1, eq. 2; for kernels Xiao et al. 2018, eq. 2.1.

    >>> layer = torch.nn.Linear(3, 2)
    >>> gaussian_(layer, sigma_w2=1, sigma_b2=0, generator=torch.Generator()).layers[0].scheme
    'gaussian'
    """
    given = {"sigma_w2": sigma_w2, "sigma_b2": sigma_b2}
    return _initialise(module, given, generator, lambda *_: _GAUSSIAN)


def stable_(
    module: nn.Module,
    *,
    alpha: Variances,
    D_w: Variances,
    D_b: Variances,
    generator: torch.Generator,
) -> Report:
    """Fill every layer with independent heavy-tailed weights and biases.

    W ~ S_α((D_w/2N_in)^{1/α}), b ~ S_α((D_b/2)^{1/α}), where S_α(s) has the characteristic
    function exp(−|su|^α) and N_in = input channels per group × kernel taps. At α = 2 this is
    ``gaussian_`` with σ_w² = D_w, σ_b² = D_b; below it no variance exists.

    ``alpha`` in (0.5, 2], ``D_w``, ``D_b`` ≥ 0: one number for all layers, or a mapping or
    function of the layer's name, as for ``gaussian_``; a layer that ``D_w`` does not name is left
    alone. Raises ValueError as ``gaussian_`` does, and for an α out of range or not given.

    Source: Qu, Wardak and Gong 2022, §B, before eq. 3.

    >>> layer = torch.nn.Linear(3, 2)
    >>> stable_(layer, alpha=1.5, D_w=1, D_b=0, generator=torch.Generator()).layers[0].alpha
    1.5
    """
    given = {"D_w": D_w, "D_b": D_b, "alpha": alpha}
    return _initialise(module, given, generator, lambda _, index: _stable_scheme(index))


def orthogonal_(
    module: nn.Module,
    *,
    sigma_w2: Variances,
    sigma_b2: Variances,
    generator: torch.Generator,
) -> Report:
    """Fill every layer with orthogonal weights of entry variance σ_w²/N_in.

    A Linear layer gets σ_w √(max(N_in, N_out)/N_in) × a Haar semi-orthogonal matrix, wide to
    narrow or narrow to wide. A convolution gets a kernel that makes the convolution itself an
    orthogonal operator on a ring or torus, and not merely an orthogonal matrix of the reshaped
    kernel, whose operator has singular values from 0 to the square root of the number of taps:

    K(z) = σ_w √(max/in) H Π_axes Π_{j<k} [P + (1 − P) z],

    H Haar semi-orthogonal, P Haar projectors of half the channels. Tap β then has the share
    v_β = binomial(k − 1, β)/2^{k−1} of the variance along each axis (the weight on the edge of the
    kernel that delta-orthogonal kernels avoid). Groups are drawn block by block; an operator with a
    stride keeps only every s-th output, and zero padding loses what leaves the edge: the report
    says so.

    Arguments and errors as in ``gaussian_``. Source: Xiao et al. 2018, §3 and algorithms 1-2.
    """
    given = {"sigma_w2": sigma_w2, "sigma_b2": sigma_b2}
    return _initialise(module, given, generator, lambda *_: _ORTHOGONAL)


def delta_orthogonal_(
    module: nn.Module,
    *,
    sigma_w2: Variances,
    sigma_b2: Variances,
    generator: torch.Generator,
    keep: str = "norm",
) -> Report:
    """Fill every convolution with a delta-orthogonal kernel, every Linear as ``orthogonal_`` does.

    K(β) = σ_w H δ_{β,centre} with HᵀH = 1: the convolution multiplies every norm by σ_w and all
    its singular values equal σ_w. Groups get a matrix H each.

    ``keep="norm"`` is that scheme; where a group has more outputs than inputs the variance per
    channel falls by in/out. ``keep="variance"`` multiplies such a kernel by √(out/in), so that
    σ_w² is the mean-field one (entry variance σ_w²/C_in) and norms grow.

    Raises ValueError, before anything is changed, as ``gaussian_`` does, and for an even kernel
    (no centre), fewer outputs than inputs per group (norms cannot be kept), and a transposed
    convolution. Dilation moves only taps that are 0; what stride and padding do, the report says.
    Source: Xiao et al. 2018, §3.4, algorithm 1.
    """
    _checks.require(keep in KEEPS, "keep", keep, f"one of {', '.join(KEEPS)}")
    transposed = [name for name, m in _owners(module) if isinstance(m, _Transposed)]
    if transposed:
        raise ValueError(
            f"layer {transposed[0]!r} is a transposed convolution, which has no delta-orthogonal "
            "kernel that keeps norms at every stride: initialise the parts around it apart."
        )
    delta = dataclasses.replace(
        _DELTA, draw=lambda layer, generator: _delta_kernel(layer, keep, generator)
    )

    def rule(layer: _Layer, _: float) -> _Scheme:
        return _ORTHOGONAL if isinstance(layer, nn.Linear) else delta

    given = {"sigma_w2": sigma_w2, "sigma_b2": sigma_b2}
    return _initialise(module, given, generator, rule)


def critical_(
    module: nn.Module,
    activation: str | activations.Activation,
    *,
    generator: torch.Generator,
    scheme: str = "orthogonal",
    depth: int | None = None,
    variance: float | None = None,
    q_star: float | None = None,
) -> Critical:
    """Put a module on the critical line χ₁ = 1, at the point that suits its depth, and fill it.

    Orthogonal weights: m₂/m₁² − 1 = depth (μ₂/μ₁² − 1) falls from its largest value to 0 with
    q*, so a stated ``variance`` (> 0, default 0.25) of the Jacobian's squared singular values
    fixes q*, and with it σ_w² = 1/μ₁ and σ_b² = q* − σ_w² E[φ²]; or give ``q_star`` itself.
    Gaussian weights have a relative variance of at least ``depth`` everywhere: they get the point
    that orthogonal ones would, and the report states their own.

    ``depth``: number of hidden layers; by default all Linear and Conv layers but the last, the
    readout. ``scheme``: "orthogonal" (``delta_orthogonal_`` with ``keep="variance"``) or
    "gaussian". Where φ(ax) = aφ(x), as for ReLU, the critical point is one, at any q*.

    Raises ValueError where there is no such point, as for the logistic sigmoid, whose critical
    line has σ_w² ≈ 103 and more and whose relative variance is 3.45 per layer at least; and
    whenever the initialiser itself does. Source: Pennington, Schoenholz, Ganguli 2017, §4; 2018.
    """
    _checks.require(scheme in SCHEMES, "scheme", scheme, f"one of {', '.join(SCHEMES)}")
    if variance is not None and q_star is not None:
        raise ValueError("variance and q_star both fix the critical point: give one of them.")
    layers = [name for name, owner in _owners(module) if isinstance(owner, _Layer)]
    if depth is None and len(layers) < 2:
        raise ValueError(
            f"module has {len(layers)} Linear or Conv layers, so no hidden one before its readout: "
            "state depth if it is part of a deeper network."
        )
    depth = _checks.count("depth", len(layers) - 1 if depth is None else depth, 1)
    act = activations.get(activation)
    point = _critical_point(act, depth, variance, q_star)
    # q* is a variance per unit, so a first layer that widens must keep that, not the norm
    fill = gaussian_ if scheme == "gaussian" else partial(delta_orthogonal_, keep="variance")
    report = fill(module, sigma_w2=point.sigma_w2, sigma_b2=point.sigma_b2, generator=generator)
    return Critical(
        layers=report.layers,
        activation=act.name,
        scheme=scheme,
        depth=depth,
        sigma_w2=point.sigma_w2,
        sigma_b2=point.sigma_b2,
        q_star=point.q,
        relative_variance=point.orthogonal_variance + (depth if scheme == "gaussian" else 0),
        input_square=(point.q - point.sigma_b2) / point.sigma_w2,
        note=point.note,
    )


@dataclasses.dataclass(frozen=True)
class _Point:
    q: float
    sigma_w2: float
    sigma_b2: float
    orthogonal_variance: float
    note: str = ""


def _critical_point(
    act: activations.Activation, depth: int, variance: float | None, q_star: float | None
) -> _Point:
    """Return the point of χ₁ = 1 at q* or where orthogonal weights have the relative variance."""
    for name, value in (("variance", variance), ("q_star", q_star)):
        if value is not None:
            _checks.require(_checks.number(name, value, float) > 0, name, value, "above 0")
    if act.homogeneous:
        q = 1.0 if q_star is None else float(q_star)
        spread = float(isometry.relative_variance(act, q, depth))
        if variance is not None and spread:
            raise ValueError(
                f"variance={variance:g} cannot be chosen for {act.name}: its Jacobian has relative "
                f"variance {spread:g} at every q*; leave variance out, or use tanh or erf."
            )
        note = "every q* is a fixed point, and the spectrum is the same at each"
        return _Point(q, float(1 / mean_field.chi_1(act, 1.0, 1.0)), 0.0, spread, note)
    if q_star is None:
        target = VARIANCE if variance is None else variance
        try:
            point = isometry.critical_point(act, depth, variance=target)
        except ValueError:
            _explain_floor(act, depth, target)
            raise
        return _Point(point.q, point.sigma_w2, point.sigma_b2, point.relative_variance)
    q = float(q_star)
    at = mean_field.critical_at(act, q)
    if at.reason:
        raise ValueError(
            f"{act.name} at q_star={q:g}: {at.reason}; give a q_star that the critical line "
            "reaches, or use tanh or erf."
        )
    spread = float(isometry.relative_variance(act, q, depth))
    return _Point(q, float(at.sigma_w2), float(at.sigma_b2), spread)


def _explain_floor(act: activations.Activation, depth: int, variance: float) -> None:
    """Raise ValueError where the whole critical line lies above the variance."""
    least = isometry.least_slope_ratio(act)
    floor = depth * (least.ratio - 1)
    if floor > variance:
        raise ValueError(
            f"{act.name} has no isometry: on its whole critical line mu_2/mu_1^2 is at least "
            f"{least.ratio:.3f} (there sigma_w2 = {least.sigma_w2:.4g}, q* = {least.q:.4g}), so at "
            f"depth {depth} the relative variance is {floor:.3g} or more, not {variance:g}: use "
            "tanh or erf, or give q_star."
        ) from None


# --- the module tree ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Scheme:
    """A scheme: why it refuses a layer ("" if it does not), its draw at σ_w² = 1, what to note.

    ``bias(n, generator)`` draws at σ_b² = 1, and ``alpha`` is the power that turns a scale into
    what it is asked by: 2, a variance, or the stability index.
    """

    name: str
    refusal: Callable[[_Layer], str]
    draw: Callable[[_Layer, torch.Generator], Tensor]
    note: Callable[[_Layer], str]
    bias: Callable[[int, torch.Generator], Tensor]
    alpha: float = 2.0


def _owners(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that have parameters of their own, each once, with their names."""
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"module must be a torch.nn.Module, not {type(module).__name__}: give a module, or "
            "one member of an ensemble as a module."
        )
    for name, owner in module.named_modules():
        if (
            isinstance(owner, _Layer | _Transposed)
            or next(owner.parameters(False), None) is not None
        ):
            yield name, owner


def _initialise(
    module: nn.Module,
    given: dict[str, Variances],
    generator: torch.Generator,
    rule: Callable[[_Layer, float], _Scheme],
) -> Report:
    """Plan, check and draw everything, then write: an error leaves the module as it was.

    ``given``: the weights' and the biases' variances by their names, and "alpha" where there is
    one, which ``rule`` is told for each layer (2 where there is none).
    """
    if not isinstance(generator, torch.Generator):
        raise ValueError(
            f"generator={generator!r} must be a torch.Generator, such as "
            "torch.Generator().manual_seed(0)."
        )
    owners = dict(_owners(module))
    names = [name for name, owner in owners.items() if isinstance(owner, _Layer)]
    label_w2, label_b2, *heavy = given
    w2, b2 = (_by_name(label, given[label], names) for label in (label_w2, label_b2))
    alpha = (
        _by_name("alpha", given["alpha"], names, _checks.stability)
        if heavy
        else dict.fromkeys(names, 2.0)
    )
    missing = [name for name in names if name in w2 and name not in alpha]
    if missing:
        raise ValueError(f"layer {missing[0]!r}: alpha gives it no value, but D_w does: give both.")
    chosen = {
        name: (owner, rule(owner, alpha[name]))
        for name, owner in owners.items()
        if isinstance(owner, _Layer) and name in w2
    }
    if not chosen:
        raise ValueError("module has no Linear or Conv layer to set: nothing would be initialised.")
    _check(chosen, b2, label_b2)
    values = {
        name: (
            w2[name] ** (1 / scheme.alpha) * scheme.draw(layer, generator),
            # drawn for a layer without a bias too: the layers after it are then the same either way
            b2[name] ** (1 / scheme.alpha) * scheme.bias(layer.weight.shape[0], generator),
        )
        for name, (layer, scheme) in chosen.items()
    }
    with torch.no_grad():
        for name, (weight, bias) in values.items():
            layer = chosen[name][0]
            layer.weight.copy_(weight)
            if layer.bias is not None:
                layer.bias.copy_(bias)
    return Report(
        tuple(
            _entry(name, *chosen[name], w2[name], b2[name])
            if name in chosen
            else _left_alone(name, owner, label_w2)
            for name, owner in owners.items()
        )
    )


def _by_name(
    label: str,
    given: Variances,
    names: list[str],
    check: Callable[[str, object], float] = _checks.variance,
) -> dict[str, float]:
    """Return the number of each layer that is given one."""
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in names]
        if unknown:
            raise ValueError(
                f"{label} names {unknown[0]!r}, which is no Linear or Conv layer of the module: "
                f"its layers are {', '.join(map(repr, names)) or 'none'}."
            )
        values = {name: given.get(name) for name in names}
    else:
        values = {name: given(name) if callable(given) else given for name in names}
    return {
        name: check(f"{label} of layer {name!r}", value)
        for name, value in values.items()
        if value is not None
    }


def _check(chosen: dict[str, tuple[_Layer, _Scheme]], b2: dict[str, float], label_b2: str) -> None:
    owner_of: dict[int, str] = {}
    for name, (layer, scheme) in chosen.items():
        reason = _unusable(layer) or scheme.refusal(layer)
        if not reason and name not in b2:
            reason = f"{label_b2} gives it no value: give both variances or neither"
        first = owner_of.setdefault(id(layer.weight), name)
        if not reason and first != name:
            reason = f"it shares its weight with {first!r}: one of the two draws would be lost"
        if reason:
            raise ValueError(f"layer {name!r} ({_kind(layer)}): {reason}.")


def _unusable(layer: _Layer) -> str:
    """Say why a layer's weight cannot be written, or "" if it can."""
    if parametrize.is_parametrized(layer) or "weight" not in layer._parameters:
        return "its weight is computed from other parameters: remove the parametrisation first"
    weight = layer.weight
    if isinstance(weight, nn.parameter.UninitializedParameter):
        return "its shape is not known yet: send one batch through the module first"
    if not weight.is_floating_point():
        return f"its weight is {weight.dtype}: convert the layer to a real floating-point type"
    if weight.is_meta:
        return "it is on the meta device and has no memory: move it with to_empty first"
    return "it has no weights: give it at least one input and output" * (weight.numel() == 0)


def _kind(owner: nn.Module) -> str:
    return f"{type(owner).__name__} {_shape(owner) or ''}".strip()


def _shape(owner: nn.Module) -> tuple[int, ...]:
    """Return the weight's shape, () where there is none or it is not known yet."""
    weight = getattr(owner, "weight", None)
    known = isinstance(weight, Tensor) and not isinstance(
        weight, nn.parameter.UninitializedParameter
    )
    return tuple(weight.shape) if known and weight is not None else ()


def _left_alone(name: str, owner: nn.Module, label_w2: str) -> Layer:
    if isinstance(owner, _Layer):
        note = f"{label_w2} gives it no value"
    elif isinstance(owner, _Transposed):
        note = "transposed: how many inputs reach an output depends on the stride"
    else:
        note = "not a Linear or Conv layer"
    return Layer(name, type(owner).__name__, _shape(owner), LEFT_ALONE, note=note)


def _entry(name: str, layer: _Layer, scheme: _Scheme, w2: float, b2: float) -> Layer:
    notes = [scheme.note(layer), "no bias to set" if layer.bias is None and b2 else ""]
    n_in, weight = layer.weight[0].numel(), layer.weight.detach().double()
    heavy = scheme.name == "stable"
    return Layer(
        name,
        type(layer).__name__,
        tuple(layer.weight.shape),
        scheme.name,
        w2,
        b2,
        _measured_D_w(weight, scheme.alpha) if heavy else n_in * weight.square().mean().item(),
        "; ".join(note for note in notes if note),
        scheme.alpha if heavy else math.nan,
    )


def _measured_D_w(weight: Tensor, alpha: float) -> float:
    """Return D_w of a weight (n_out, …) of stability index α from its mean log|W|; see ``Layer``.

    Zeros, which only rounding or D_w = 0 can make, are left out; where all are 0, so is D_w.
    """
    sizes = weight.abs()[weight != 0]
    if not len(sizes):
        return 0.0
    level = alpha * sizes.log().mean().item() - _EULER * (1 - alpha)
    return 2 * weight[0].numel() * math.exp(level)


# --- draws -------------------------------------------------------------------------------------


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return draws.standard_normal(shape, [generator], dtype=torch.float64)[0]


def _normal_bias(n: int, generator: torch.Generator) -> Tensor:
    return _normal((n,), generator)


def _groups(layer: _Layer) -> tuple[int, int, int]:
    """Return groups and each group's numbers of outputs and inputs."""
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    return groups, layer.weight.shape[0] // groups, layer.weight.shape[1]


def _haar(n: int, n_out: int, n_in: int, generator: torch.Generator) -> Tensor:
    """Return n Haar semi-orthogonal matrices (n, n_out, n_in) in float64."""
    return draws.haar_orthogonal(n_out, n_in, [generator] * n, dtype=torch.float64)


def _gaussian_weight(layer: _Layer, generator: torch.Generator) -> Tensor:
    return _normal(tuple(layer.weight.shape), generator) / math.sqrt(layer.weight[0].numel())


def _orthogonal_weight(layer: _Layer, generator: torch.Generator) -> Tensor:
    """Return weights whose operator is orthogonal up to the factor √(max(n_in, n_out)/n_in)."""
    groups, n_out, n_in = _groups(layer)
    taps = tuple(layer.weight.shape[2:])
    kernel = _haar(groups, n_out, n_in, generator).reshape(groups, n_out, n_in, *[1] * len(taps))
    # the projectors act on the narrower side, where the cost is least and the law the same
    acts_on_inputs = n_in <= n_out
    for step in range(1, max(taps, default=1)):
        for axis, size in enumerate(taps):
            if step < size:
                projector = _half_projector(groups, min(n_in, n_out), generator)
                kernel = _widen(kernel, projector, 3 + axis, acts_on_inputs)
    scale = math.sqrt(max(n_in, n_out) / n_in)
    return scale * kernel.reshape(layer.weight.shape)


def _half_projector(n: int, channels: int, generator: torch.Generator) -> Tensor:
    """Return n Haar projectors (n, c, c) of rank c/2; for odd c a fair coin rounds it."""
    basis = _haar(n, channels, channels, generator)
    coins = torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)
    rank = channels // 2 + channels % 2 * coins.round()
    kept = torch.arange(channels, device=basis.device) < rank[:, None]
    return (basis * kept[:, None, :]) @ basis.mT


def _widen(kernel: Tensor, projector: Tensor, axis: int, on_inputs: bool) -> Tensor:
    """Return the kernel times P + (1 − P) z, one tap wider along an axis."""
    equation = "gij...,gjk->gik..." if on_inputs else "gki,gij...->gkj..."
    parts = (kernel, projector) if on_inputs else (projector, kernel)
    here = torch.einsum(equation, *parts)
    edge = torch.zeros_like(kernel.narrow(axis, 0, 1))
    return torch.cat([here, edge], axis) + torch.cat([edge, kernel - here], axis)


def _delta_kernel(layer: _Layer, keep: str, generator: torch.Generator) -> Tensor:
    groups, n_out, n_in = _groups(layer)
    kernel = torch.zeros(layer.weight.shape, dtype=torch.float64, device=generator.device)
    scale = math.sqrt(n_out / n_in) if keep == "variance" else 1.0
    taps = kernel.flatten(2)  # sizes are odd: the middle of the flat order is the centre
    taps[..., taps.shape[2] // 2] = scale * _haar(groups, n_out, n_in, generator).flatten(0, 1)
    return kernel


def _delta_refusal(layer: _Layer) -> str:
    _, n_out, n_in = _groups(layer)
    kernel = tuple(layer.weight.shape[2:])
    if any(size % 2 == 0 for size in kernel):
        return (
            f"a kernel of even size {kernel} has no centre tap for a delta-orthogonal matrix: use "
            "odd sizes, or orthogonal_ or gaussian_"
        )
    if n_out < n_in:
        return (
            f"{n_out} outputs for {n_in} inputs per group cannot keep norms: give it at least as "
            "many outputs, or leave it out of sigma_w2 and use orthogonal_ or gaussian_ for it"
        )
    return ""


def _placement(layer: _Layer) -> list[str]:
    """Say what a convolution's stride and padding do to norms."""
    if isinstance(layer, nn.Linear):
        return []
    notes = []
    if max(layer.stride) > 1:
        notes.append(f"stride {layer.stride} keeps one position in {math.prod(layer.stride)}")
    reach = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    padding = [0] * len(reach) if layer.padding == "valid" else layer.padding
    same = padding == "same" or [2 * p for p in padding] == reach
    if not same:
        notes.append(f"padding {layer.padding} changes the number of positions")
    return notes


def _orthogonal_note(layer: _Layer) -> str:
    _, n_out, n_in = _groups(layer)
    notes = _placement(layer)
    if n_out > n_in:
        notes.append(f"norms grow by the square root of {n_out}/{n_in}")
    if n_out < n_in:
        notes.append(f"{n_in - n_out} directions per group are lost")
    if not isinstance(layer, nn.Linear) and max(layer.kernel_size) > 1:
        if layer.padding_mode != "circular":
            notes.append(f"{layer.padding_mode} padding: not orthogonal at the edges")
        notes.append("orthogonal as an operator")
    return "; ".join(notes)


def _delta_note(layer: _Layer) -> str:
    _, n_out, n_in = _groups(layer)
    notes = _placement(layer)
    if n_out > n_in:
        notes.append(f"{n_out} outputs for {n_in} inputs per group")
    return "; ".join(notes)


def _stable_scheme(alpha: float) -> _Scheme:
    index = torch.tensor([alpha], dtype=torch.float64)

    def entries(shape: tuple[int, ...], n: int, generator: torch.Generator) -> Tensor:
        drawn = draws.standard_stable(shape, [generator], alpha=index, dtype=torch.float64)
        return drawn[0] * (1 / (2 * n)) ** (1 / alpha)

    return _Scheme(
        "stable",
        lambda _: "",
        lambda layer, generator: entries(
            tuple(layer.weight.shape), layer.weight[0].numel(), generator
        ),
        lambda _: "",
        lambda n, generator: entries((n,), 1, generator),
        alpha,
    )


_GAUSSIAN = _Scheme("gaussian", lambda _: "", _gaussian_weight, lambda _: "", _normal_bias)
_ORTHOGONAL = _Scheme(
    "orthogonal", lambda _: "", _orthogonal_weight, _orthogonal_note, _normal_bias
)
_DELTA = _Scheme(
    "delta-orthogonal",
    _delta_refusal,
    lambda layer, generator: _delta_kernel(layer, "norm", generator),
    _delta_note,
    _normal_bias,
)
