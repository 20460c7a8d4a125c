"""A pretended GPU: tensors that say they are on CUDA, while the numbers are the CPU's.

Inside ``machine()`` code for a GPU runs as it would on one, on any machine. What a GPU refuses is
refused: operations on tensors of two devices, a generator of another device than its tensor, numpy
on a tensor of the GPU. What makes the host wait for a GPU is noted in ``Machine.waits`` (and
refused inside ``Machine.without_waiting()``). A captured CUDA graph records operations with the
very tensors they had and takes none of them; replaying repeats them on those tensors, so whatever
a step takes from the host is frozen as it would be.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda:0")
_aten = torch.ops.aten
_COPIES = {_aten.copy_.default, _aten._to_copy.default}
# Their results' sizes, or errors, are known only once the GPU is done.
_WAITING = {
    "_local_scalar_dense", "nonzero", "nonzero_numpy", "masked_select", "_unique", "_unique2",
    "unique_dim", "unique_consecutive", "unique_dim_consecutive", "equal", "allclose",
    "repeat_interleave", "bincount", "_linalg_check_errors", "linalg_eig", "linalg_eigvals",
    "multinomial", "histc",
}  # fmt: skip
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class Held(torch.Tensor):
    """A tensor that says it is on the GPU; ``held`` is the CPU's."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Held:
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, device="meta", requires_grad=False,
        )  # fmt: skip

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        return False

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    def __repr__(self, **_: Any) -> str:
        return f"on the pretended GPU: {self.held!r}"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on a pretended tensor outside machine()")


