"""What a study is: runs, the claims that they test, and the figures that show them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import Field, fields, is_dataclass
from typing import Any, ClassVar

from edgescope.claims import Finding
from edgescope.experiments.manifest import ManifestEntry, entries_of
from edgescope.experiments.preset import Preset as Preset
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure
from edgescope.studies.tested_claim import Topic
from edgescope.sweep import Task


class Study(ABC):
    """A set of runs with the claims that they test. A new one is a file, and one line in ``studies/__init__``."""

    name: ClassVar[str]
    title: ClassVar[str]
    abstract: ClassVar[str]
    paper: ClassVar[str]
    topics: ClassVar[Sequence[Topic]] = ()
    """The claims, in reading order, under the headings of the report."""
    unknown: ClassVar[tuple[str, ...]] = ()
    """What is known and what is not known of the paper's own runs, which the preset "paper" repeats."""

    @property
    def spec(self) -> str:
        """What builds it again: its name, and the options that were given, if it is a dataclass that has any."""
        options: tuple[Field[Any], ...] = fields(self) if is_dataclass(self) else ()
        given = ",".join(f"{f.name}={v}" for f in options if (v := getattr(self, f.name)) != f.default)
        return f"{self.name}:{given}" if given else self.name

    @abstractmethod
    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        """What has to be run. Every task resumes in its own folder."""

    def entries(self, tasks: Sequence[Task]) -> list[ManifestEntry]:
        """The runs that the tasks leave records of, with their folders and tags."""
        return [entry for task in tasks for entry in entries_of(task)]

    def findings(self, runs: Runs) -> list[Finding]:
        """A verdict on every claim, from the runs that left a record (failed ones may be missing)."""
        return [tested.finding(runs) for topic in self.topics for tested in topic.claims]

    @abstractmethod
    def figures(self, runs: Runs) -> list[Figure]:
        """The pictures of the report, in reading order."""
