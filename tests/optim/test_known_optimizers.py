"""Which optimizer is meant: inside the wrappers of frameworks, a subclass that steps alike, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from edgescope.errors import InputError, NotKnownError
from edgescope.optim import SAM, JointRule, add_rule, rule_for, unwrapped
from edgescope.optim.adam import AdamRule
from edgescope.optim.known import BY_NAME, RULES
from edgescope.optim.sgd import SGDRule


def one() -> Tensor:
    return torch.ones(2, 2, requires_grad=True)


class Accelerated(torch.optim.Optimizer):
    """As Accelerate has it: a torch optimizer that hands everything on."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def state(self) -> Any:
        return self.optimizer.state

    @property
    def param_groups(self) -> Any:
        return self.optimizer.param_groups

    def step(self, closure: Any = None) -> Any:
        return self.optimizer.step(closure)


class Imitating:
    """As Lightning and Fabric have it: the wrapper's class derives, at run time, from that of the optimizer inside."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        kind = type(optimizer)
        self.__class__ = type("Lightning" + kind.__name__, (type(self), kind), {"__module__": type(self).__module__})

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self._optimizer

    def step(self, closure: Any = None) -> Any:
        return self._optimizer.step(closure)


class Private:
    """A wrapper that shows nothing of what is inside."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    def step(self) -> None:
        self._optimizer.step()


def of_package(name: str, kind: type) -> type:
    return type(kind.__name__, (kind,), {"__module__": name, "step": kind.step})


WRAPPERS = [
    of_package("accelerate.optimizer", Accelerated),
    of_package("lightning.pytorch.core.optimizer", Imitating),
    of_package("lightning.fabric.wrappers", Imitating),
    of_package("pytorch_lightning.core.optimizer", Imitating),
    of_package("transformers.trainer", Private),
]


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_wrappers_of_frameworks_are_taken_off(wrapper: type, kind: type) -> None:
    p = one()
    optimizer = kind([p], lr=0.1, weight_decay=0.0)
    assert unwrapped(optimizer) is optimizer
    assert unwrapped(wrapper(optimizer)) is optimizer
    assert unwrapped(WRAPPERS[4](wrapper(optimizer))) is optimizer
    rule = rule_for(wrapper(optimizer), [p])
    assert rule.optimizer is optimizer
    assert rule.threshold().value == pytest.approx(20 if kind is torch.optim.SGD else 380)


def test_wrappers_in_a_list() -> None:
    p, q = one(), one()
    first, second = torch.optim.SGD([p], lr=0.1), torch.optim.Muon([q], lr=0.1)
    rule = rule_for([WRAPPERS[0](first), WRAPPERS[1](second)], [p, q])
    assert isinstance(rule, JointRule)
    assert rule.optimizers == [first, second]


class Lookahead(torch.optim.Optimizer):
    """An optimizer around another one, whose own step differs."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        super().__init__(optimizer.param_groups, {})

    def step(self, closure: Any = None) -> None:
        raise NotImplementedError


def test_an_optimizer_around_another_is_not_taken_for_it() -> None:
    p = one()
    sam = SAM([p], torch.optim.SGD, lr=0.1)
    assert unwrapped(sam) is sam
    assert rule_for(sam, [p]).gradients == 2
    for made in (Lookahead(torch.optim.SGD([p], lr=0.1)), WRAPPERS[0](Lookahead(torch.optim.SGD([p], lr=0.1)))):
        with pytest.raises(NotKnownError, match="Lookahead, which has SGD inside and may step differently"):
            rule_for(made, [p])
    with pytest.raises(InputError, match=r"of type Private; expected a torch.optim.Optimizer; try the SGD inside"):
        rule_for(Private(torch.optim.SGD([p], lr=0.1)), [p])
    with pytest.raises(InputError, match=r"of type str; expected a torch.optim.Optimizer$"):
        unwrapped("adam")


class ZeroRedundancyOptimizer(torch.optim.SGD):
    """Stands for torch's own, which needs processes."""


class MyZero(ZeroRedundancyOptimizer):
    pass


class DeepSpeedZeroOptimizer:
    """Stands for DeepSpeed's, which is no torch optimizer."""

    def step(self) -> None:
        raise NotImplementedError


class FlatParameter(torch.nn.Parameter):
    """Stands for that of FullyShardedDataParallel."""


