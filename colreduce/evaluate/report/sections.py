"""The parts of the report, from the table of all recipes to the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from colreduce.evaluate.differences import Moved, QueryDifference
from colreduce.evaluate.evaluation import Evaluation
from colreduce.evaluate.explained import Explained
from colreduce.evaluate.report.charts import Scale, trade_off
from colreduce.evaluate.report.points import Point, points, text_bytes
from colreduce.evaluate.rows import AGREEMENT, EXACT, Loss, Row
from colreduce.evaluate.significance import Comparison
from colreduce.evaluate.statistics import Interval
from colreduce.pages.markup import Html, Part, from_data, joined, table, tag
from colreduce.units import amount, milliseconds, seconds

# Pairs of systems that are shown before only those with the baseline are.
PAIRS = 15


def trade_offs(found: Evaluation) -> Html:
    """Draw quality against bytes and against time, and list the recipes by their letters."""
    made = points(found)
    if not made:
        return joined(tag("p", "No recipe was measured, so there are no sizes and no times."))
    note = (
        "The steps join the recipes that no other beats on both. Thin upright lines are 95 % "
        "intervals; the dashed line across is exact search."
    )
    return joined(
        figures(made, found.metrics[0], text_bytes(found), _over(found)),
        tag("p", note, class_="quiet"),
        _legend(made, found),
    )


def figures(made: Sequence[Point], metric: str, text: float, over: str = "") -> Html:
    """Draw quality against bytes, beside those of the text where they are known, and time."""

    def figure(title: str, cost: Callable[[Point], float], **more: Any) -> Html:
        drawn = trade_off(made, cost, title=title, metric=metric, **more)
        return tag("figure", tag("div", drawn, class_="scroll"), tag("figcaption", title, "."))

    size = figure(
        f"Quality against bytes{over}",
        lambda one: one.bytes_per_doc,
        axis="bytes a document",
        write=_short_bytes,
        source=text,
    )
    time = figure(
        f"Quality against time{over}",
        lambda one: one.p50,
        axis="median search",
        write=milliseconds,
    )
    return tag("div", size, time, class_="figures")


def _legend(made: Sequence[Point], found: Evaluation) -> Html:
    first = found.metrics[0]
    return table(
        f"All recipes{_over(found)}",
        ["recipe", f">{first}", ">of exact", ">bytes/document", ">of raw", ">median search"],
        [
            (
                [mark(one), " ", tag("code", one.system)],
                f"{one.value:.3f}",
                share(one.share),
                amount(one.bytes_per_doc),
                f"{one.bytes_per_doc / one.raw_bytes_per_doc:.1%}",
                milliseconds(one.p50),
            )
            for one in made
        ],
    )


def mark(point: Point) -> Html:
    """Return a recipe's letter as it stands in the pictures."""
    return tag("span", point.letter, class_="letter")


