"""A plan as one HTML file that needs nothing else: the choice, the trade, and the reasons."""

from __future__ import annotations

from pathlib import Path

from colreduce.evaluate.machine import machine
from colreduce.evaluate.report.points import Point, front, letter
from colreduce.evaluate.report.sections import figures, machine_table, mark, share
from colreduce.pages import page as pages
from colreduce.pages.markup import Html, Part, joined, table, tag
from colreduce.plan.options import Option
from colreduce.plan.recipe_file import recipe_file
from colreduce.plan.result import Plan
from colreduce.plan.words import expected, queries_in_words, range_in_words
from colreduce.units import amount, milliseconds, seconds

# Recipes in the pictures, at most: more letters cannot be told apart.
MOST = 14


def write_plan(found: Plan, path: str | Path) -> Path:
    """Write the report to a file, whole or not at all."""
    return pages.write(path, page(found))


def page(found: Plan) -> str:
    """Return the report as HTML."""
    shown = _shown(found)
    parts = {
        "trade-offs": ("What quality costs", _trade_offs(found, shown)),
        "refused": ("What the held-back queries refused", _refused(found)),
        "search": ("How it was searched", _rounds(found)),
        "recipe": ("The recipe, with the reasons", _file(found)),
        "machine": ("Machine and versions", machine_table(machine(), found.seed)),
    }
    if not found.settled.refused:
        del parts["refused"]
    about = (
        f"{len(found.task.documents):,} documents, {queries_in_words(found)}; wanted: "
        f"{found.target}"
    )
    return pages.report(f"Plan: {found.task.name}", about, _glance(found), parts)


def _glance(found: Plan) -> list[Part]:
    built = found.settled.built
    text = f"; the text itself {amount(found.text_bytes_per_doc)}" if found.task.text_bytes else ""
    verdict = "It keeps what was wanted" if found.settled.confirmed else "It may not be enough"
    return [
        [f"{verdict}: ", tag("code", str(found.recipe))],
        expected(found),
        f"The index takes {amount(built.total)} per document{text}; vectors as encoded "
        f"{amount(found.raw_bytes_per_doc)}.",
        f"A search takes {milliseconds(built.milliseconds)}; building the index took "
        f"{seconds(built.build_seconds)}, planning {seconds(found.seconds)}.",
    ]


def _shown(found: Plan) -> list[Option]:
    """Return the chosen recipe, those that were refused, and those that no other beats."""
    chosen = [found.settled.option, *(one.option for one in found.settled.refused)]
    options = list(found.options)
    quick = front([one.milliseconds for one in options], [one.believed for one in options])
    leading = [one for one in found.front() if one not in chosen]
    leading += [options[one] for one in quick if options[one] not in [*chosen, *leading]]
    # Of many the best are worth a letter: small recipes that lose most are nobody's choice.
    leading = sorted(leading, key=lambda one: -one.believed)[: max(MOST - len(chosen), 0)]
    return chosen + sorted(leading, key=lambda one: one.bytes_per_doc)


def _trade_offs(found: Plan, shown: list[Option]) -> Html:
    made = [
        Point(
            letter=letter(number),
            system=str(one.recipe),
            value=float(one.values.mean()),
            share=one.chosen_by,
            bytes_per_doc=one.bytes_per_doc,
            raw_bytes_per_doc=found.raw_bytes_per_doc,
            p50=one.milliseconds,
        )
        for number, one in enumerate(shown)
    ]

    note = (
        "A is the choice. Shares are those of the queries that choose, with 95 % intervals; the "
        "choice itself is judged by the held-back ones, above. Bytes and times are estimates from "
        "measured parts; those above are of the index that was built. Believed is the share that "
        "recipes are compared by: it trusts agreement with exact search more the fewer queries "
        "there are."
    )
    return joined(
        figures(made, found.metric, found.text_bytes_per_doc),
        tag("p", note, class_="quiet"),
        table(
            "Recipes that no other beats, and those that were chosen or refused",
            ["recipe", ">vectors", ">bytes/document", ">of exact", ">top 10", ">believed",
             ">search"],
            [
                (
                    [mark(point), " ", tag("code", point.system)],
                    f"{one.vectors_per_doc:.1f}",
                    amount(one.bytes_per_doc),
                    share(one.chosen_by),
                    f"{one.agreement:.1%}",
                    f"{one.believed:.1%}",
                    milliseconds(one.milliseconds),
                )
                for point, one in zip(made, shown, strict=True)
            ],
        ),
    )  # fmt: skip


def _refused(found: Plan) -> Html:
    return table(
        "Recipes that the choosing queries wanted, in the order they were tried",
        ["recipe", ">bytes/document", ">by the held-back queries", "refused, for"],
        [
            (
                tag("code", str(one.option.recipe)),
                amount(one.option.bytes_per_doc),
                range_in_words(one.kept),
                one.reason,
            )
            for one in found.settled.refused
        ],
    )


def _rounds(found: Plan) -> Html:
    rows = [
        (str(number), str(one.arms), f"{one.documents:,}", f"{one.queries:,}")
        for number, one in enumerate(found.rounds, start=1)
    ]
    return joined(
        tag(
            "p",
            f"Ways to keep vectors were tried on growing samples, and the better half stayed. Of "
            f"those that were left, {len(found.options):,} whole recipes were measured.",
        ),
        table("Rounds", ["round", ">ways", ">documents", ">queries"], rows),
    )


def _file(found: Plan) -> Html:
    return tag("div", tag("pre", tag("code", recipe_file(found))), class_="scroll")
