"""GPUs that are not there: tensors that say they are on one and compute on the CPU, so that numbers can be compared.

They show what a GPU would: a tensor of another device in an operation (an error there), and every time that the host has
to wait for the device, which is where a GPU falls idle. An unpinned copy to the device makes it wait, too.

Where there is one, autograd has threads, and a process that has them cannot be forked, as tests of the command line do with
theirs: whoever asks for a `device` does so in a process of its own.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretended"
aten = torch.ops.aten
ROOT = Path(__file__).parent.parent

SEEN_BY_THE_HOST = {
    aten._local_scalar_dense.default,
    aten.is_nonzero.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
SOURCE = {aten._to_copy.default: 0, aten.copy_.default: 1}
"""Copies, which may cross from one device to another, and which argument is copied."""


class OnDevice(Tensor):
    """A tensor of a pretended device; `held` is the one that has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> "OnDevice":
        """Says what `held` is, but for the device."""
        made: OnDevice = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=device,
        )
        made.held = held
        return made

    def __init__(self, held: Tensor, device: torch.device) -> None:
        """Nothing is left to do."""

    def tolist(self) -> list[Any]:
        """As for any tensor: the host waits for its numbers."""
        return self.cpu().tolist()  # type: ignore[no-any-return]

    def __repr__(self) -> str:  # type: ignore[override]
        """Without its numbers, which tracebacks would ask for."""
        return f"OnDevice({self.device}, {list(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Autograd's own threads are in no mode."""
        return _run(func, args, kwargs or {}, None)


@dataclass
class Watch(TorchDispatchMode):
    """What happened between the host and the devices: `waits` are the operation and the function of this package."""

    waits: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    __hash__ = object.__hash__

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operation."""
        return _run(func, args, kwargs or {}, self)

    def note(self, func: Any) -> None:
        """The host waits here."""
        stack = [frame for frame in traceback.extract_stack() if not frame.name.startswith("<")]
        frames = [frame for frame in stack if Path(frame.filename).is_relative_to(ROOT / "anchorflow")]
        where = f"{Path(frames[-1].filename).relative_to(ROOT)}:{frames[-1].name}" if frames else "elsewhere"
        self.waits.append((str(func), where))


class _Constructors(TorchFunctionMode):
    """What passes dispatch by: torch.tensor and lists in brackets make a tensor of the host, which is then copied."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = torch.device(kwargs.pop("device"))
            return func(*args, **kwargs).to(device)
        if func is Tensor.__getitem__ and isinstance(args[0], OnDevice) and isinstance(args[1], tuple):
            listed = [torch.tensor(i).to(args[0].device) if isinstance(i, list) else i for i in args[1]]
            return func(args[0], tuple(listed), **kwargs)
        return func(*args, **kwargs)


@contextmanager
def watched() -> Iterator[Watch]:
    """Within the block there are pretended devices."""
    with _Constructors(), Watch() as watch:
        yield watch


@cache
def _register() -> None:
    _setup_privateuseone_for_python_backend(NAME)


def device(number: int = 0) -> torch.device:
    """One of them."""
    _register()
    return torch.device(NAME, number)


def moved(module: nn.Module, to: torch.device) -> None:
    """Put the parameters and buffers of a module there, in place."""
    for part in module.modules():
        for kept in (part._parameters, part._buffers):
            for name, tensor in kept.items():
                if tensor is not None:
                    held = tensor.held if isinstance(tensor, OnDevice) else tensor.detach()
                    there = OnDevice(held, to) if to.type == NAME else held
                    kept[name] = nn.Parameter(there, requires_grad=False) if kept is part._parameters else there  # type: ignore[assignment]


def _run(func: Any, args: Any, kwargs: Any, watch: Watch | None) -> Any:
    wanted = kwargs.get("device")
    tensors = [t for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)]
    there = {t.device for t in tensors if isinstance(t, OnDevice)}
    if wanted is None and not there:
        return func(*args, **kwargs)
    host = [t for t in tensors if not isinstance(t, OnDevice) and t.ndim > 0]
    if func not in SOURCE:
        indices_of_host = func in INDEXING and isinstance(args[0], OnDevice)
        if len(there) > 1 or (there and host and not indices_of_host):
            where = sorted({str(t.device) for t in tensors})
            raise RuntimeError(f"Expected all tensors to be on the same device, but {func} got {where}")
    to = torch.device(wanted) if wanted is not None else next(iter(there), torch.device("cpu"))
    if func is aten.copy_.default:
        to = args[0].device
    on_device = to.type == NAME
    if watch is not None:
        crossing = func in SOURCE and args[SOURCE[func]].device.type != to.type
        masks = func in INDEXING and any(t.dtype == torch.bool for t in tree_iter(args[1]) if isinstance(t, Tensor))
        if func in SEEN_BY_THE_HOST or crossing or masks or (func in INDEXING and there and host):
            watch.note(func)
    inner = {**kwargs, "device": torch.device("cpu")} if wanted is not None else kwargs
    held = tree_map(lambda t: t.held if isinstance(t, OnDevice) else t, (args, inner))
    found = func(*held[0], **held[1])
    mine = {id(t.held): t for t in tensors if isinstance(t, OnDevice)}

    def back(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) in mine:  # in place
            return mine[id(value)]
        return OnDevice(value, to) if on_device else value

    return tree_map(back, found)
