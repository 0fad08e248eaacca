"""The trade as a picture of characters: what is kept of exact search over bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from colreduce.plan.options import Option
from colreduce.plan.result import Plan
from colreduce.units import amount

WIDTH, HEIGHT = 64, 14

# From the least to the most important: a later mark is written over an earlier one.
OTHER, LEADING, CHOSEN = "·", "o", "X"


def picture(plan: Plan) -> list[str]:
    """Draw every recipe that was measured; bytes grow to the right, by their logarithm."""
    shown = _worth_showing(plan)
    costs = [math.log(one.bytes_per_doc) for one in shown]
    kept = [one.believed for one in shown]
    wanted = plan.target.keep
    left, right = min(costs), max(costs) + 1e-9
    low = min([*kept, *([wanted] if wanted else [])])
    high = max([*kept, *([wanted] if wanted else [])]) + 1e-9
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]

    def line(value: float) -> int:
        return round((high - value) / (high - low) * (HEIGHT - 1))

    if wanted:
        grid[line(wanted)] = ["-"] * WIDTH
    leading = {id(one) for one in plan.front()}
    chosen = plan.settled.option
    marks = [(OTHER, one) for one in shown if id(one) not in leading]
    marks += [(LEADING, one) for one in shown if id(one) in leading]
    marks += [(CHOSEN, chosen)]
    for mark, one in marks:
        column = round((math.log(one.bytes_per_doc) - left) / (right - left) * (WIDTH - 1))
        grid[line(one.believed)][min(max(column, 0), WIDTH - 1)] = mark
    return [*_lines(grid, low, high), *_feet(shown, bool(wanted))]


def _worth_showing(plan: Plan) -> list[Option]:
    """Leave out what is far below everything that anyone would want."""
    best = max(one.believed for one in plan.options)
    floor = min(best - 0.12, plan.settled.option.believed)
    return [one for one in plan.options if one.believed >= floor]


def _lines(grid: Sequence[Sequence[str]], low: float, high: float) -> list[str]:
    lines = []
    for number, row in enumerate(grid):
        value = high - (high - low) * number / (HEIGHT - 1)
        label = f"{value:6.1%}" if number % 3 == 0 or number == HEIGHT - 1 else " " * 6
        lines.append(f"{label} |{''.join(row)}".rstrip())
    return lines


def _feet(shown: Sequence[Option], wanted: bool) -> list[str]:
    costs = [one.bytes_per_doc for one in shown]
    first, last = amount(min(costs)), amount(max(costs))
    gap = " " * max(1, WIDTH - len(first) - len(last))
    told = f"{CHOSEN} chosen, {LEADING} not beaten by any other, {OTHER} the others"
    return [
        f"       +{'-' * WIDTH}",
        f"        {first}{gap}{last}",
        f"        bytes per document; {told}{', - wanted' if wanted else ''}",
    ]
