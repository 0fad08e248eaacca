"""The command ``colreduce evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from colreduce.cli.options import Command, RecipeName, Shared, shared
from colreduce.cli.screen import Screen, amount, seconds
from colreduce.cli.tables import share, show_losses

if TYPE_CHECKING:
    from colreduce.evaluate.compare import Row


@click.command(cls=Command)
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
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
    default=("balanced",),
    show_default=True,
    metavar="R",
    help="Preset, recipe line or .toml file. Repeat it to compare several.",
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
    "--run-out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the rankings as a TREC run file.",
)
@click.option("--no-cache", is_flag=True, help="Encode anew, and keep no embeddings.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Texts encoded at a time.",
)
@shared
def evaluate(
    shared: Shared,
    source: Path,
    encoder: str | None,
    recipes: tuple[str, ...],
    split: str,
    metrics: tuple[str, ...],
    vectors: Path | None,
    run_out: Path | None,
    no_cache: bool,
    batch_size: int,
) -> None:
    """Measure recipes on the judged queries of SOURCE.

    SOURCE is a folder in BEIR's layout, or a .npz file of vectors with judgements. Every recipe is
    built as a real index and searched; the table says what was left after each stage. Embeddings
    are kept under ~/.cache/colreduce, or where COLREDUCE_CACHE says.

    \b
    Examples:
      colreduce evaluate scifact/ --encoder MODEL --recipe exact --recipe balanced
      colreduce evaluate scifact/ --encoder MODEL --recipe "pca(dim=128) | ward(factor=16) | int8"
      colreduce evaluate scifact/ --encoder MODEL --json --run-out scifact.trec
    """
    none = encoder is None or encoder == "none"
    if none and vectors is None and not source.is_file():
        raise click.UsageError("Wanted --encoder MODEL, or --vectors FILE in its place.")
    from colreduce.evaluate.compare import as_document
    from colreduce.evaluate.compare import evaluate as measure

    with shared.screen.progress() as progress:
        rows = measure(
            source,
            None if none else encoder,
            recipes,
            split=split,
            metrics=metrics,
            vectors=vectors,
            seed=shared.seed,
            device=shared.device,
            batch_size=batch_size,
            cache=not no_cache,
            run_out=run_out,
            progress=progress,
        )
    if shared.screen.as_json:
        shared.screen.document(as_document(rows))
        return
    for row in rows:
        show_row(shared.screen, row)
    if len(rows) > 1:
        _compare(shared.screen, rows)


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


def _compare(screen: Screen, rows: list[Row]) -> None:
    screen.heading("side by side")
    names = list(rows[0].metrics)
    columns = ["recipe", *(f">{name}" for name in names)]
    columns += [f">{names[0]} of exact", ">bytes/doc", ">p50"]
    screen.table(
        columns,
        [
            (
                row.recipe,
                *(f"{row.metrics[name]:.3f}" for name in names),
                f"{row.relative[names[0]]:.1%}",
                amount(row.bytes_per_doc["total"]),
                f"{row.search_ms['p50']:.0f} ms",
            )
            for row in rows
        ],
    )
