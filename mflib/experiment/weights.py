"""Tails of trained weights: stable laws fitted to every weight matrix of a network, and rivals.

Which one when: ``fit_weights`` for one network, live, saved or torchvision's; ``fit_folder`` for
all networks in a folder; ``shares`` for the statements of the paper's §1A with their intervals.

What such fits can and cannot say: a stable law contains the Gaussian as α = 2, so it always fits
at least as well; the question is whether it fits better than laws with as many parameters whose
tails are lighter or bounded by the size of the matrix. Student's t and the generalised Gaussian
stand beside it for that. Entries are taken as independent draws of one law, as the paper takes
them. Outputs and inputs of a trained matrix differ in scale, and that alone makes tails heavy;
``balanced`` tells how much of them it makes. Such scales need not mean anything: batch
normalisation undoes those of outputs, and a rectified network computes the same when a unit's
incoming weights are multiplied by what its outgoing ones are divided by, while α and D_w change.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import socket
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mflib import paths, sources
from mflib.experiment import _checks, _shards, _tails, data
from mflib.experiment.store import Store

SUFFIXES = (".pth", ".pt", ".th", ".npz", ".safetensors")
PAPER_NETWORKS = (
    "alexnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)
"""The paper's ten networks by torchvision's names: 699 matrices.

The paper's list says "ResNet101-32x4d", which torchvision does not have; with ResNeXt-50 (32x4d)
the matrices are the 699 that the paper counts.
"""
_TORCHVISION = "torchvision:"
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "params")
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_DOWNLOAD_TIMEOUT = 30.0
_KERNEL = "mflib.experiment._tails"  # with its imports: all code that decides a number

Source = nn.Module | Mapping[str, Any] | str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Matrix:
    """One weight matrix: ``entries`` (rows, columns) in float64, rows being output channels.

    ``shape`` is that of the tensor it came from. A kernel (C_out, C_in per group, taps …) has
    rows = C_out and columns = C_in per group × taps, the number of inputs that one output sums.
    ``precision`` is "" or the coarser format that holds every entry exactly.
    """

    layer: str
    shape: tuple[int, ...]
    entries: np.ndarray
    precision: str = ""
    taps: int = 1

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the SHA-256 of shape and entries."""
        digest = hashlib.sha256(str(self.entries.shape).encode())
        digest.update(np.ascontiguousarray(self.entries).data)
        return digest.hexdigest()[:16]


