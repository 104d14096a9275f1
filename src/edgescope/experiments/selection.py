"""Which runs a claim speaks of, and what of them is one case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from edgescope.experiments.study_run import Runs, StudyRun

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Item(Generic[T]):
    """What becomes one case: its name, what the claim measures, and the factors that tell it apart."""

    name: str
    value: T
    factors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseSelection(Generic[T]):
    """A function from the runs of a study to the items that become cases."""

    choose: Callable[[Runs], Sequence[Item[T]]]

    def __call__(self, runs: Runs) -> Sequence[Item[T]]:
        return self.choose(runs)

    def map(self, function: Callable[[T], U | None]) -> CaseSelection[U]:
        """The same items, each as ``function`` sees it; those for which it returns None are left out."""

        def choose(runs: Runs) -> list[Item[U]]:
            seen = [(item, function(item.value)) for item in self.choose(runs)]
            return [Item(item.name, value, item.factors) for item, value in seen if value is not None]

        return CaseSelection(choose)

    def expand(self, function: Callable[[T], Sequence[Item[U]]]) -> CaseSelection[U]:
        """Several items in place of each, with the factors of both."""

        def choose(runs: Runs) -> list[Item[U]]:
            return [
                Item(inner.name, inner.value, dict(item.factors) | dict(inner.factors))
                for item in self.choose(runs)
                for inner in function(item.value)
            ]

        return CaseSelection(choose)


def tagged(**tags: str | Sequence[str]) -> CaseSelection[StudyRun]:
    """The runs with these tags, one case each; several values of a tag stand for any of them."""
    return CaseSelection(lambda runs: [Item(run.name, run, run.tags) for run in _with(runs, tags)])


def grouped(by: str, **tags: str | Sequence[str]) -> CaseSelection[list[StudyRun]]:
    """The runs with these tags, those with the same value of tag ``by`` together as one case, named by that value.

    The factors of a case are the tags that all of its runs share.
    """

    def choose(runs: Runs) -> list[Item[list[StudyRun]]]:
        groups: dict[str, list[StudyRun]] = {}
        for run in _with(runs, tags):
            if by in run.tags:
                groups.setdefault(run.tags[by], []).append(run)
        return [Item(name, group, _shared(group)) for name, group in groups.items()]

    return CaseSelection(choose)


def whole(name: str, **tags: str | Sequence[str]) -> CaseSelection[list[StudyRun]]:
    """All runs with these tags as one case; none where no such run left a record."""

    def choose(runs: Runs) -> list[Item[list[StudyRun]]]:
        found = _with(runs, tags)
        return [Item(name, found, _shared(found))] if found else []

    return CaseSelection(choose)


def run_tagged(runs: Runs, **tags: str | Sequence[str]) -> StudyRun | None:
    """The first run with these tags; None where there is none."""
    return next(iter(_with(runs, tags)), None)


def _with(runs: Runs, tags: Mapping[str, str | Sequence[str]]) -> list[StudyRun]:
    wanted = {name: (values,) if isinstance(values, str) else tuple(values) for name, values in tags.items()}
    return [run for run in runs.values() if all(run.tags.get(name) in values for name, values in wanted.items())]


def _shared(group: Sequence[StudyRun]) -> dict[str, str]:
    first = group[0].tags
    return {name: value for name, value in first.items() if all(run.tags.get(name) == value for run in group)}