def _short_bytes(count: float) -> str:
    """Write the bytes of a tick: 500 B, 2 kB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _over(found: Evaluation) -> str:
    count = len({row.dataset for row in found.rows})
    return f", over {count} data sets" if count > 1 else ""


def collections(found: Evaluation) -> Html:
    """Show every system on every collection."""
    parts: list[Part] = []
    letters = {one.system: one for one in points(found)}
    for contest in found.contests:
        name = contest.judged.name
        about = (
            f"{len(contest.judged.documents):,} documents, {len(contest.judged.qrels):,} queries"
        )
        columns = ["system", *(f">{metric}" for metric in found.metrics), f">{AGREEMENT}"]
        columns += [">vectors/document", ">bytes/document", ">p50", ">p95", ">build"]
        lines: list[list[Part]] = []
        for row in (one for one in found.rows if one.dataset == name):
            head = [mark(letters[row.recipe]), " ", tag("code", row.recipe)]
            lines.append([head, *_values(row, found.metrics), *_costs(row)])
        for run in (one for one in found.runs if one.dataset == name):
            kept = "" if run.agreement is None else f"{run.agreement:.1%}"
            lines.append([from_data(run.run), *_values(run, found.metrics), kept, *[""] * 5])
        parts += [
            tag("h3", from_data(name)),
            table(f"{name}: {about}; 95 % intervals below the values", columns, lines),
        ]
    if found.averages:
        parts += [tag("h3", "Averages"), _averages(found)]
    return joined(parts)


def _values(one: Any, metrics: Sequence[str]) -> list[Part]:
    return [_value(one.metrics[name], one.intervals.get(name)) for name in metrics]


def _value(value: float, interval: Interval | None) -> Html:
    if interval is None:
        return joined(f"{value:.3f}")
    around = tag("span", f"{interval.low:.3f} to {interval.high:.3f}", class_="range")
    return joined(f"{value:.3f}", tag("br"), around)


def share(kept: Interval) -> Html:
    """Write a share with its interval below."""
    around = tag("span", f"{kept.low:.1%} to {kept.high:.1%}", class_="range")
    return joined(f"{kept.value:.1%}", tag("br"), around)


def _costs(row: Row) -> list[Part]:
    took = row.index_seconds["reduce"] + row.index_seconds["first_stage"]
    return [
        f"{row.losses[-1].agreement:.1%}",
        f"{row.vectors_per_doc:.1f}",
        amount(row.bytes_per_doc["total"]),
        milliseconds(row.search_ms["p50"]),
        milliseconds(row.search_ms["p95"]),
        seconds(took),
    ]


def _averages(found: Evaluation) -> Html:
    names = list(found.metrics)
    return table(
        f"Every data set counts once, over {found.averages[0].datasets} of them",
        ["system", *(f">{name}" for name in names), f">{names[0]} of exact", ">bytes/document"],
        [
            (
                tag("code", one.system),
                *(f"{one.metrics[name]:.3f}" for name in names),
                share(one.relative_intervals[names[0]]) if one.relative_intervals else "",
                amount(one.bytes_per_doc["total"]) if one.bytes_per_doc else "",
            )
            for one in found.averages
        ],
    )


def ledgers(found: Evaluation) -> Html:
    """Show what every stage of every recipe lost."""
    first, parts = found.metrics[0], list[Part]()
    letters = {one.system: one for one in points(found)}
    for row in found.rows:
        if row.system == EXACT:
            continue
        parts += [
            tag("h3", mark(letters[row.recipe]), " ", tag("code", row.recipe), " on ",
                from_data(row.dataset)),
            waterfall(row.losses, first, row.dataset),
        ]  # fmt: skip
    return joined(parts or tag("p", "Only exact search was measured, and it loses nothing."))


def waterfall(losses: Sequence[Loss], metric: str, dataset: str) -> Html:
    """Show a ledger from exact search down to what the index answers, one bar for each stage."""
    values = [one.metrics[metric] for one in losses]
    span = max(max(values) - min(values), 0.01)
    low = max(0.0, min(values) - 0.5 * span)
    across = Scale(low, max(values), 0.0, 100.0)

    def bar(start: float, stop: float, kind: str) -> Html:
        left, right = sorted((across(start), across(stop)))
        style = f"left:{min(left, 99.5):.2f}%;width:{right - left:.2f}%"
        return tag("span", tag("span", class_=f"bar {kind}", style=style), class_="track")

    lines: list[Sequence[Part]] = [
        ("exact search", bar(low, values[0], "total"), "", f"{values[0]:.4f}", "100.0%")
    ]
    for number, loss in enumerate(losses[1:], start=1):
        before, after = values[number - 1], values[number]
        lines.append(
            (
                tag("code", loss.stage),
                bar(before, after, "gain" if after > before else "loss") if after != before else "",
                _lost(loss.lost.get(metric), before - after),
                f"{after:.4f}",
                f"{loss.agreement:.1%}",
            )
        )
    lines.append(("the index answers", bar(low, values[-1], "total"), "", f"{values[-1]:.4f}",
                  f"{losses[-1].agreement:.1%}"))  # fmt: skip
    begins = f"Bars begin at {low:.3f}, not at 0" if low else "Bars begin at 0"
    return table(
        f"{metric} on {dataset} after each stage. {begins}",
        ["stage", "", ">change", f">{metric} left", ">top 10 kept"],
        lines,
        class_="waterfall",
    )


def _lost(interval: Interval | None, lost: float) -> Html:
    if abs(lost) < 5e-5:
        return joined("0")
    shown = tag("span", f"{-lost:+.4f}", class_="bad" if lost > 0 else "good")
    if interval is None:
        return shown
    around = tag("span", f"{-interval.high:+.4f} to {-interval.low:+.4f}", class_="range")
    return joined(shown, tag("br"), around)


def significance(found: Evaluation) -> Html:
    """Show which differences are more than chance."""
    if not found.comparisons:
        return tag("p", "There was only one system, so nothing is compared.")
    first, *others = found.metrics
    parts: list[Part] = [
        tag(
            "p",
            "Every query gives one difference between two systems. p says how often a mean "
            "difference this large comes about when both are equally good (randomisation test), "
            "corrected by Holm's method for all comparisons by that metric in this run. Below "
            "0.05 it is called more than chance.",
        ),
        _comparisons(found, first),
    ]
    for name in others:
        parts.append(tag("details", tag("summary", f"By {name}"), _comparisons(found, name)))
    return joined(parts)


def _comparisons(found: Evaluation, metric: str) -> Html:
    family = [one for one in found.comparisons if one.metric == metric]
    shown, note = family, ""
    if len(family) > PAIRS:
        baselines = {one.judged.name: one.baseline.name for one in found.contests}
        shown = [one for one in family if one.first == baselines[one.dataset]]
        note = f"; {len(family)} were made, those with the baseline are shown"
    letters = {one.system: one for one in points(found)}

    def system(name: str) -> Part:
        beside = [mark(letters[name]), " "] if name in letters else []
        return [beside, from_data(name)]

    return table(
        f"Differences by {metric}, query by query{note}",
        ["data set", "from", "to", ">difference", ">better / worse / same", ">p corrected",
         ">p", ">p of t", "verdict"],
        [
            (
                from_data(one.dataset),
                system(one.first),
                system(one.second),
                _gap(one.difference),
                f"{one.better} / {one.worse} / {one.same}",
                _p(one.p_holm),
                _p(one.p),
                _p(one.p_t),
                _verdict(one),
            )
            for one in shown
        ],
    )  # fmt: skip


def _gap(gap: Interval) -> Html:
    around = tag("span", f"{gap.low:+.4f} to {gap.high:+.4f}", class_="range")
    return joined(f"{gap.value:+.4f}", tag("br"), around)


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _verdict(one: Comparison) -> Html:
    if not one.significant:
        return joined("may be chance")
    better = one.difference.value > 0
    return tag("b", "better" if better else "worse", class_="good" if better else "bad")


def worst(found: Evaluation) -> Html:
    """Show the queries that lost most, with the documents that went and came."""
    if not found.worst:
        return tag("p", "No query is worse than with the system the others are held against.")
    letters = {one.system: one for one in points(found)}
    parts: list[Part] = []
    seen = None
    for one in found.worst:
        if (one.dataset, one.system) != seen:
            seen = (one.dataset, one.system)
            beside = [mark(letters[one.system]), " "] if one.system in letters else []
            parts.append(tag("h3", beside, from_data(one.system), " on ", from_data(one.dataset)))
        parts.append(_query(one))
    return joined(parts)


def _query(one: QueryDifference) -> Html:
    told = from_data(one.text) if one.text else "(only its vectors are known)"
    fell = f"{one.metric} {one.before:.3f} with {one.baseline}, {one.after:.3f} now"
    rows = [("lost", moved) for moved in one.lost] + [("instead", moved) for moved in one.instead]
    documents = table(
        f"Documents of the query {one.query}",
        ["", "document", ">grade", ">rank before", ">rank now", "text"],
        [
            (
                tag("span", kind, class_="bad" if kind == "lost" else None),
                from_data(moved.id),
                "not judged" if moved.grade is None else str(moved.grade),
                *_ranks(moved),
                from_data(moved.text),
            )
            for kind, moved in rows
        ],
    )
    return tag(
        "article",
        tag("h4", told),
        tag("p", "Query ", from_data(one.query), ": ", fell, class_="quiet"),
        documents if rows else None,
        None if one.why is None else _why(one.why),
    )


def _why(why: Explained) -> Html:
    """Show which tokens of the query add less to a lost document's score than they did."""
    if why.note:
        return tag("p", "Why ", from_data(why.id), " was lost is not known: ", why.note)
    rows = [
        (
            from_data(one.token),
            "-" if one.before is None else f"{one.before:.3f}",
            f"{one.now:.3f}",
            from_data(one.met),
        )
        for one in why.shares
    ]
    caption = f"What the query's tokens add to the score of {why.id}, those that fell most"
    return table(caption, ["token", ">unreduced", ">now", "met, in the document"], rows)


def _ranks(moved: Moved) -> tuple[str, str]:
    before, after = ("none" if rank is None else str(rank) for rank in (moved.before, moved.after))
    return before, after


def machine(found: Evaluation) -> Html:
    """Show what measured all this, and when."""
    when = sorted({row.measured for row in found.rows if row.measured})
    measured = " to ".join(dict.fromkeys((when[0], when[-1]))) if when else None
    return machine_table(found.machine, found.seed, measured)


def machine_table(about: Mapping[str, Any], seed: int, measured: str | None = None) -> Html:
    """Return what is known of a machine."""
    memory = about.get("memory_bytes")
    facts = {
        "processor": about.get("processor"),
        "cores": about.get("cores"),
        "threads": about.get("threads"),
        "graphics card": about.get("gpu"),
        "memory": amount(memory) if memory else None,
        "system": about.get("system"),
        "Python": about.get("python"),
        **about.get("versions", {}),
        "seed": seed,
        "measured": measured,
    }
    rows = [(name, str(value)) for name, value in facts.items() if value is not None]
    return table("Machine and versions", ["what", "value"], rows)
