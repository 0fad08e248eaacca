"""What an evaluation found, as tables: stages, sizes, differences, and the queries behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from colreduce.cli.screen import Screen, amount, seconds
from colreduce.cli.tables import share, show_losses

if TYPE_CHECKING:
    from colreduce.evaluate.averages import Average
    from colreduce.evaluate.differences import Moved, QueryDifference
    from colreduce.evaluate.evaluation import Evaluation
    from colreduce.evaluate.rows import Row
    from colreduce.evaluate.significance import Comparison

# Characters of a query or a document that fit beside a table.
WIDTH = 88


def show_evaluation(screen: Screen, found: Evaluation) -> None:
    """Show everything, the collections one after the other."""
    for row in found.rows:
        show_row(screen, row)
    for name in dict.fromkeys(one.judged.name for one in found.contests):
        _standings(screen, found, name)
        _differences(screen, found, name)
    _averages(screen, found.averages, found.metrics[0])
    _worst(screen, found.worst)


def show_row(screen: Screen, row: Row) -> None:
    """Show what one recipe keeps at every stage and what it costs."""
    screen.heading(row.recipe)
    split = f", {row.split}" if row.split else ""
    screen.line(
        f"{row.dataset}{split}: {row.documents:,} documents, {row.queries:,} queries, {row.encoder}"
    )
    show_losses(screen, [loss.to_dict() for loss in row.losses])
    total, raw = row.bytes_per_doc["total"], row.raw_bytes_per_doc
    screen.line(
        f"{row.vectors_per_doc:.1f} vectors and {amount(total)} per document, "
        f"{share(total, raw)} of {amount(raw)} raw; {amount(row.text_bytes_per_doc)} of text"
    )
    parts = {"encode": "encoding", "reduce": "reducing", "first_stage": "first stage"}
    took = ", ".join(f"{label} {seconds(row.index_seconds[name])}" for name, label in parts.items())
    ms = row.search_ms
    screen.line(f"{took}; a search {ms['p50']:.0f} ms (95 % within {ms['p95']:.0f} ms)")
    if row.cached:
        screen.line(f"measured {row.measured}, kept since; --no-cache measures anew")


def _standings(screen: Screen, found: Evaluation, dataset: str) -> None:
    """Show all systems on one collection side by side."""
    first = found.metrics[0]
    lines: list[tuple[str, ...]] = []
    for row in (one for one in found.rows if one.dataset == dataset):
        lines.append(
            (
                row.recipe,
                *_values(row, found.metrics),
                _range(row.relative_intervals.get(first)),
                amount(row.bytes_per_doc["total"]),
                f"{row.search_ms['p50']:.0f} ms",
            )
        )
    for run in (one for one in found.runs if one.dataset == dataset):
        shares = _range(run.relative_intervals.get(first))
        lines.append((run.run, *_values(run, found.metrics), shares, "-", "-"))
    if len(lines) < 2 and not found.runs:
        return
    screen.heading(f"{dataset}: side by side")
    columns = ["system", *(f">{name}" for name in found.metrics)]
    screen.table([*columns, f">{first} of exact", ">bytes/doc", ">p50"], lines)


def _values(one: Any, metrics: Sequence[str]) -> list[str]:
    return [f"{one.metrics[name]:.3f}" for name in metrics]


def _range(interval: Any) -> str:
    """Write a share with its interval, in percent."""
    if interval is None:
        return "-"
    return f"{interval.value:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def _differences(screen: Screen, found: Evaluation, dataset: str) -> None:
    """Show which systems differ by more than chance, by the first metric."""
    first = found.metrics[0]
    some = [one for one in found.comparisons if (one.dataset, one.metric) == (dataset, first)]
    if not some:
        return
    screen.heading(f"{dataset}: {first}, query by query")
    screen.table(
        ["from", "to", ">difference", ">better", ">worse", ">same", ">p", "verdict"],
        [
            (
                one.first,
                one.second,
                f"{one.difference.value:+.4f} "
                f"({one.difference.low:+.4f} to {one.difference.high:+.4f})",
                str(one.better),
                str(one.worse),
                str(one.same),
                f"{one.p_holm:.3f}",
                _verdict(one),
            )
            for one in some
        ],
    )
    screen.line("p: paired randomisation test, corrected by Holm for all pairs of this run")


def _verdict(one: Comparison) -> str:
    if not one.significant:
        return "may be chance"
    return "better" if one.difference.value > 0 else "worse"


def _averages(screen: Screen, averages: Sequence[Average], first: str) -> None:
    """Show the averages over several collections, each counting once."""
    if not averages:
        return
    screen.heading(f"Averages over {averages[0].datasets} data sets")
    names = list(averages[0].metrics)
    screen.table(
        ["system", *(f">{name}" for name in names), f">{first} of exact", ">bytes/doc"],
        [
            (
                one.system,
                *(f"{one.metrics[name]:.3f}" for name in names),
                _range(one.relative_intervals.get(first)),
                amount(one.bytes_per_doc["total"]) if one.bytes_per_doc else "-",
            )
            for one in averages
        ],
    )


def _worst(screen: Screen, worst: Sequence[QueryDifference]) -> None:
    """Show the queries that lost most, with the documents that went and came."""
    seen = None
    for one in worst:
        if (one.dataset, one.system) != seen:
            seen = (one.dataset, one.system)
            screen.heading(f"{one.dataset}: what {one.system} lost most of {one.metric}")
        text = _short(one.text) if one.text else "(no text)"
        screen.line(f"{one.before:.3f} to {one.after:.3f}  {one.query}: {text}")
        for moved in one.lost:
            screen.line(f"    lost     {_places(moved)}  {moved.id}: {_short(moved.text)}")
        for moved in one.instead:
            screen.line(f"    instead  {_places(moved)}  {moved.id}: {_short(moved.text)}")


def _places(moved: Moved) -> str:
    """Say where a document stood and stands; its grade where it was judged."""
    before, after = (str(rank) if rank else "-" for rank in (moved.before, moved.after))
    grade = "" if moved.grade is None else f", grade {moved.grade}"
    return f"rank {before} to {after}{grade}"


def _short(text: str) -> str:
    """Return the beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
