"""The command ``colreduce evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from colreduce.cli.options import Command, RecipeName, Shared, shared
from colreduce.cli.standings import show_evaluation


@click.command(cls=Command)
@click.argument("sources", metavar="SOURCE...", type=click.Path(path_type=Path), nargs=-1)
@click.option(
    "--encoder",
    metavar="MODEL",
    help="Model folder or hub id; 'none' with vectors that are known already.",
)
@click.option(
    "--recipe",
    "recipes",
    type=RecipeName(),
    multiple=True,
    metavar="R",
    help="Preset, recipe line or .toml file. Repeat it to compare several.  "
    "[default: balanced, or none when only runs are measured]",
)
@click.option(
    "--split", default="test", show_default=True, help="Which judgements: qrels/SPLIT.tsv."
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    default=("nDCG@10", "R@100", "RR@10"),
    show_default=True,
    metavar="M",
    help="Metric by its ir-measures name. Repeat it for several.",
)
@click.option(
    "--vectors",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Take the vectors of the documents and queries from a .npz file.",
)
@click.option(
    "--topics",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File of queries, where they are not in the folder.",
)
@click.option(
    "--judgements",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File of judgements, in BEIR's or TREC's form, where it is not in the folder.",
)
@click.option(
    "--run-in",
    "runs_in",
    multiple=True,
    metavar="FILE",
    help="Measure another system's TREC run file, too; DATASET=FILE with several data sets.",
)
@click.option(
    "--run-out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the rankings as a TREC run file, one for each data set.",
)
@click.option(
    "--report",
    metavar="FILE.html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write everything as one HTML file that needs nothing else.",
)
@click.option(
    "--worst",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Queries that are shown of each recipe, those that lost most against exact search.",
)
@click.option("--no-cache", is_flag=True, help="Measure anew, and keep nothing.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Texts encoded at a time; a CPU takes 8 at most.",
)
@shared
def evaluate(
    shared: Shared,
    sources: tuple[Path, ...],
    encoder: str | None,
    recipes: tuple[str, ...],
    metrics: tuple[str, ...],
    vectors: Path | None,
    report: Path | None,
    no_cache: bool,
    **options: Any,
) -> None:
    """Measure recipes, and other systems' runs, on the judged queries of each SOURCE.

    SOURCE is a folder in BEIR's layout or with TREC's files, a .npz file of vectors with
    judgements, or the name of a public data set such as nanobeir/SciFact. Every recipe is built as
    a real index and searched; the tables say what was left after each stage, which differences are
    more than chance, and which queries got worse.
    Embeddings and results are kept under ~/.cache/colreduce, or where COLREDUCE_CACHE says, so
    that asking again takes a moment.

    \b
    Examples:
      colreduce evaluate scifact/ --encoder MODEL --recipe exact --recipe balanced
      colreduce evaluate scifact/ nfcorpus/ --encoder MODEL --recipe balanced --recipe small
      colreduce evaluate scifact/ --run-in bm25.trec --run-in splade.trec
      colreduce evaluate scifact/ --encoder MODEL --json --run-out scifact.trec
      colreduce evaluate scifact/ --encoder MODEL --recipe balanced --report scifact.html
    """
    none = encoder is None or encoder == "none"
    runs_in = options["runs_in"]
    if not sources:
        raise click.UsageError("Wanted at least one SOURCE.")
    if not recipes and not (none and vectors is None and runs_in):
        recipes = ("balanced",)
    if recipes and none and vectors is None and not all(one.is_file() for one in sources):
        raise click.UsageError("Wanted --encoder MODEL, or --vectors FILE in its place.")
    from colreduce.evaluate.compare import evaluate as measure

    with shared.screen.progress() as progress:
        found = measure(
            sources,
            None if none else encoder,
            recipes,
            metrics=metrics,
            vectors=vectors,
            seed=shared.seed,
            device=shared.device,
            cache=not no_cache,
            progress=progress,
            **options,
        )
    if report is not None:
        from colreduce.evaluate.report import write_report

        shared.screen.remark(f"the report is in {write_report(found, report)}")
    if shared.screen.as_json:
        shared.screen.document(found.to_dict())
    else:
        show_evaluation(shared.screen, found)