def fit_weights(
    source: Source,
    *,
    network: str | None = None,
    minimum: int = 1000,
    floor: float = 0.0,
    quantised: bool = False,
    skewed: bool = False,
    balanced: bool = False,
    level: float = 0.95,
    seed: int = 0,
    store: Store | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Fit a symmetric stable law and its rivals to each weight matrix; one row each.

    ``source``: a live module; a state dict; the path of one (.pth, .pt, .th, read without running
    code from it; .npz; .safetensors where that package is installed); or "torchvision:NAME" for
    pretrained weights, IMAGENET1K_V1 unless "torchvision:NAME@WEIGHTS" says otherwise. Those are
    taken from the folder ``MFLIB_DATA`` (itself, its ``nets`` or ``hub/checkpoints``), else from
    torch's cache, else downloaded.

    Matrices are the weights of two or more axes; biases and normalisation layers are left out.
    Entries with |w| ≤ ``floor`` are left out and counted (0: only exact zeros, as pruning leaves
    them; the paper's published code uses 1e-5). A matrix is not fitted, and ``flag`` says why,
    if fewer than ``minimum`` entries are left, if they are not finite or all equal, and, unless
    ``quantised``, if they are half-precision or otherwise coarse numbers, to which no density can
    be fitted. ``level`` is that of the interval, ``seed`` draws the subsample of one test.

    Columns (logarithms are natural, likelihoods total unless said otherwise):

    - network, layer, shape, rows, columns, n (entries fitted), left_out, flag, fingerprint.
    - alpha, alpha_low, alpha_high, sigma, location, at_boundary: maximum likelihood,
      characteristic function exp(iμu − |σu|^α), α in [0.5, 2] with both ends a boundary;
      alpha_quantiles, sigma_quantiles: McCulloch's quantile estimates, which the published code
      uses where the paper says maximum likelihood.
      With ``skewed`` also alpha_skewed and beta of the four-parameter law.
    - gain = D_w^{1/α} with the paper's D_w = 2 √(rows · columns) σ^α; gain_fan_in with the mean
      field's D_w = 2 N_in σ^α, N_in = columns; gain_fan_out with D_w = 2 C_out · taps · σ^α, which
      the published code takes for kernels.
    - stable_over_gaussian (also per entry), student_t_over_gaussian,
      generalised_gaussian_over_gaussian: log-likelihood ratios of the best fits; nu and exponent
      of the last two; log_p_likelihood_ratio against the Gaussian by ½χ²₀ + ½χ²₁, the usual law
      on a boundary (at α = 2 the score in α has no variance, and ratios of Gaussian samples are
      smaller than that law's, mostly 0: p is too large rather than too small);
      student_t_over_stable_z: Vuong's z; likeliest: the law with the lowest Akaike criterion.
    - ks_*, log_p_ks_*: Kolmogorov-Smirnov distances from the fits and log p by Kolmogorov's limit
      law. Parameters fitted to the same entries make p too large. log_p_ks_ratio = log p of the
      stable less that of the Gaussian fit, never 0/0; at equal n it is ≥ 0 exactly where the
      stable distance is the smaller one, so the paper's "p-value ratio ≥ 1" says no more.
    - shapiro_w, shapiro_p: all entries, as in the paper; scipy's p is not calibrated beyond 5000
      of them. shapiro_w_5000, shapiro_p_5000: of 5000 drawn by ``seed``.
    - excess_kurtosis, excess_kurtosis_of_rows (within rows, each standardised): how much of the
      tail comes from rows of different scale.
    - With ``balanced`` (three times the work) alpha_balanced: α after each output's weights, then
      each input's, are divided by their root mean square, so that w_ij = s_i t_j x_ij with
      Gaussian x gives 2; alpha_balanced_shuffled: the same of the same entries in random order,
      for what the division alone does; NaN below 100 entries per output or input.
    - largest: the largest |w − μ|/σ; beyond_stable, beyond_gaussian, beyond_student_t: how many
      entries each fit expects beyond its size: about 1 if the fit is right, and P(none) is
      e^(−beyond) where it is large. tail_shape, tail_shape_error: the shape ξ of a generalised
      Pareto law for what exceeds the threshold of the largest 1 % (at least 50): 1/exponent of a
      power law, ½ or more where the variance is infinite, 0 for an exponential tail; hill,
      hill_error: Hill's exponent of the same entries; hill_stable, hill_gaussian,
      hill_student_t: what the fits have at that threshold.

    Matrices are independent computations, run on as many threads as torch has; with a ``store``
    each is kept, and what it holds is read. Raises ValueError for a bad argument or a source that
    holds no weights, DataUnavailable for weights that cannot be had, DataDamaged for a wrong
    checksum.

    Source: Qu, Wardak & Gong, §1A and fig. 1.
    """
    settings = _Settings(minimum, floor, quantised, skewed, balanced, level, seed)
    label, found = _open(source)
    name = label if network is None else network
    return _fit([(name, matrix) for matrix in found], settings, store, progress)


def fit_folder(
    folder: str | os.PathLike[str],
    *,
    store: Store | None = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Fit the matrices of every network in a folder and the folders below it.

    Networks are named by their paths relative to the folder, without the ending. ``options`` and
    columns as in ``fit_weights``. Raises ValueError also where the folder holds no network.
    """
    settings = _Settings(**options)
    todo = [(label, matrix) for label, file in files(folder).items() for matrix in matrices(file)]
    return _fit(todo, settings, store, progress)


def files(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Return the networks' files in and below a folder by their names, sorted.

    Raises ValueError if there is none.
    """
    root = Path(folder)
    found = sorted(path for path in root.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    if not found:
        raise ValueError(
            f"{root} holds no network: give a folder with files that end in {', '.join(SUFFIXES)}"
        )
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in found}


# --- the table --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Settings:
    """How matrices are chosen and fitted; the arguments of ``fit_weights`` of the same names."""

    minimum: int = 1000
    floor: float = 0.0
    quantised: bool = False
    skewed: bool = False
    balanced: bool = False
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        _checks.count("minimum", self.minimum, 100)
        for name, allowed, holds in (
            ("floor", "at least 0", lambda value: value >= 0),
            ("level", "in (0, 1)", lambda value: 0 < value < 1),
        ):
            value = _checks.number(name, getattr(self, name), float)
            _checks.require(holds(value), name, value, allowed)
            object.__setattr__(self, name, value)
        seed = _checks.number("seed", self.seed, int)
        _checks.require(0 <= seed < 2**63, "seed", seed, "in [0, 2^63)")

    @property
    def numeric(self) -> dict[str, Any]:
        """Those that decide a matrix's numbers."""
        names = ("floor", "level", "skewed", "balanced", "seed")
        return {name: getattr(self, name) for name in names}


def _fit(
    todo: list[tuple[str, Matrix]], settings: _Settings, store: Store | None, progress: bool
) -> pd.DataFrame:
    def row(name: str, matrix: Matrix) -> dict[str, Any]:
        kept = matrix.entries[np.abs(matrix.entries) > settings.floor]
        flag = _flag(matrix, kept, settings.minimum)
        rows, columns = matrix.entries.shape
        found = {
            "network": name,
            "layer": matrix.layer,
            "shape": "x".join(map(str, matrix.shape)),
            "rows": rows,
            "columns": columns,
            "n": kept.size,
            "left_out": matrix.entries.size - kept.size,
            "flag": flag,
            "fingerprint": matrix.fingerprint,
        }
        if flag and not (settings.quantised and flag == matrix.precision):
            return found
        return found | _gains(_described(matrix, settings, store), matrix)

    sizes = [matrix.entries.size for _, matrix in todo]
    title = todo[0][0] if len({name for name, _ in todo}) == 1 else "weights"
    with _shards.Bar(sum(sizes), title=title, unit="entry", progress=progress) as bar:

        def compute(place: int, _: Callable[[], bool]) -> dict[str, Any]:
            found = row(*todo[place])
            bar.update(sizes[place])
            return found

        # the largest first, so that no core is left alone with it at the end
        order = sorted(range(len(todo)), key=lambda place: -sizes[place])
        table = pd.DataFrame(_shards.side_by_side(compute, order), index=order)
    return table.sort_index(ignore_index=True)


def _described(matrix: Matrix, settings: _Settings, store: Store | None) -> dict[str, Any]:
    """Return the numbers of one matrix, from the store where it has them."""
    options = {"taps": matrix.taps, **settings.numeric}

    def compute() -> pd.DataFrame:
        return pd.DataFrame([_tails.describe(matrix.entries, **options)])

    if store is None:
        return dict(compute().iloc[0])
    key = {"weights": matrix.fingerprint, **options, "code": sources.code_version(_KERNEL)}
    return dict(store.fetch(key, compute).iloc[0])


def _gains(found: dict[str, Any], matrix: Matrix) -> dict[str, Any]:
    """Return the row with D_w^{1/α} by the three measures of a matrix's size, after location."""
    rows, columns = matrix.entries.shape
    alpha, sigma = float(found["alpha"]), float(found["sigma"])
    sizes = {
        "gain": math.sqrt(rows * columns),
        "gain_fan_in": columns,
        "gain_fan_out": rows * matrix.taps,
    }
    return found | {name: (2 * size) ** (1 / alpha) * sigma for name, size in sizes.items()}


def _flag(matrix: Matrix, kept: np.ndarray, minimum: int) -> str:
    """Return what speaks against fitting the entries that were kept, "" if nothing does."""
    if not np.isfinite(matrix.entries).all():
        return "not finite"
    if kept.size < minimum:
        return "few entries"
    if kept.min() == kept.max():
        return "all equal"
    return matrix.precision


# --- sources ----------------------------------------------------------------------------------


def matrices(source: Source) -> list[Matrix]:
    """Return the weight matrices of a source, in its order; see ``fit_weights``."""
    return _open(source)[1]


def _open(source: Source) -> tuple[str, list[Matrix]]:
    """Return a name for a source and its matrices."""
    if isinstance(source, nn.Module):
        name, tensors, swapped = type(source).__name__, dict(_of_module(source)), _swapped(source)
    elif isinstance(source, Mapping):
        name, tensors, swapped = "state dict", _unwrapped(source, "the state dict"), set()
    elif isinstance(source, str) and source.startswith(_TORCHVISION):
        name = source.removeprefix(_TORCHVISION)
        tensors, swapped = _unwrapped(_read(_pretrained(name)), source), set()
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        name, tensors, swapped = path.stem, _unwrapped(_read(path), str(path)), set()
    else:
        raise ValueError(
            f"source={type(source).__name__} must be a module, a state dict, the path of one, or "
            f'"{_TORCHVISION}NAME"'
        )
    found = [
        _matrix(layer, values, layer in swapped)
        for layer, values in tensors.items()
        if _is_weight(layer, values)
    ]
    if not found:
        raise ValueError(f"{name} holds no weight matrix: no tensor of two or more axes")
    return name, found


def _of_module(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters of a module once each; a parametrised one as the layer uses it."""
    seen: set[int] = set()
    for prefix, part in module.named_modules():
        if isinstance(part, parametrize.ParametrizationList):
            continue
        named = dict(part.named_parameters(recurse=False))
        if parametrize.is_parametrized(part):
            named |= {name: getattr(part, name) for name in part.parametrizations}
        for name, parameter in named.items():
            if id(parameter) not in seen and "parametrizations." not in f"{prefix}.":
                seen.add(id(parameter))
                yield f"{prefix}.{name}".lstrip("."), parameter


def _swapped(module: nn.Module) -> set[str]:
    """Return the weights whose first axis is the input."""
    return {
        f"{name}.weight".lstrip(".")
        for name, part in module.named_modules()
        if isinstance(part, _TRANSPOSED)
    }


def _is_weight(layer: str, values: Any) -> bool:
    if not isinstance(values, Tensor | np.ndarray) or values.ndim < 2:
        return False
    real = (
        values.is_floating_point() or values.is_quantized
        if isinstance(values, Tensor)
        else np.issubdtype(values.dtype, np.floating)
    )
    # Caffe's biases have four axes
    return real and "bias" not in layer.rsplit(".", 1)[-1]


def _matrix(layer: str, values: Tensor | np.ndarray, swapped: bool) -> Matrix:
    shape = tuple(values.shape)
    precision = ""
    if isinstance(values, Tensor):
        values = values.detach()
        if values.is_quantized:
            precision, values = str(values.dtype).removeprefix("torch."), values.dequantize()
        entries = values.to("cpu", torch.float64).numpy()
    else:
        entries = values.astype(np.float64)
    taps = math.prod(shape[2:])
    if swapped:
        entries = np.swapaxes(entries, 0, 1)
    elif len(shape) == 4 and shape[:2] == (1, 1):
        entries, taps = entries[0, 0], 1  # Caffe's dense layers: (1, 1, out, in)
    entries = np.ascontiguousarray(entries.reshape(entries.shape[0], -1))
    return Matrix(layer, shape, entries, precision or coarse(entries), taps)


def coarse(entries: np.ndarray) -> str:
    """Return the coarse format that holds all entries exactly, "" if there is none.

    "float16" and "bfloat16" by rounding there and back; "repeated" where the entries other than 0
    take fewer than half as many values as they are, as after quantisation to levels or tying.

    >>> coarse(np.array([[0.5, 0.1], [0.25, 0.3]]))
    ''
    """
    flat = entries.ravel()
    flat = flat[np.isfinite(flat) & (flat != 0)]
    if flat.size == 0:
        return ""
    # bfloat16 first: within the range of float16 that holds all its numbers too
    short = torch.from_numpy(flat)
    for dtype in (torch.bfloat16, torch.float16):
        if torch.equal(short.to(dtype).to(torch.float64), short):
            return str(dtype).removeprefix("torch.")
    return "repeated" if np.unique(flat).size < flat.size / 2 else ""


def _unwrapped(found: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return layer → tensor of a state dict or a checkpoint that holds one, without "module."."""
    for key in _WRAPPERS:
        inner = found.get(key)
        if isinstance(inner, Mapping) and any(_is_weight(str(k), v) for k, v in inner.items()):
            found = inner
            break
    tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor | np.ndarray)}
    if not tensors:
        raise ValueError(
            f"{what} holds no tensors by name, nor a state dict under {', '.join(_WRAPPERS)}: "
            "give a state dict"
        )
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _read(path: Path) -> Mapping[str, Any]:
    """Return what a file of weights holds, running no code from it."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} must end in one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ValueError(f"{path} is not there: give the path of a state dict")
    if path.suffix == ".npz":
        return _read_npz(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        _check_members(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except data.DataDamaged:
        raise
    except Exception:  # what reading any bytes as a pickle may end in is no short list
        raise ValueError(
            f"{path} is no file of plain tensors, and nothing else is loaded, since it could run "
            "code of its own: write it again with torch.save(model.state_dict(), path)"
        ) from None
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} holds a {type(found).__name__}: give a state dict")
    return found


def _check_members(path: Path) -> None:
    """Raise DataDamaged where a part of a zip archive has a wrong checksum: torch reads past it."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if member := archive.testzip():
                raise data.DataDamaged(
                    f"{path} is damaged (its part {member} does not have its checksum): fetch it "
                    "again"
                )


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception:
        raise ValueError(
            f"{path} is no archive of plain arrays: write it again with numpy.savez"
        ) from None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        import safetensors
        from safetensors.torch import load_file
    except ImportError:
        raise ValueError(
            f"{path} needs the package safetensors, which is not installed: install it, or save "
            "the state dict with torch.save"
        ) from None
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except safetensors.SafetensorError:
        raise ValueError(f"{path} is damaged: it is not in the safetensors format") from None
    return tensors


# --- torchvision's pretrained networks --------------------------------------------------------


def _pretrained(name: str) -> Path:
    """Return the file of torchvision's pretrained weights NAME[@WEIGHTS], fetched if need be."""
    url = _address(name)
    file = url.rsplit("/", 1)[-1]
    for folder in _folders():
        if (folder / file).is_file():
            return _intact(folder / file)
    target = paths.cache() / "hub" / "checkpoints"
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT)  # a silent network must not hang the caller
    try:
        target.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(target / file), _stated_hash(file), progress=False)
    except (OSError, RuntimeError):
        raise data.DataUnavailable(
            f"{file}, the weights of {_TORCHVISION}{name}, is not on this machine and could not "
            "be downloaded: put it into the folder nets of MFLIB_DATA, or connect to the network "
            "and retry"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)
    return target / file


def _address(name: str) -> str:
    """Return where torchvision's weights NAME[@WEIGHTS] are published."""
    data.import_torchvision()
    from torchvision import models

    model, _, version = name.partition("@")
    try:
        versions = models.get_model_weights(model)
    except ValueError:
        raise ValueError(
            f"{_TORCHVISION}{model} is not one of torchvision's networks, such as "
            f"{', '.join(PAPER_NETWORKS[:3])}"
        ) from None
    version = version or versions.__members__.get("IMAGENET1K_V1", next(iter(versions))).name
    if version not in versions.__members__:
        known = ", ".join(each.name for each in versions)
        raise ValueError(f"{_TORCHVISION}{model} has the weights {known}, not {version!r}")
    url: str = versions[version].url
    return url


def _folders() -> Iterable[Path]:
    """Yield where files of pretrained weights may lie, in this order."""
    named = os.environ.get("MFLIB_DATA")
    if named:
        given = Path(named).expanduser()
        yield from (given / "nets", given / "hub" / "checkpoints", given / "checkpoints", given)
    yield paths.cache() / "hub" / "checkpoints"
    yield Path(torch.hub.get_dir()) / "checkpoints"


def _stated_hash(file: str) -> str | None:
    """Return the first digits of the SHA-256 that torchvision writes into a file's name."""
    digits = Path(file).stem.rsplit("-", 1)[-1]
    return digits if len(digits) >= 8 and set(digits) <= set("0123456789abcdef") else None


def _intact(path: Path) -> Path:
    stated = _stated_hash(path.name)
    if stated is not None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(stated):
            raise data.DataDamaged(
                f"{path} is damaged (its SHA-256 does not begin with {stated}): delete it and "
                "fetch it again"
            )
    return path


# --- the paper's statements -------------------------------------------------------------------


def shares(
    table: pd.DataFrame,
    *,
    gains: tuple[float, float] = (0.7, 3.0),
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the shares of matrices for which the paper's statements and their rivals hold.

    One row per statement: statement, count, n, share, low, high (Wilson's interval, as if
    matrices were independent), low_networks, high_networks (bootstrap of whole networks, 2000
    draws by ``seed``, since matrices of one network are not independent; NaN for fewer than 5).
    ``gains``: the interval that D_w^{1/α} is held against. Statements on balanced entries are held
    against the matrices that have them, where the table has any. Rows of ``table`` that were not
    fitted are left out, and of matrices with the same entries only the first counts.

    Raises ValueError for a table without a fitted matrix.
    """
    low, high = _checks.interval("gains", gains)
    _checks.require(0 < _checks.number("level", level, float) < 1, "level", level, "in (0, 1)")
    fitted = table[table["alpha"].notna()] if "alpha" in table else table.iloc[:0]
    fitted = fitted.drop_duplicates("fingerprint").reset_index(drop=True)
    if fitted.empty:
        raise ValueError("the table holds no fitted matrix: lower minimum, or see its column flag")
    level_out = math.log(0.025)
    log_p_5000 = np.log(np.maximum(fitted["shapiro_p_5000"], np.finfo(float).tiny))
    statements = {
        "alpha < 1.95": fitted["alpha"] < 1.95,
        "alpha < 1.95 (quantiles)": fitted["alpha_quantiles"] < 1.95,
        "alpha interval below 2": fitted["alpha_high"] < 2,
        "Shapiro-Wilk p < 0.025 (all entries)": fitted["shapiro_p"] < 0.025,
        "Shapiro-Wilk p < 0.025 (5000 entries)": log_p_5000 < level_out,
        "Gaussian rejected by likelihood ratio at 0.025": fitted["log_p_likelihood_ratio"]
        < level_out,
        "KS p-value ratio >= 1": fitted["log_p_ks_ratio"] >= 0,
        "KS rejects the stable fit at 0.025": fitted["log_p_ks_stable"] < level_out,
        "KS rejects the Gaussian fit at 0.025": fitted["log_p_ks_gaussian"] < level_out,
        "Student t likelier than stable": fitted["student_t_over_gaussian"]
        > fitted["stable_over_gaussian"],
        "Student t likelier than stable (z > 1.96)": fitted["student_t_over_stable_z"] > 1.96,
        "stable likelier than Student t (z < -1.96)": fitted["student_t_over_stable_z"] < -1.96,
        "stable likeliest of four laws": fitted["likeliest"] == "stable",
        "Gaussian likeliest of four laws": fitted["likeliest"] == "gaussian",
        "no entry as large as the stable fit expects (P < 0.025)": fitted["beyond_stable"]
        > -level_out,
        "tail of infinite variance not excluded (1.96 errors)": fitted["tail_shape"]
        + 1.96 * fitted["tail_shape_error"].fillna(0)
        >= 0.5,
        f"gain in [{low:g}, {high:g}]": fitted["gain"].between(low, high),
        f"gain by fan-in in [{low:g}, {high:g}]": fitted["gain_fan_in"].between(low, high),
    }
    for column in ("alpha_balanced", "alpha_balanced_shuffled"):
        if column in fitted and fitted[column].notna().any():
            statements[f"{column} < 1.95"] = fitted[column].dropna() < 1.95
    return pd.DataFrame(
        [
            {
                "statement": statement,
                **_share(holds, fitted["network"].loc[holds.index], level, seed),
            }
            for statement, holds in statements.items()
        ]
    )


def _share(holds: pd.Series, network: pd.Series, level: float, seed: int) -> dict[str, Any]:
    from scipy import stats

    count, n = int(holds.sum()), len(holds)
    wilson = stats.binomtest(count, n).proportion_ci(level, method="wilson")
    by_network = holds.groupby(network).agg(["sum", "count"]).to_numpy(float)
    ends = (math.nan, math.nan)
    if len(by_network) >= 5:
        rng = np.random.default_rng([seed, 0x6E6574])
        drawn = by_network[rng.integers(len(by_network), size=(2000, len(by_network)))].sum(axis=1)
        ends = tuple(np.quantile(drawn[:, 0] / drawn[:, 1], [(1 - level) / 2, (1 + level) / 2]))
    return {
        "count": count,
        "n": n,
        "share": count / n,
        "low": float(wilson.low),
        "high": float(wilson.high),
        "low_networks": float(ends[0]),
        "high_networks": float(ends[1]),
    }
