"""Pictures drawn as SVG: what quality costs in bytes and in time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from colreduce.evaluate.report.points import Point, front
from colreduce.pages.markup import Html, Part, tag

WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 28, 50

# Where the letter may stand beside its dot, the best place first: shift to the right, and down.
PLACES = ((0, -12), (14, 4), (0, 22), (-14, 4), (13, -10), (-13, -10), (13, 18), (-13, 18))


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of values laid over a range of the picture."""

    low: float
    high: float
    start: float
    stop: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return where a value lies in the picture."""
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(value)
        return self.start + (at - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Return round values inside the range, a handful of them."""
        return log_ticks(self.low, self.high) if self.logarithmic else ticks(self.low, self.high)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * one for one in (1, 2, 5, 10) if power * one >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * number for number in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten; fewer of them over many powers."""
    steps = (1, 2, 5) if high / low < 300 else (1,) if high / low > 30_000 else (1, 3)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [one * 10.0**power for power in powers for one in steps]
    return [one for one in found if low * 0.999 <= one <= high * 1.001]


def trade_off(
    points: Sequence[Point],
    cost: Callable[[Point], float],
    *,
    title: str,
    axis: str,
    metric: str,
    write: Callable[[float], str],
    source: float = 0.0,
) -> Html:
    """Draw the share of exact quality over a cost, with the front of the best points.

    source  the cost of the texts themselves, drawn as a line where it is known
    """
    costs = [cost(one) for one in points]
    shares = [one.share.value for one in points]
    across = _across([*costs, source] if source else costs)
    up = _up(points)
    best = front(costs, shares)
    parts: list[Part] = [
        tag("title", title),
        tag("desc", _described(points, costs, best, metric, write)),
        _grid(across, up, axis, metric, write),
        _line(across, source, "text itself") if source else None,
        _front(across, up, [costs[one] for one in best], [shares[one] for one in best]),
    ]
    taken: list[tuple[float, float]] = [
        (across(one), up(share)) for one, share in zip(costs, shares, strict=True)
    ]
    for number, point in enumerate(points):
        parts.append(_dot(point, across(costs[number]), up, number in best, taken))
    return tag(
        "svg", parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title, class_="chart"
    )


def _across(costs: Sequence[float]) -> Scale:
    low, high = min(costs), max(costs)
    room = max((high / low) ** 0.08, 1.25)
    return Scale(low / room, high * room, LEFT, WIDTH - RIGHT, logarithmic=True)


def _up(points: Sequence[Point]) -> Scale:
    """Cover all points with their intervals, and 100 %; never less than two percent."""
    low = min(1.0, *(one.share.low for one in points))
    high = max(1.0, *(one.share.high for one in points))
    room = max((high - low) * 0.07, 0.01 - (high - low) / 2, 0.002)
    return Scale(low - room, high + room, HEIGHT - BOTTOM, TOP)


def _grid(across: Scale, up: Scale, axis: str, metric: str, write: Callable[[float], str]) -> Html:
    parts: list[Part] = []
    steps = up.ticks()
    digits = 1 if len(steps) > 1 and steps[1] - steps[0] < 0.0099 else 0
    for value in steps:
        y = up(value)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        label = f"{value:.{digits}%}"
        parts.append(tag("text", label, x=LEFT - 7, y=y + 4, text_anchor="end", class_="quiet"))
    parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=up(1.0), y2=up(1.0), class_="exact"))
    for value in across.ticks():
        x, bottom = across(value), HEIGHT - BOTTOM
        parts.append(tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 5, class_="grid"))
        parts.append(
            tag("text", write(value), x=x, y=bottom + 19, text_anchor="middle", class_="quiet")
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(tag("text", axis, x=middle, y=HEIGHT - 8, text_anchor="middle"))
    parts.append(tag("text", f"share of exact {metric}", x=4, y=12))
    return tag("g", parts)


def _line(across: Scale, cost: float, label: str) -> Html:
    x = across(cost)
    side = "end" if x > WIDTH / 2 else "start"
    return tag(
        "g",
        tag("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="source"),
        tag(
            "text",
            label,
            x=x + (-5 if side == "end" else 5),
            y=HEIGHT - BOTTOM - 7,
            text_anchor=side,
            class_="quiet",
        ),
    )


def _front(across: Scale, up: Scale, costs: Sequence[float], shares: Sequence[float]) -> Html:
    """Draw the steps: what the best share is for each cost."""
    path = ""
    for cost, share in zip(costs, shares, strict=True):
        x, y = f"{across(cost):.1f}", f"{up(share):.1f}"
        path += f"H{x}V{y}" if path else f"M{x},{HEIGHT - BOTTOM}V{y}"
    return tag("path", d=f"{path}H{WIDTH - RIGHT}", class_="front")


def _dot(point: Point, x: float, up: Scale, best: bool, taken: list[tuple[float, float]]) -> Html:
    y = up(point.share.value)
    right, down = _free(x, y, taken)
    taken.append((x + right, y + down - 4))
    shown = f"{point.letter}: {point.system}, {point.share.value:.1%}"
    return tag(
        "g",
        tag("title", shown),
        tag("line", x1=x, x2=x, y1=up(point.share.low), y2=up(point.share.high), class_="whisker"),
        tag("circle", cx=x, cy=y, r=6, class_="dot" if best else "dot behind"),
        tag("text", point.letter, x=x + right, y=y + down, text_anchor="middle", class_="name"),
    )


def _free(x: float, y: float, taken: Sequence[tuple[float, float]]) -> tuple[int, int]:
    """Return the place beside a dot that is farthest from all that is there, if none is free."""

    def room(place: tuple[int, int]) -> float:
        at = (x + place[0], y + place[1] - 4)
        return min((math.dist(at, one) for one in taken), default=math.inf)

    return next((place for place in PLACES if room(place) >= 12), max(PLACES, key=room))


def _described(
    points: Sequence[Point],
    costs: Sequence[float],
    best: Sequence[int],
    metric: str,
    write: Callable[[float], str],
) -> str:
    told = "; ".join(
        f"{points[one].letter}, {write(costs[one])}, {points[one].share.value:.1%}" for one in best
    )
    return f"Not beaten by any other, with cost and share of exact {metric}: {told}."
