"""How often the truth lies inside one, two and three stated errors, for every figure that states one.

The truth is that of the dense float64 Hessian, over 200 small random networks: those of ``tests/random_networks.py``,
measured as in ``tests/error_trials.py``. The table goes to ``docs/benchmarks.md``. ``--quick`` takes 30 networks and
writes nothing. ``--save FILE`` writes the shares to a file instead, from where ``--before FILE`` takes those of another
version of the library; by default those in ``error_coverage.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from pathlib import Path

import torch
from curvature import write
from threadpoolctl import threadpool_limits

BEFORE = Path(__file__).with_suffix(".json")
TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "sharpness")]

from bracket_trials import BRACKETS  # noqa: E402
from edge_trials import EDGE, PAIRS  # noqa: E402
from error_trials import BOUNDED, DIMENSIONS, FURTHER, NOMINAL, SAMPLED, Coverage, Figure, coverage  # noqa: E402

NOTE = (
    "Share of 200 small random networks whose true figure lies inside one / two / three stated errors, in %: nominally "
    "68.3 / 95.4 / 99.7, within a sampling error of 3.3 / 1.5 / 0.4. Errors of eigenvalues and of directional "
    "smoothness are estimated bounds, where the first share should be near 100; a bracket is one error wide to either "
    "side of its middle, and should hold the truth always; that of a headroom on all data is one, too. Mini-batches "
    "have a quarter of the samples, 2 to 12, unless another number is said. The last column is the median of the "
    "stated error over the deviation: 1.5 for a normal distribution, more where errors are stated larger than they "
    "are. Before: the same networks and seeds, when errors did not allow for rounding, depth and few probes as they "
    "do now."
)


def shares(found: Coverage) -> str:
    return " / ".join(f"{100 * found.share(times):.1f}" for times in NOMINAL)


def row(name: str, figure: Figure, count: int, before: dict[str, str], *, tiny: bool = False) -> tuple[str, str]:
    try:
        found = coverage(figure, count, tiny)
    except (AttributeError, TypeError, ValueError) as error:  # a version that states no such error
        print(f"{name}: {error}", file=sys.stderr)
        return "none", f"| {name} | | none | |"
    ratio = f"{found.ratio:.1f}" if found.ratio < 1000 else "over 1000"
    return shares(found), f"| {name} | {before.get(name, '')} | {shares(found)} | {ratio} |"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="30 networks, nothing written")
    options.add_argument("--save", type=Path, help="write the shares to this file, and no page")
    options.add_argument("--before", type=Path, default=BEFORE, help="a file of shares of another version")
    given = options.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    before = json.loads(given.before.read_text(encoding="utf-8"))
    lines = ["## (ec) How often stated errors cover the truth", "", *textwrap.wrap(NOTE, 120), ""]
    lines += ["| figure | before | inside 1 / 2 / 3 errors, % | stated error over deviation |", "|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    found = {}
    for figures in (SAMPLED, DIMENSIONS, BOUNDED, BRACKETS, FURTHER, EDGE, PAIRS):
        for name, figure in figures.items():
            found[name], line = row(name, figure, 30 if given.quick else 200, before, tiny=figures is BRACKETS)
            print(line, flush=True)
            lines.append(line)
    if given.save:
        given.save.write_text(json.dumps(found, indent=1), encoding="utf-8")
    elif not given.quick:
        write("ec", lines, "float32 and float64")


if __name__ == "__main__":
    main()