def test_what_is_distributed_is_refused_by_name() -> None:
    p = one()
    with pytest.raises(NotKnownError, match="ZeroRedundancyOptimizer is not known: each process"):
        rule_for(ZeroRedundancyOptimizer([p], lr=0.1), [p])
    with pytest.raises(NotKnownError, match="MyZero is not known: each process"):
        rule_for(MyZero([p], lr=0.1), [p])
    wrapper = WRAPPERS[0](torch.optim.SGD([p], lr=0.1))
    wrapper.optimizer = DeepSpeedZeroOptimizer()
    with pytest.raises(NotKnownError, match="DeepSpeedZeroOptimizer is not known: each process"):
        rule_for(wrapper, [p])
    flat, marked = FlatParameter(torch.ones(3)), one()
    marked._fsdp_flattened = True  # type: ignore[attr-defined]
    for sharded in (flat, marked):
        with pytest.raises(NotKnownError, match="sharded over processes"):
            rule_for(torch.optim.SGD([sharded], lr=0.1), [sharded])


# Rules of one's own.


@pytest.fixture
def rules() -> Iterator[None]:
    kept, by_name = dict(RULES), dict(BY_NAME)
    yield
    RULES.clear()
    RULES.update(kept)
    BY_NAME.clear()
    BY_NAME.update(by_name)


class MyAdam(torch.optim.Adam):
    pass


class MyAdamW(torch.optim.AdamW):
    pass


class Unrelated(torch.optim.Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {})


@pytest.mark.usefixtures("rules")
def test_a_subclass_that_steps_alike() -> None:
    p = one()
    with pytest.raises(NotKnownError) as caught:
        rule_for(MyAdam([p], lr=0.1), [p])
    assert "optimizer MyAdam, a subclass of Adam that may step differently" in str(caught.value)
    assert "add_rule(MyAdam, same_as=torch.optim.Adam) if its steps are those of Adam" in str(caught.value)
    assert add_rule(MyAdam, same_as=torch.optim.Adam) is MyAdam
    rule = rule_for(MyAdam([p], lr=0.1), [p])
    assert type(rule) is AdamRule
    assert rule.threshold().value == pytest.approx(380)
    with pytest.raises(NotKnownError, match=r"same_as=torch.optim.AdamW"):  # AdamW is one of Adam's own subclasses
        rule_for(MyAdamW([p], lr=0.1), [p])


@pytest.mark.usefixtures("rules")
def test_a_rule_by_decorator() -> None:
    @add_rule
    class MyRule(SGDRule):
        kinds = (MyAdam,)

    p = one()
    assert type(rule_for(MyAdam([p], lr=0.5), [p])) is MyRule


@pytest.mark.usefixtures("rules")
def test_a_rule_by_the_name_of_a_class() -> None:
    class Elsewhere(torch.optim.SGD):
        pass

    Elsewhere.__module__ = "package.deep.inside"

    class OfPackage(SGDRule):
        kinds, names = (), ("package.Elsewhere",)

    class OfAnybody(SGDRule):
        kinds, names = (), ("Elsewhere",)

    p = one()
    add_rule(OfAnybody)
    assert type(rule_for(Elsewhere([p], lr=0.5), [p])) is OfAnybody
    add_rule(OfPackage)
    assert type(rule_for(Elsewhere([p], lr=0.5), [p])) is OfPackage
    Elsewhere.__module__ = "another.package"
    assert type(rule_for(Elsewhere([p], lr=0.5), [p])) is OfAnybody


@pytest.mark.usefixtures("rules")
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ((MyAdam, None), "MyAdam is not an update rule; expected a subclass of UpdateRule; try same_as="),
        ((type("Nameless", (AdamRule,), {"kinds": ()}), None), "the update rule Nameless names no optimizer"),
        ((MyAdam, Unrelated), "same_as=Unrelated; expected one of ASGD"),
        ((MyAdam, "adam"), "same_as=a str; expected one of ASGD"),
        ((Unrelated, torch.optim.Adam), "Unrelated is not a subclass of Adam"),
        (("MyAdam", torch.optim.Adam), "a str is not a subclass of Adam"),
    ],
)
def test_what_add_rule_refuses(arguments: Any, names: str) -> None:
    with pytest.raises(InputError, match=names) as caught:
        add_rule(arguments[0], same_as=arguments[1])
    assert "\n" not in str(caught.value)


def test_variants_of_an_implementation_are_one_type() -> None:
    p = one()
    for options in ({"foreach": True}, {"fused": True}, {"foreach": False}):
        assert rule_for(torch.optim.Adam([p], lr=0.1, **options), [p]).threshold().value == pytest.approx(380)
