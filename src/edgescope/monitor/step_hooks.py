"""Seeing every step of some optimizers, and of others that step the same parameters, by torch's own hooks."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from edgescope.optim import SAM

KEPT: Final = "_edgescope_listeners"
"""The attribute by which an optimizer keeps its listeners alive."""


@runtime_checkable
class Listener(Protocol):
    """What is called at steps. ``ready`` says whether ``.grad`` has the gradient of the step that begins already."""

    def before_step(self, optimizer: torch.optim.Optimizer, ready: bool) -> None: ...

    def after_step(self, optimizer: torch.optim.Optimizer) -> None: ...

    def before_other(self, optimizer: torch.optim.Optimizer) -> None: ...

    def after_other(self, optimizer: torch.optim.Optimizer) -> None: ...


class UnderWay(NamedTuple):
    """A step that has begun: of which optimizer, and the frame that runs it, which shows whether it still does."""

    optimizer: torch.optim.Optimizer
    frame: int
    code: CodeType


class StepHooks:
    """Calls a listener before and after each step of ``optimizers``, and of others that hold one of their parameters.

    A step in which an optimizer calls the step of its base class, or of an optimizer inside it, is one step: that of
    the one outside. Steps that a gradient scaler skips are not reported, nor those of another optimizer that takes a
    step of one of ``optimizers`` inside its own. ``holds(optimizer)`` says whether another holds a parameter that
    matters; ``others_stepped`` counts the steps of those that do not, in the thread that asks.

    The listener lives as long as one of its optimizers does, or somebody refers to it.
    """

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        listener: Listener,
        holds: Callable[[torch.optim.Optimizer], bool],
    ) -> None:
        self._optimizers: list[torch.optim.Optimizer] = []
        self._first_steps: dict[int, RemovableHandle] = {}
        self._listener = listener
        self._holds = holds
        self._of_thread = threading.local()
        self._wrapping: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        self._begun: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()  # SAM between its two gradients
        self.watch(optimizers)
        _register()
        self._entry = weakref.ref(self, _forget)
        _listening.append(self._entry)

    def watch(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Report the steps of these from now on."""
        known, before, self._optimizers = self._first_steps, self._optimizers, list(optimizers)
        self._first_steps = {
            id(one): known.pop(id(one)) if id(one) in known else one.register_first_step_pre_hook(self._before_first)
            for one in self._optimizers
            if isinstance(one, SAM)
        }
        for handle in known.values():
            handle.remove()
        for one in before:
            _let_go(one, self._listener)
        for one in self._optimizers:
            vars(one).setdefault(KEPT, Listeners()).append(self._listener)

    def remove(self) -> None:
        """Report nothing any more."""
        self.watch([])
        _forget(self._entry)

    @property
    def others_stepped(self) -> int:
        """How many steps of optimizers of other parameters this thread has taken."""
        return getattr(self._of_thread, "others", 0)

    @property
    def _inside(self) -> list[UnderWay]:
        """The steps of this thread that have begun, the outermost first."""
        if not hasattr(self._of_thread, "inside"):
            self._of_thread.inside = []
        found: list[UnderWay] = self._of_thread.inside
        return found

    def _ours(self, optimizer: torch.optim.Optimizer) -> bool:
        return any(optimizer is own for own in self._optimizers)

    def before(self, optimizer: torch.optim.Optimizer, closure: bool, frame: FrameType) -> None:
        """A step begins, run by ``frame``; with a closure, which is to work out the gradient."""
        inside = self._inside
        if inside:  # some of these may have ended in an exception, which no hook reports
            running = dict(_callers(frame))
            inside[:] = [step for step in inside if running.get(step.frame) is step.code]
        outer = [step.optimizer for step in inside]
        inside.append(UnderWay(optimizer, id(frame), frame.f_code))
        if self._ours(optimizer):
            self._wrapping.update(other for other in outer if not self._ours(other))
            if optimizer in self._begun:
                self._begun.discard(optimizer)
            elif not any(self._ours(other) for other in outer):
                self._listener.before_step(optimizer, not closure and not isinstance(optimizer, SAM))
        elif not outer and optimizer not in self._wrapping:
            if self._holds(optimizer):
                self._listener.before_other(optimizer)
            else:
                self._of_thread.others = self.others_stepped + 1

    def _before_first(self, optimizer: SAM) -> None:
        """The step of SAM begins where it leaves w, and not where ``step()`` goes back to it."""
        if not any(self._ours(step.optimizer) for step in self._inside):
            self._begun.add(optimizer)
            self._listener.before_step(optimizer, False)

    def after(self, optimizer: torch.optim.Optimizer) -> None:
        """A step is done."""
        inside = self._inside
        if not any(step.optimizer is optimizer for step in inside):
            return  # it began before anybody listened
        while inside.pop().optimizer is not optimizer:
            pass  # steps that raised an exception have no end
        if _skipped(optimizer) or any(self._ours(step.optimizer) for step in inside):
            return
        if self._ours(optimizer):
            self._listener.after_step(optimizer)
        elif not inside and optimizer not in self._wrapping and self._holds(optimizer):
            self._listener.after_other(optimizer)


