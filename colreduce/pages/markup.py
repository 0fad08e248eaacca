"""HTML and SVG put together from parts: whatever is not markup already is escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

# What no HTML document may hold, and lone surrogates, which no UTF-8 file can.
UNFIT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")

VOID = ("br", "img", "meta", "input")
VOID_IN_SVG = ("line", "circle", "rect", "path", "polyline")


class Html(str):
    """Text that is markup and goes in as it is."""

    __slots__ = ()


Part: TypeAlias = "str | Html | Iterable[Part] | None"


def text(given: str) -> Html:
    """Escape a text."""
    return Html(html.escape(UNFIT.sub("\ufffd", given)))


def joined(*parts: Part) -> Html:
    """Put parts one after the other."""
    found = []
    for part in parts:
        if part is None:
            continue
        if isinstance(part, Html):
            found.append(part)
        elif isinstance(part, str):
            found.append(text(part))
        else:
            found.append(joined(*part))
    return Html("".join(found))


def tag(name: str, *parts: Part, **attributes: str | float | None) -> Html:
    """Return an element. ``class_`` is class, ``aria_label`` aria-label; None leaves one out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Html(f"<{name}{written}>")
    if name in VOID_IN_SVG and not parts:
        return Html(f"<{name}{written}/>")
    return Html(f"<{name}{written}>{joined(*parts)}</{name}>")


def _value(given: str | float) -> str:
    return text(f"{given:.2f}".rstrip("0").rstrip(".") if isinstance(given, float) else str(given))


def from_data(given: str) -> Html:
    """Return a text of the user's data: its writing direction stays inside it."""
    return tag("bdi", given)


def table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[Part]], *, class_: str = ""
) -> Html:
    """Return a table whose first column heads its rows.

    A column whose name begins with ``>`` holds numbers and is set to the right.
    """
    sides = ["number" if name.startswith(">") else None for name in columns]
    head = [
        tag("th", name.lstrip(">"), scope="col", class_=side)
        for name, side in zip(columns, sides, strict=True)
    ]
    lines = []
    for row in rows:
        cells = list(zip(row, sides, strict=True))
        first = tag("th", cells[0][0], scope="row", class_=cells[0][1])
        lines.append(tag("tr", first, [tag("td", part, class_=side) for part, side in cells[1:]]))
    whole = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", head)),
        tag("tbody", lines),
        class_=class_ or None,
    )
    # Wide tables move inside their own frame, which the keyboard can reach.
    return tag("div", whole, class_="scroll", role="region", aria_label=caption, tabindex="0")
