"""A second device for tests, in pure Python: what needs an accelerator's rules can be tested on a machine without one.

Inside ``second_device()`` there is ``torch.device("second")``. Its tensors compute on the CPU, so that results are the
same, and keep an accelerator's rules: an operation that meets a tensor of the CPU raises, as does a generator of
the CPU; random numbers come from a generator of its own; tensors cannot be read by NumPy. :func:`traffic` counts how
often the host waits for the device, and what is copied between the two.

It is a tensor subclass around a CPU tensor, registered as torch's one extra backend ("PrivateUse1"), which is an
experimental interface of torch. There are no streams, no ``torch.compile`` and no autocast on it.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "second"

_COPIES = ("aten::_to_copy", "aten::copy_", "aten::_copy_from", "aten::_copy_from_and_resize")
_INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
_READ_BY_HOST = (  # a number, or the shape of the result, has to be known on the host
    "aten::_local_scalar_dense",
    "aten::equal",
    "aten::is_nonzero",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::bincount",
    "aten::repeat_interleave",
    "aten::_linalg_eigh",  # these read whether the decomposition succeeded
    "aten::linalg_eig",
    "aten::_linalg_svd",
    "aten::linalg_lstsq",
    "aten::_linalg_solve_ex",
    "aten::linalg_cholesky_ex",
)
_MADE_EMPTY = (  # torch makes these empty and resizes them, which a wrapper does not notice
    *("eye", "eye.m", "arange", "arange.start", "arange.start_step", "linspace", "logspace", "randperm"),
    *("randperm.generator", "tril_indices", "triu_indices"),
)
_SCALARS_ALLOWED = ("aten::where", "aten::masked_fill", "aten::masked_fill_", "aten::fill_", "aten::lerp")


@dataclass
class Traffic:
    """What passed between the host and the device, counted by kind and by the calling function of the library.

    ``waits``: the host waited for the device, to read a number, a shape or a tensor, or for a blocking copy to it.
    ``to_host`` and ``to_device``: copies of tensors. With ``non_blocking=True`` they are no wait; on the host such a
    copy then has no values before ``torch.accelerator.synchronize``.
    """

    waits: int = 0
    to_host: int = 0
    to_device: int = 0
    places: Counter[str] = field(default_factory=Counter)


_counting: list[Traffic] = []
_under_way: list[tuple[Tensor, Tensor]] = []  # copies to the host that have not arrived: target, values


@contextmanager
def traffic() -> Iterator[Traffic]:
    """Count the traffic of what runs inside."""
    found = Traffic()
    _counting.append(found)
    try:
        yield found
    finally:
        _counting.remove(found)


def _count(kind: str, *, wait: bool) -> None:
    if not _counting:
        return
    place = _place()
    for found in _counting:
        found.waits += wait
        found.to_host += kind == "to host"
        found.to_device += kind == "to device"
        found.places[f"{place}: {kind}{'' if wait else ', no wait'}"] += 1


def _place() -> str:
    """The innermost function of the library under way, but for those that only copy; backward passes run in a thread
    that has none.
    """
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if "/edgescope/" in file and not file.endswith("/transfers.py"):
            return f"{frame.f_code.co_filename.split('/edgescope/')[-1]}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


class SecondTensor(Tensor):
    """A tensor on the second device: its values are those of a tensor on the CPU."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> SecondTensor:
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device=torch.device(NAME, 0),
        )
        made.values = values
        return made

    def __repr__(self, **_: Any) -> str:
        return f"{self.values!r} on {NAME}"

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.values.untyped_storage()

    def data_ptr(self) -> int:
        return self.values.data_ptr()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu()")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = self.detach().clone()
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied)
        return memo.setdefault(id(self), copied.requires_grad_(self.requires_grad))

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation in which a tensor, or the device that is asked for, is the second one."""
    name = func._schema.name
    tensors = _tensors((args, kwargs))
    mine = [tensor for tensor in tensors if isinstance(tensor, SecondTensor)]
    asked = kwargs.get("device")
    there = bool(mine) if asked is None else _is_second(asked)
    if asked is not None:
        kwargs = {**kwargs, "device": torch.device("cpu") if there else asked}
    copied, non_blocking = None, False
    if name in _COPIES:
        copied = _copied(args, there)
        into = name == "aten::copy_" and copied == "to device" and args[2:3] == (True,)
        non_blocking = into or bool(kwargs.get("non_blocking"))
        if copied:
            _count(copied, wait=not non_blocking)
    else:
        _refuse_strangers(func, name, args, tensors if mine else [])
        _refuse_generator(name, kwargs.get("generator"))
        if mine and (name in _READ_BY_HOST or _boolean_index(name, args)):
            _count("read", wait=True)
    if name == "aten::_efficientzerotensor":  # a tensor without memory, which a wrapper would hide from torch
        func = torch.ops.aten.zeros.default
    with _own_random_numbers() if torch.Tag.nondeterministic_seeded in func.tags else nullcontext():
        result = func(*_values(args), **_values(kwargs))
    if name == "aten::copy_":
        return args[0]
    if copied == "to host" and non_blocking:
        return _arriving(result)
    if there:
        _refuse_double(result)
        result = _changed(result, Tensor, SecondTensor)
    return return_and_correct_aliasing(func, args, kwargs, result) if there and mine and _aliases(func) else result


def _operation(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _make(func: Any, *args: Any, **kwargs: Any) -> Any:
    return _compute(func, args, kwargs)


def _values(of: Any) -> Any:
    return _changed(of, SecondTensor, lambda tensor: tensor.values)


def _changed(of: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Arguments or results of an operation with every ``kind`` changed; torch's own ``tree_map`` is much slower."""
    if isinstance(of, kind):
        return change(of)
    if isinstance(of, list | tuple):
        return type(of)([_changed(part, kind, change) for part in of])
    if isinstance(of, dict):
        return {key: _changed(value, kind, change) for key, value in of.items()}
    return of


