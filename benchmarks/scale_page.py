"""The tables of docs/scale.md, from the result of `benchmarks.scale`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- tables: python -m benchmarks.scale -->", "<!-- end of the tables -->"


def write_page(result: dict[str, Any], page: Path) -> Path:
    """Put the tables in the place of those that stand in the page."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n\n{tables(result)}\n{END}{after}", encoding="utf-8")
    return page


def tables(result: dict[str, Any]) -> str:
    """Return all tables as one text."""
    rows = result["sizes"]
    heads = ["", *(_count(row["documents"]) for row in rows)]
    parts = [
        ("### What was assumed", _table(["", "value"], _assumed(result))),
        ("### Bytes", _table(heads, _across(rows, "bytes", _bytes))),
        ("### Hours of building", _table(heads, _across(rows, "hours", _hours))),
        ("### One query in one shard", _table(heads, _shard(rows))),
        ("### What a caller waits", _table(heads, _latency(rows))),
        ("### Machines", _table(heads, _machines(rows))),
        ("### Answers that miss a shard", _table(heads, _partial(rows))),
        ("### What was measured for this page", _measured(result)),
    ]
    return "\n".join(f"{title}\n\n{body}\n" for title, body in parts)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def _assumed(result: dict[str, Any]) -> list[list[str]]:
    return [[name, _plain(value)] for name, value in result["assumed"].items()]


def _across(rows: Sequence[dict[str, Any]], key: str, show: Any) -> list[list[str]]:
    return [[name, *(show(row[key][name]) for row in rows)] for name in rows[0][key]]


def _shard(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    return [
        ["shards", *(f"{row['shards']:,}" for row in rows)],
        ["candidates of each, if fewer", *(f"{row['candidates_each']:,}" for row in rows)],
        *(
            [f"{name}, ms", *(f"{row['shard_ms'][name]:,.1f}" for row in rows)]
            for name in rows[0]["shard_ms"]
        ),
    ]


def _latency(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            f"{name}, ms: p50, p99",
            *(f"{row['latency'][name]['p50']:,.0f}, {row['latency'][name]['p99']:,.0f}"
              for row in rows),
        ]
        for name in rows[0]["latency"]
    ]  # fmt: skip


def _machines(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    found = [
        [f"cores, {name}", *(f"{row['cores'][name]:,.0f}" for row in rows)]
        for name in rows[0]["cores"]
    ]
    found.append(["reads of the disk a second, at most", *(f"{row['reads']:,.0f}" for row in rows)])
    found += [
        [f"machines for the {name}", *(f"{row['machines'][name]:,}" for row in rows)]
        for name in rows[0]["machines"]
    ]
    return found


def _partial(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    return [
        [f"{count} replicas" if count != "1" else "1 replica",
         *(_share(row["partial"][count]) for row in rows)]
        for count in rows[0]["partial"]
    ]  # fmt: skip


def _measured(result: dict[str, Any]) -> str:
    measured = result["measured"]
    stages = measured["first_stage"]
    first = _table(
        ["first stage, ms of one core", *(f"{row['documents']:,}" for row in stages["auto"])],
        [[f"`mean(store={name})`", *(f"{row['ms']:.2f}" for row in rows)]
         for name, rows in stages.items()],
    )  # fmt: skip
    join = _table(
        ["joining", "ms"],
        [
            [f"{row['shards']:,} shards, k={row['k']}", f"{row['ms']:.2f}"]
            for row in measured["join"]
        ],
    )
    call = measured["call"]
    told = ""
    if call is not None:
        told = (
            f"\n\nA call of an actor on one machine took {call['p50_ms']:.1f} ms at the median "
            f"and {call['p99_ms']:.1f} at the 99th percentile."
        )
    return f"{first}\n\n{join}{told}"


def _count(number: float) -> str:
    return f"{number / 1e9:g} B" if number >= 1e9 else f"{number / 1e6:g} M"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


def _bytes(size: float) -> str:
    for unit, much in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= much:
            return f"{size / much:,.3g} {unit}"
    return f"{size:.0f} B"


def _hours(hours: float) -> str:
    return f"{hours:,.2g}" if hours < 100 else f"{hours:,.0f}"


def _share(share: float) -> str:
    return f"{100 * share:.2g} %" if share >= 1e-6 else "less than one in a million"
