"""What a monitor is made of: mistakes are one line when it is made, before a folder is written or a hook attached."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monitor_runs import LOSS, backward, data, objective_of, small
from torch.optim import SGD

from edgescope.errors import EdgescopeError, EdgescopeWarning, InputError
from edgescope.measures import MEASURES
from edgescope.measures.loss import LossMeasure
from edgescope.monitor import Every, Monitor
from edgescope.notices import KINDS
from edgescope.objective import Objective
from edgescope.store import Record


class Made:
    """A model, its objective and optimizer, and a record that is closed."""

    def __init__(self, folder: Path) -> None:
        self.model = small()
        self.objective = objective_of(self.model)
        self.optimizer = SGD(self.model.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 5)
        self.closed = Record.create(folder / "closed")
        self.closed.close()

    def monitor(self, *arguments: Any, **options: Any) -> Monitor:
        return Monitor(*(arguments or (self.objective, self.optimizer)), **options)


BAD: dict[str, tuple[Callable[[Made], Any], str]] = {
    # the objective
    "swapped": (lambda m: m.monitor(m.optimizer, m.objective), r"is of type SGD; .* try the objective first"),
    "the model": (
        lambda m: m.monitor(m.model, m.optimizer),
        r"Sequential; .*Objective\(model, loss_fn, data\)",
    ),
    "the loss function": (lambda m: m.monitor(LOSS, m.optimizer), "expected an edgescope.Objective"),
    "the class": (lambda m: m.monitor(Objective, m.optimizer), "is the class Objective"),
    "a list": (lambda m: m.monitor([m.objective], m.optimizer), "is of type list"),
    "no objective": (lambda m: m.monitor(None, m.optimizer), "is of type NoneType"),
    # the optimizer
    "parameters": (lambda m: m.monitor(m.objective, m.model.parameters()), "a list of parameters"),
    "named parameters": (lambda m: m.monitor(m.objective, m.model.named_parameters()), "a list of parameters"),
    "parameter groups": (lambda m: m.monitor(m.objective, m.optimizer.param_groups), "a list of parameters"),
    "the model twice": (lambda m: m.monitor(m.objective, m.model), "the optimizer of this model"),
    "a class of optimizers": (lambda m: m.monitor(m.objective, SGD), "is the class SGD; expected an instance"),
    "a class in a list": (lambda m: m.monitor(m.objective, [m.optimizer, SGD]), "is the class SGD"),
    "a scheduler": (lambda m: m.monitor(m.objective, m.scheduler), "of type StepLR; .* the SGD inside"),
    "nothing in a list": (lambda m: m.monitor(m.objective, []), "an empty list of optimizers; expected at least one"),
    "None in a list": (lambda m: m.monitor(m.objective, [m.optimizer, None]), "of type NoneType"),
    "a dict": (lambda m: m.monitor(m.objective, {"a": m.optimizer}), r"try list\(optimizers.values\(\)\)"),
    "a name": (lambda m: m.monitor(m.objective, "sgd"), "of type str"),
    # evaluations
    "a tuple": (lambda m: m.monitor(evaluations={"test": data()}), r"'test' is of type tuple; .*Objective\(model"),
    "pairs": (lambda m: m.monitor(evaluations=[("test", m.objective)]), "of type list; expected a dict"),
    "an objective": (lambda m: m.monitor(evaluations=m.objective), "of type Objective; expected a dict"),
    "an evaluation's class": (lambda m: m.monitor(evaluations={"t": Objective}), "is the class Objective"),
    "train": (lambda m: m.monitor(evaluations={"train": m.objective}), "a name other than 'train'"),
    "a number as name": (lambda m: m.monitor(evaluations={1: m.objective}), "an evaluation named 1"),
    # where to
    "a closed record": (lambda m: m.monitor(record=m.closed), "cannot be written to: the record is closed"),
    "a path as record": (lambda m: m.monitor(record="runs/a"), "is of type str; .*out= with its folder"),
    "a record's class": (lambda m: m.monitor(record=Record), "is the class Record"),
    "a record as path": (lambda m: m.monitor(out=m.closed), "is of type Record; .*record= with it"),
    "a number as path": (lambda m: m.monitor(out=3), "out= is of type int"),
    "a configuration": (lambda m: m.monitor(config={"a": object()}), "cannot be stored as JSON"),
    # when
    "every=0": (lambda m: m.monitor(every=0), "at least 1"),
    "every=-1": (lambda m: m.monitor(every=-1), "at least 1"),
    "every=True": (lambda m: m.monitor(every=True), "at least 1"),
    "every=10.0": (lambda m: m.monitor(every=10.0), "a whole number"),
    "every='10'": (lambda m: m.monitor(every="10"), "a whole number"),
    "a function of nothing": (lambda m: m.monitor(every=lambda: True), "takes no step"),
    "budget=10": (lambda m: m.monitor(budget=10), "a share of training time, at most 1, such as 0.1"),
    "budget=0": (lambda m: m.monitor(budget=0), "a share of training time"),
    "budget=True": (lambda m: m.monitor(budget=True), "a share of training time"),
    "budget='10%'": (lambda m: m.monitor(budget="10%"), "a share of training time"),
    "both": (lambda m: m.monitor(every=3, budget=0.1), "expected one of them"),
    # what
    "measures=None": (lambda m: m.monitor(measures=None), "measures of type NoneType"),
    "one name": (lambda m: m.monitor(measures="loss"), r"try \['loss'\]"),
    "a measure's class": (
        lambda m: m.monitor(measures=[LossMeasure]),
        r"the class LossMeasure as a measure; .*try LossMeasure\(\)",
    ),
    "the registry": (lambda m: m.monitor(measures=[MEASURES]), "a name or a Measure"),
    "twice": (lambda m: m.monitor(measures=["loss", "loss@1"]), "'loss' was given twice"),
    "no number": (lambda m: m.monitor(measures=["loss@"]), "at least 1 after @, or 'end'"),
    "half a step": (lambda m: m.monitor(measures=["loss@2.5"]), "at least 1 after @"),
    "no such measure": (lambda m: m.monitor(measures=["sharpnes"]), "try 'sharpness'"),
    "ignore": (lambda m: m.monitor(on_error="ignore"), "unknown on_error 'ignore'; expected one of warn, raise"),
}


@pytest.mark.parametrize("name", BAD)
def test_mistakes_are_told_at_once_in_one_line(name: str, tmp_path: Path) -> None:
    made = Made(tmp_path)
    call, words = BAD[name]
    with pytest.raises(EdgescopeError, match=words) as caught:
        call(made)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, InputError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["closed"]
    backward(made.model)
    made.optimizer.step()  # nothing was attached


def test_a_mistake_leaves_no_folder_behind(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for options in ({"measures": ["sharpnes"]}, {"every": 0}, {"evaluations": {"test": data()}}, {"on_error": "no"}):
        with pytest.raises(InputError):
            made.monitor(out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    made.monitor(out=tmp_path / "run").close()


def test_what_is_unusual_and_fine(tmp_path: Path) -> None:
    made = Made(tmp_path)
    assert made.monitor(made.objective, [made.optimizer, made.optimizer]).optimizers == [made.optimizer]
    assert made.monitor(made.objective, (o for o in [made.optimizer])).optimizers == [made.optimizer]
    assert made.monitor(every=np.int64(5)).schedule == Every(5)
    assert made.monitor(every=range(3).__contains__, out=str(tmp_path / "text")).schedule.due(2)
    assert made.monitor(evaluations={}, out=tmp_path / "path").evaluations == {}


def test_an_optimizer_of_another_model_is_told_of(tmp_path: Path) -> None:
    made = Made(tmp_path)
    with pytest.warns(EdgescopeWarning, match="SGD holds no parameter of the objective"):
        made.monitor(made.objective, SGD(small().parameters(), lr=0.1))


def test_the_documentation_names_what_there_is() -> None:
    text = inspect.getdoc(Monitor)
    assert text is not None
    given = list(inspect.signature(Monitor).parameters)
    described = [line.strip().split(":")[0] for line in text.split("Args:")[1].splitlines() if line.startswith("    ")]
    assert [name for name in described if name.isidentifier()] == given
    assert all(isinstance(words, str) and words for words in KINDS.values())
    assert "EdgescopeWarning" in text
    assert "notices.KINDS" in text