def _tensors(of: Any) -> list[Tensor]:
    if isinstance(of, Tensor):
        return [of]
    parts = of.values() if isinstance(of, dict) else of if isinstance(of, list | tuple) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


@functools.cache
def _aliases(func: Any) -> bool:
    """Whether a result is a view of an argument, or an argument itself."""
    return any(value.alias_info is not None for value in (*func._schema.returns, *func._schema.arguments))


def _is_second(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _copied(args: tuple[Any, ...], there: bool) -> str | None:
    """Which way a copy goes; ``args`` begins with the tensor to copy, or with target and source of ``copy_``."""
    tensors = [arg for arg in args[:2] if isinstance(arg, Tensor)]
    source = isinstance(tensors[-1], SecondTensor)
    target = isinstance(tensors[0], SecondTensor) if len(tensors) == 2 else there
    return None if source == target else "to host" if source else "to device"


def _arriving(values: Tensor) -> Tensor:
    """A copy that the host did not wait for: it has its values once the device was waited for."""
    target = torch.full_like(values, torch.nan if values.is_floating_point() else 0)
    _under_way.append((target, values))
    return target


def _boolean_index(name: str, args: tuple[Any, ...]) -> bool:
    """Indexing with a mask reads how many entries it has, and indices of the CPU have to be copied."""
    if name not in _INDEXED:
        return False
    indices = [index for index in args[1] if index is not None]
    return any(index.dtype in (torch.bool, torch.uint8) or not isinstance(index, SecondTensor) for index in indices)


def _refuse_strangers(func: Any, name: str, args: tuple[Any, ...], tensors: list[Tensor]) -> None:
    """Raise where tensors of the CPU take part, except where an accelerator takes them: numbers, and indices."""
    strangers = [tensor for tensor in tensors if not isinstance(tensor, SecondTensor)]
    if name in _INDEXED and isinstance(args[0], SecondTensor):
        indices = [id(index) for index in args[1]]
        strangers = [tensor for tensor in strangers if id(tensor) not in indices]
    scalars = torch.Tag.pointwise in func.tags or name in (*_SCALARS_ALLOWED, *_INDEXED)
    target_on_cpu = func._schema.is_mutable and not isinstance(args[0] if args else None, SecondTensor)
    if any(tensor.dim() or not scalars for tensor in strangers) or (strangers and target_on_cpu):
        raise RuntimeError(f"Expected all tensors to be on the same device, found {NAME} and cpu in {name}")


def _refuse_generator(name: str, generator: torch.Generator | None) -> None:
    if generator is not None:
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu' in {name}")


def _refuse_double(result: Any) -> None:
    if not _module.double and any(tensor.dtype == torch.float64 for tensor in _tensors(result)):
        raise TypeError(f"Cannot convert a tensor of {NAME} to float64, which it does not have")


class _Module:
    """What ``torch.second`` is: the functions of a device's module that torch and the library call."""

    def __init__(self) -> None:
        self.present, self.double = False, True
        self._state = torch.Generator().manual_seed(0).get_state()

    def is_initialized(self) -> bool:
        return self.present

    def is_available(self) -> bool:
        return self.present

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return int(self.present)

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        self._state = torch.Generator().manual_seed(seed).get_state()

    def get_rng_state(self, device: Any = NAME) -> Tensor:
        return self._state.clone()

    def set_rng_state(self, state: Tensor, device: Any = NAME) -> None:
        self._state = state.clone()


_module = _Module()
_registered: list[Any] = []  # a library that is no longer referred to takes its registrations with it


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """Random operations draw from the device's own generator; that of the CPU is left as it is."""
    before = torch.get_rng_state()
    torch.set_rng_state(_module.get_rng_state())
    try:
        yield
    finally:
        _module.set_rng_state(torch.get_rng_state())
        torch.set_rng_state(before)


def _made_through_the_cpu(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch makes tensors of Python's numbers below the dispatcher, where a device in Python is not asked."""

    def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if not _is_second(device):
            return make(data, *args, device=device, **kwargs)
        grad = kwargs.pop("requires_grad", False)
        return make(data, *args, device="cpu", **kwargs).to(NAME).requires_grad_(grad)

    return made


def _synchronize(device: Any = None) -> None:
    """``torch.accelerator.synchronize``, which a device in Python cannot offer: copies under way arrive."""
    _count("synchronize", wait=True)
    for target, values in _under_way:
        target.copy_(values)
    _under_way.clear()


@contextmanager
def second_device(*, double: bool = True) -> Iterator[torch.device]:
    """The second device; ``double=False``: without float64, as Apple's GPUs are.

    What it needs of torch is put back at the end; its name stays known to the process.
    """
    if not _registered:
        _setup_privateuseone_for_python_backend(NAME, backend_module=_module)
        _registered.append(torch.library.Library("_", "IMPL", "PrivateUse1"))
        _registered[0].fallback(lambda func, *args, **kwargs: _compute(func, args, kwargs))
        _registered.append(torch.library.Library("aten", "IMPL"))
        for name in _MADE_EMPTY:
            _registered[1].impl(name, functools.partial(_make, _operation(name)), "PrivateUse1")
    replaced = [
        (torch, "tensor", _made_through_the_cpu(torch.tensor)),
        (torch, "as_tensor", _made_through_the_cpu(torch.as_tensor)),
        (torch.accelerator, "synchronize", _synchronize),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    for owner, name, function in replaced:
        setattr(owner, name, function)
    _module.present, _module.double = True, double
    try:
        yield torch.device(NAME)
    finally:
        _module.present = False
        for owner, name, function in before:
            setattr(owner, name, function)
