"""The modes of linear networks that were swept in weight decay, with what each sweep found of them."""

from __future__ import annotations

from dataclasses import dataclass

from edgescope.experiments.phases.readings import Piece, pieces_of
from edgescope.experiments.phases.sweeps import SIGNALS
from edgescope.experiments.selection import CaseSelection, Item, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.theory.deep_linear import Mode


@dataclass(frozen=True)
class SweptMode:
    """One mode of a sweep up and down, and the other sweeps of the same task by name."""

    signal: float
    sweep: Piece
    others: dict[str, Piece]

    @property
    def mode(self) -> Mode:
        """The mode in closed form."""
        return Mode(int(self.sweep["depth"]), self.signal)

    def of(self, what: str, sweep: str = "") -> float:
        """What was found of this mode, in this sweep or in another; NaN where it was not found."""
        return (self.others[sweep] if sweep else self.sweep)[f"{what}/{self.signal:g}"]


def modes_of(*sweeps: str, signals: tuple[float, ...] = SIGNALS) -> CaseSelection[SweptMode]:
    """The modes of these sweeps, one case each."""

    def modes(run: StudyRun) -> list[Item[SweptMode]]:
        found = {p.note: p for p in pieces_of(run, "sweep")}
        return [
            Item(f"depth {depth}, signal {signal:g}", SweptMode(signal, found[name], found), {"depth": depth})
            for name in sweeps
            if name in found and (depth := f"{found[name]['depth']:g}")
            for signal in signals
        ]

    return tagged(kind="sweeps").expand(modes)
