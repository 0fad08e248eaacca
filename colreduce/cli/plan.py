"""The command ``colreduce plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from colreduce.cli.options import Command, Shared, shared
from colreduce.cli.screen import Screen, amount, seconds

if TYPE_CHECKING:
    from colreduce.plan.result import Plan


@click.command(cls=Command)
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@click.option(
    "--encoder",
    metavar="MODEL",
    help="Model folder or hub id; 'none' with vectors that are known already.",
)
@click.option(
    "--keep",
    type=click.FloatRange(min=0, min_open=True, max=1),
    metavar="SHARE",
    help="Share of exact search's quality to keep, such as 0.99: the smallest recipe that does.",
)
@click.option(
    "--max-bytes-per-doc",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Bytes of the whole index for each document, at most.",
)
@click.option(
    "--max-ms",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MS",
    help="Milliseconds of a search on this machine, the median, at most.",
)
@click.option(
    "--out",
    metavar="FILE.toml",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the recipe, with the reasons as comments.",
)
@click.option(
    "--report",
    metavar="FILE.html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the plan as one HTML file that needs nothing else.",
)
@click.option(
    "--split",
    default="test",
    show_default=True,
    help="Which judgements: qrels/SPLIT.tsv. 'none' plans without any.",
)
@click.option(
    "--metric",
    default="nDCG@10",
    show_default=True,
    metavar="M",
    help="Metric by its ir-measures name; counts where there are judgements.",
)
@click.option(
    "--queries",
    type=click.IntRange(min=8),
    default=300,
    show_default=True,
    help="Queries at most. Half of them choose the recipe, half are held back.",
)
@click.option(
    "--vectors",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Take the vectors of the documents and queries from a .npz file.",
)
@click.option("--no-cache", is_flag=True, help="Keep no embeddings.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Texts encoded at a time; a CPU takes 8 at most.",
)
@shared
def plan(
    shared: Shared,
    source: Path,
    encoder: str | None,
    out: Path | None,
    report: Path | None,
    split: str,
    no_cache: bool,
    **options: Any,
) -> None:
    """Choose a recipe for the documents of SOURCE: as small, as fast or as good as it must be.

    SOURCE is a folder in BEIR's layout or with TREC's files, a file of documents, or a file of
    vectors. Recipes are tried on growing samples; what is left is measured whole. With judgements
    quality is their metric; without, it is agreement with exact search on queries that lie beside
    the documents, or on sentences of the documents. Half of the queries choose; the other half
    say what the choice is expected to lose, on an index that is really built.

    \b
    Examples:
      colreduce plan scifact/ --encoder MODEL --keep 0.99 --out recipe.toml
      colreduce plan docs.jsonl --encoder MODEL --max-bytes-per-doc 1500
      colreduce plan scifact/ --encoder MODEL --keep 0.98 --max-ms 20 --report plan.html
      colreduce plan vectors.npz --encoder none --keep 0.95
    """
    none = encoder is None or encoder == "none"
    if not any(options[name] for name in ("keep", "max_bytes_per_doc", "max_ms")):
        raise click.UsageError("Wanted --keep, --max-bytes-per-doc or --max-ms, or several.")
    if none and options["vectors"] is None and source.suffix not in (".npz", ".safetensors"):
        raise click.UsageError("Wanted --encoder MODEL, or --vectors FILE in its place.")
    from colreduce.plan.planner import plan as make

    with shared.screen.progress() as progress:
        found = make(
            source,
            None if none else encoder,
            split=None if split == "none" else split,
            seed=shared.seed,
            device=shared.device,
            cache=not no_cache,
            progress=progress,
            **options,
        )
    if out is not None:
        _write(found, out)
        shared.screen.remark(f"the recipe is in {out}")
    if report is not None:
        from colreduce.plan.report import write_plan

        shared.screen.remark(f"the report is in {write_plan(found, report)}")
    if shared.screen.as_json:
        shared.screen.document(found.to_dict())
    else:
        show_plan(shared.screen, found)


def _write(found: Plan, path: Path) -> None:
    from colreduce.plan.recipe_file import recipe_file

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(recipe_file(found), encoding="utf-8")


def show_plan(screen: Screen, found: Plan) -> None:
    """Show the front, the picture, and the choice with its reasons."""
    from colreduce.plan.picture import picture
    from colreduce.plan.words import expected, queries_in_words, range_in_words

    screen.heading(f"{found.task.name}: {len(found.task.documents):,} documents")
    screen.line(f"{queries_in_words(found)}; wanted: {found.target}")
    for number, one in enumerate(found.rounds, start=1):
        screen.line(
            f"round {number}: {one.arms} ways to keep the vectors, on {one.documents:,} documents "
            f"by {one.queries} queries"
        )
    screen.heading("Recipes that no other beats, by the choosing queries")
    chosen, shown = found.settled.option, found.front()
    shown += [] if chosen in shown else [chosen]
    screen.table(
        [
            "",
            "recipe",
            ">vectors",
            ">bytes/doc",
            f">{found.metric} of exact",
            ">top 10",
            ">believed",
            ">search",
        ],
        [
            (
                "X" if one is chosen else "",
                str(one.recipe),
                f"{one.vectors_per_doc:.1f}",
                amount(one.bytes_per_doc),
                range_in_words(one.chosen_by),
                f"{one.agreement:.1%}",
                f"{one.believed:.1%}",
                f"{one.milliseconds:.1f} ms",
            )
            for one in shown
        ],
    )
    screen.line()
    for line in picture(found):
        screen.line(line)
    for refused in found.settled.refused:
        screen.heading(f"refused: {refused.option.recipe}")
        screen.line(f"{amount(refused.option.bytes_per_doc)} per document, but {refused.reason}")
    screen.heading(str(found.recipe))
    screen.text(expected(found))
    built = found.settled.built
    text = f"; the text itself {amount(found.text_bytes_per_doc)}" if found.task.text_bytes else ""
    screen.line(
        f"{amount(built.total)} per document{text}; vectors as encoded "
        f"{amount(found.raw_bytes_per_doc)}"
    )
    screen.line(
        f"a search {built.milliseconds:.1f} ms, building the index {seconds(built.build_seconds)}, "
        f"planning {seconds(found.seconds)}"
    )
