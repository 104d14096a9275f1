"""The page of ``scaling.py``: tables, fitted exponents, figures, and what fits into a given memory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import polars as pl
from scaling import MEASURES

PAGE = Path(__file__).parent.parent / "docs" / "scaling.md"
IMAGES = PAGE.parent / "images"
GIB = 2**30
MEMORIES = {"a card of 24 GB": 24e9 / GIB, "24 GiB": 24.0, "a card of 80 GB": 80e9 / GIB}
"""In GiB."""

TRAINING = 4
"""Numbers for each parameter that training with Adam holds: the parameters, their gradient, and two moments."""

SHARE = 0.8
"""The share of the memory that is taken, as the library's own check does."""

Rows = list[dict[str, Any]]


def exponent(sizes: list[float], values: list[float]) -> float:
    """The slope of log(value) against log(size) over the larger half of the sizes, at least two."""
    first = min(len(sizes) // 2, len(sizes) - 2)
    return float(np.polyfit(np.log(sizes[first:]), np.log(values[first:]), 1)[0])


def of(rows: Rows, what: str) -> Rows:
    return sorted((row for row in rows if row["what"] == what), key=lambda row: (row["parameters"], row["samples"]))


def number(value: float) -> str:
    """Two significant digits, or a whole number."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def size_of(value: float) -> str:
    """A number of parameters in words."""
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if value >= unit:
            return f"{float(f'{value / unit:.2g}'):g} {name}"
    return f"{float(f'{value:.2g}'):,.0f}"


def by_parameters(rows: Rows) -> list[str]:
    """Cost in gradients and memory at each size, with exponents of time and memory in seconds and bytes."""
    sizes = [10_000, 100_000, 1_000_000, 10_000_000, 100_000_000]
    head = " | ".join(f"{size_of(size)}" for size in sizes)
    lines = [
        f"| measure | {head} | time grows as | memory, numbers a parameter, largest | memory grows as |",
        "|---" * (len(sizes) + 4) + "|",
    ]
    for what, title in MEASURES.items():
        found = of(rows, what)
        if len(found) < 2:
            continue
        cells = [""] * len(sizes)
        for row in found:
            place = min(range(len(sizes)), key=lambda i: abs(math.log(sizes[i] / row["parameters"])))
            if abs(math.log(sizes[place] / row["parameters"])) < 0.5:
                cells[place] = number(row["gradients"])
        many = [row["parameters"] for row in found]
        time = exponent(many, [row["seconds"] for row in found])
        held = exponent(many, [max(row["floats"], 0.01) * row["parameters"] for row in found])
        note = f" (to {size_of(found[-1]['parameters'])})" if found[-1]["parameters"] < 5e7 else ""
        last = number(found[-1]["floats"])
        lines.append(f"| {title}{note} | {' | '.join(cells)} | P^{time:.2f} | {last} | P^{held:.2f} |")
    return lines


def by_samples(rows: Rows) -> list[str]:
    counts = sorted({row["samples"] for row in rows})
    lines = [
        f"| measure, seconds | {' | '.join(f'{count:,} samples' for count in counts)} | time grows as |",
        "|---" * (len(counts) + 2) + "|",
    ]
    for what in dict.fromkeys(row["what"] for row in rows):
        found = of(rows, what)
        cells = " | ".join(f"{row['seconds']:.2g}" for row in found)
        growth = exponent([row["samples"] for row in found], [row["seconds"] for row in found])
        lines.append(f"| {MEASURES[what]} | {cells} | n^{growth:.2f} |")
    return lines


def by_pairs(rows: Rows) -> list[str]:
    lines = ["| k | gradients | products | memory, numbers a parameter |", "|---|---|---|---|"]
    lines += [
        f"| {row['k']} | {number(row['gradients'])} | {row['products']} | {number(row['floats'])} |" for row in rows
    ]
    growth = exponent([row["k"] for row in rows], [row["gradients"] for row in rows])
    held = exponent([row["k"] for row in rows], [row["floats"] for row in rows])
    return [*lines, "", f"Time grows as k^{growth:.2f}, memory as k^{held:.2f}."]


def by_processes(rows: Rows) -> list[str]:
    lines = ["| processes | ms a product, by the clock | over one process |", "|---|---|---|"]
    first = rows[0]["seconds"]
    return [
        *lines,
        *(f"| {row['ranks']} | {1e3 * row['seconds']:.1f} | {row['seconds'] / first:.2f} |" for row in rows),
    ]


def by_records(rows: Rows) -> list[str]:
    lines = ["| rows | µs a row written | opening, s | reading the table, s | MB |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['rows']:,} | {1e6 * row['append']:.0f} | {row['open']:.2g} | {row['table']:.2g} "
        f"| {row['bytes'] / 1e6:.2g} |"
        for row in rows
    ]
    growth = {
        name: exponent([row["rows"] for row in rows], [row[name] for row in rows])
        for name in ("open", "table", "bytes")
    }
    return [
        *lines,
        "",
        f"Opening grows as r^{growth['open']:.2f}, reading as r^{growth['table']:.2f}, the file as "
        f"r^{growth['bytes']:.2f}; a row is written in the same time whatever the length.",
    ]


def floats_of(rows: Rows, what: str) -> float:
    """Numbers for each parameter at the two largest sizes: the larger of both."""
    return max(row["floats"] for row in of(rows, what)[-2:])


def what_fits(rows: Rows) -> list[str]:
    """The largest model whose training with Adam and measure fit, activations aside."""
    lines = [
        f"| measure | numbers a parameter | {' | '.join(MEMORIES)} |",
        "|---" * (len(MEMORIES) + 2) + "|",
    ]
    for what, title in MEASURES.items():
        found = of(rows, what)
        if len(found) < 2:
            continue
        if what == "exact":
            # A matrix of float64 and its decomposition: memory grows with the square.
            last = found[-1]
            square = last["floats"] * 4 / last["parameters"]
            fits = [size_of(math.sqrt(SHARE * memory * GIB / square)) for memory in MEMORIES.values()]
            lines.append(f"| {title} | {square / 4:.1f} P | {' | '.join(fits)} |")
            continue
        held = floats_of(rows, what) + TRAINING
        fits = [size_of(SHARE * memory * GIB / 4 / held) for memory in MEMORIES.values()]
        lines.append(f"| {title} | {held:.0f} | {' | '.join(fits)} |")
    return lines


def check_of_fit(rows: Rows) -> list[str]:
    """The memory that the two smaller of the three largest sizes predict for the largest, against what it was."""
    lines = ["| measure | parameters | predicted, GiB | measured, GiB |", "|---|---|---|---|"]
    for what, title in MEASURES.items():
        found = of(rows, what)
        if len(found) < 3:
            continue
        last = found[-1]
        share = max(row["floats"] for row in found[-3:-1])
        grown = share * (last["parameters"] / found[-2]["parameters"] if what == "exact" else 1)
        predicted, true = (4 * last["parameters"] * floats / GIB for floats in (grown, last["floats"]))
        lines.append(f"| {title} | {size_of(last['parameters'])} | {predicted:.2g} | {true:.2g} |")
    return lines


def draw(rows: Rows) -> None:
    """Two figures: gradients and memory against parameters."""
    short = {name: title.split(",")[0] for name, title in MEASURES.items() if name not in ("gradient", "exact")}
    table = pl.DataFrame(
        [
            {
                "parameters": row["parameters"],
                "measure": short[row["what"]],
                "cost in gradients": row["gradients"],
                "memory above training's, GB": max(row["floats"], 0.01) * 4 * row["parameters"] / 1e9,
            }
            for row in rows
            if row["what"] in short
        ]
    )
    axis = alt.Axis(format="~s")
    for name, column in (("time", "cost in gradients"), ("memory", "memory above training's, GB")):
        x = alt.X("parameters", scale=alt.Scale(type="log"), axis=axis, title="parameters")
        y = alt.Y(column, scale=alt.Scale(type="log"), title=column)
        color = alt.Color("measure", sort=list(short.values()), title=None, scale=alt.Scale(scheme="tableau10"))
        chart = alt.Chart(table, width=520, height=300).mark_line(point=True).encode(x, y, color)
        chart.save(IMAGES / f"scaling-{name}.png", scale_factor=2)


def write_page(found: dict[str, Any]) -> None:
    """Put tables between the markers of the page, and draw its figures."""
    rows = found["parameters"]
    sections = {
        "parameters": by_parameters(rows),
        "samples": by_samples(found["samples"]),
        "pairs": by_pairs(found["pairs"]),
        "processes": by_processes(found["processes"]),
        "records": by_records(found["records"]),
        "fits": what_fits(rows),
        "check": check_of_fit(rows),
    }
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in sections.items():
        head, _, rest = text.partition(f"<!-- {name} -->\n")
        tail = rest.partition(f"<!-- end {name} -->")[2]
        text = f"{head}<!-- {name} -->\n" + "\n".join(lines) + f"\n<!-- end {name} -->{tail}"
    PAGE.write_text(text, encoding="utf-8")
    draw(rows)