_listening: list[weakref.ref[StepHooks]] = []
"""All hooks there are. Torch goes through its own table of hooks during a step, in whatever thread that is, and raises
where the table changes meanwhile; so one pair of hooks stays in it for good, and these may come and go."""


def _forget(entry: weakref.ref[StepHooks]) -> None:
    with contextlib.suppress(ValueError):
        _listening.remove(entry)


def _all() -> Iterator[StepHooks]:
    for entry in tuple(_listening):
        if (hooks := entry()) is not None:
            yield hooks


@functools.cache
def _register() -> None:
    def before(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        closure = kwargs.get("closure") is not None or any(callable(given) for given in args[1:])
        _eagerly(_before)(optimizer, closure, sys._getframe(1))

    def after(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        _eagerly(_after)(optimizer)

    for hook in (before, after):
        hook._torchdynamo_disable = True  # type: ignore[attr-defined]  # not to be compiled itself
    register_optimizer_step_pre_hook(before)
    register_optimizer_step_post_hook(after)


def _before(optimizer: torch.optim.Optimizer, closure: bool, frame: FrameType) -> None:
    for hooks in _all():
        hooks.before(optimizer, closure, frame)


def _after(optimizer: torch.optim.Optimizer) -> None:
    for hooks in _all():
        hooks.after(optimizer)


def _eagerly(function: Callable[..., None]) -> Callable[..., None]:
    """The function, whose callees are not compiled either where ``step`` is (``torch.compile(optimizer.step)``)."""
    if "torch._dynamo" not in sys.modules:  # else nothing can be compiled, and importing it takes seconds
        return function
    return _not_compiled(function)


@functools.cache
def _not_compiled(function: Callable[..., None]) -> Callable[..., None]:
    return torch.compiler.disable(function)


class Listeners(list[Listener]):
    """Who listens to an optimizer, kept alive by it; copies of the optimizer have none."""

    def __deepcopy__(self, memo: Any) -> Listeners:
        return Listeners()

    def __reduce__(self) -> tuple[type[Listeners], tuple[()]]:
        return Listeners, ()


def _let_go(optimizer: torch.optim.Optimizer, listener: Listener) -> None:
    others = Listeners(other for other in vars(optimizer).pop(KEPT, ()) if other is not listener)
    if others:
        vars(optimizer)[KEPT] = others


def _callers(frame: FrameType) -> Iterator[tuple[int, CodeType]]:
    """Identity and code of every frame outside of this one."""
    outer = frame.f_back
    while outer is not None:
        yield id(outer), outer.f_code
        outer = outer.f_back


def _skipped(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer has left the parameters as they were, since a gradient scaler found infinities."""
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, torch.Tensor) and bool(found.any())