class Generator(torch.Generator):
    """A generator that says where it is; its numbers are the CPU's."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        return super().__new__(cls, "cpu")

    def __init__(self, device: Any = "cpu") -> None:
        self.where = CUDA if torch.device(device).type == "cuda" else torch.device("cpu")

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.where


class Stream:
    """What streams must be told before a graph is captured; here there is one order only."""

    def wait_stream(self, other: Stream) -> None:
        assert isinstance(other, Stream)


class Waited(RuntimeError):
    """The host would wait for the GPU where it must not."""


class Graph:
    """What ``torch.cuda.CUDAGraph`` does: the recorded operations again, on the same tensors."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, list[torch.Tensor]]] = []
        self.replays = 0

    def replay(self) -> None:
        assert self.calls, "a graph is replayed before it was captured"
        self.replays += 1
        for func, args, kwargs, results in self.calls:
            found = [t for t in pytree.tree_leaves(func(*args, **kwargs)) if _is_tensor(t)]
            for old, new in zip(results, found, strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class _Machine(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to load what compiles takes seconds

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.kernels: list[str] = []
        self.graphs: list[Graph] = []
        self.capturing: Graph | None = None
        self.saved: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self.refusing = ""
        self.warning = False

    def wait(self, what: str) -> None:
        if self.capturing is not None:
            raise Waited(f"{what} while a graph is captured")
        if self.refusing:
            raise Waited(f"{what} {self.refusing}")
        if self.warning:
            warnings.warn(f"called a synchronizing CUDA operation: {what}", stacklevel=2)
        self.waits.append(what)

    def set_sync_debug_mode(self, mode: str) -> None:
        self.warning = mode == "warn"

    @contextlib.contextmanager
    def without_waiting(self, where: str = "where nothing may wait") -> Iterator[None]:
        self.refusing = where
        try:
            yield
        finally:
            self.refusing = ""

    @contextlib.contextmanager
    def capture(self, graph: Graph) -> Iterator[None]:
        self.capturing, self.saved = graph, {}
        self.graphs.append(graph)
        try:
            yield
        finally:
            self.capturing = None
            for storage, before in self.saved.values():
                storage.copy_(before)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        flat = pytree.tree_leaves((args, kwargs))
        ours = [t for t in flat if isinstance(t, Held)]
        others = [t for t in flat if _is_tensor(t) and not isinstance(t, Held)]
        wanted = kwargs.get("device")
        target = None if wanted is None else torch.device(wanted).type
        if target == "meta":  # what torch itself makes beside a tensor of ours
            target = "cuda"
        if not ours and target != "cuda":
            if self.capturing is not None and func.namespace == "aten":
                raise Waited(f"{func} on the CPU while a graph is captured")
            return func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        self.check(func, name, ours, others, target)
        if target == "cuda":
            kwargs["device"] = torch.device("cpu")
        if func is _aten._to_copy.default:
            kwargs.pop("non_blocking", None)
        if func is _aten.copy_.default and not isinstance(args[0], Held):
            return args[0].copy_(args[1].held)
        here = pytree.tree_map_only(Held, lambda t: t.held, (args, kwargs))
        written = _written(func, *here)
        if self.capturing is not None:
            for tensor in written:
                storage = tensor.untyped_storage()
                self.saved.setdefault(storage.data_ptr(), (storage, storage.clone()))
        found = func(*here[0], **here[1])
        if self.capturing is not None:
            leaves = [t for t in pytree.tree_leaves(found) if _is_tensor(t)]
            self.capturing.calls.append((func, *here, leaves))
        self.kernels.append(name)
        if target == "cpu" and func is _aten._to_copy.default:
            return found
        known = {id(t.held): t for t in ours}
        for tensor in ours:
            if tensor.shape != tensor.held.shape:
                raise RuntimeError(f"{func} changes the shape of an output that it was given")
        return pytree.tree_map_only(
            torch.Tensor, lambda t: known[id(t)] if id(t) in known else Held(t), found
        )

    def check(self, func: Any, name: str, ours: Any, others: Any, target: str | None) -> None:
        if func in _COPIES:
            if target == "cpu" or others or not ours:
                self.wait(f"{name} between host and GPU")
            return
        if name in _WAITING and ours:
            self.wait(name)
        if name in _INDEXING:
            if any(t.dtype in (torch.bool, torch.uint8) for t in [*ours[1:], *others]):
                self.wait(f"{name} by a mask")
            if others and ours and all(t.dtype == torch.int64 for t in others):
                self.wait(f"{name} by indices of the CPU")
                return
        strangers = [t for t in others if t.ndim or name.startswith(("_fused", "_foreach"))]
        if ours and strangers:
            shapes = [tuple(t.shape) for t in strangers]
            raise RuntimeError(
                f"{func}: expected all tensors to be on the same device, but those of shapes "
                f"{shapes} are on the CPU"
            )


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _written(func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """Return the tensors that an operation writes into."""
    found: list[Any] = []
    for k, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[k] if k < len(args) else kwargs.get(argument.name)
            found += pytree.tree_leaves(value)
    return [t for t in found if _is_tensor(t)]


class _Generators(TorchFunctionMode):
    """Refuse a generator of another device than its tensor."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        generator = (kwargs or {}).get("generator")
        if isinstance(generator, torch.Generator):
            tensor = next((t for t in args if _is_tensor(t)), None)
            wanted = (kwargs or {}).get("device")
            where = tensor.device if tensor is not None else torch.device(wanted or "cpu")
            if generator.device.type != where.type:
                raise RuntimeError(
                    f"expected a {where.type!r} device type for generator but found "
                    f"{generator.device.type!r}"
                )
        # A device without a number would be asked of the driver.
        args, kwargs = pytree.tree_map_only((str, torch.device), _numbered, (args, kwargs or {}))
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == CUDA:
            where = kwargs.pop("device")
            if _is_tensor(args[0]):
                return args[0].to(where, **kwargs)
            return func(*args, **kwargs).to(where)
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(torch.tensor(one) if isinstance(one, list) else one for one in index)
            args = (args[0], index, *args[2:])
        if func is torch.Tensor.to:
            args, kwargs = _moved(*args, **kwargs)
            if not kwargs:
                return args[0]
        return func(*args, **kwargs)


def _moved(
    tensor: torch.Tensor,
    *wanted: Any,
    device: Any = None,
    dtype: torch.dtype | None = None,
    **rest: Any,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of ``Tensor.to`` by name, less what the tensor is already."""
    for value in wanted:
        if _is_tensor(value):
            device, dtype = value.device, value.dtype
        elif isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, bool):
            rest["non_blocking"] = value
        elif value is not None:
            device = torch.device(value)
    found = {name: value for name, value in rest.items() if name == "copy" and value}
    if device is not None and torch.device(device) != tensor.device:
        found["device"] = device
    if dtype is not None and dtype != tensor.dtype:
        found["dtype"] = dtype
    return (tensor,), found


def _numbered(value: str | torch.device) -> str | torch.device:
    return CUDA if str(value) == "cuda" else value


def _forget() -> None:
    """Clear what functions of ours keep by device: a real GPU's tensors are none of these."""
    for name in [name for name in sys.modules if name.startswith("mflib.experiment")]:
        for value in vars(sys.modules[name]).values():
            if isinstance(value, functools._lru_cache_wrapper):
                value.cache_clear()


@contextlib.contextmanager
def machine(free: int = 2**34) -> Iterator[_Machine]:
    """Pretend that there is a GPU with so many free bytes; yield what notes its doings."""
    torch._C._ensureCUDADeviceGuardSet()
    here = _Machine()

    def nothing(*_: Any, **__: Any) -> None:
        return None

    stood_in: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "_lazy_init": nothing,
        "synchronize": nothing,
        "empty_cache": nothing,
        "mem_get_info": lambda *_: (free, free),
        "get_device_name": lambda *_: "a pretended GPU",
        "max_memory_allocated": lambda *_: 0,
        "reset_peak_memory_stats": nothing,
        "CUDAGraph": Graph,
        "graph": here.capture,
        "Stream": Stream,
        "stream": lambda _: contextlib.nullcontext(),
        "current_stream": Stream,
        "is_current_stream_capturing": lambda: here.capturing is not None,
        "set_sync_debug_mode": here.set_sync_debug_mode,
    }
    with contextlib.ExitStack() as stack:
        _forget()
        stack.callback(_forget)
        for name, instead in stood_in.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, instead))
        stack.enter_context(mock.patch.object(torch, "Generator", Generator))
        stack.enter_context(mock.patch.object(torch, "set_float32_matmul_precision", nothing))
        stack.enter_context(_Generators())
        stack.enter_context(here)
        yield here
