"""The command ``colreduce index``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from colreduce.cli.options import Command, RecipeName, Shared, shared
from colreduce.cli.screen import Screen, seconds
from colreduce.cli.tables import show_bytes, show_ledger

if TYPE_CHECKING:
    from colreduce_indexer.job import Built

STAGES = {
    "check": "reading and checking",
    "fit": "learning from a sample",
    "encode": "encoding",
    "reduce": "reducing and packing",
    "first_stage": "first stage",
    "publish": "publishing",
    "ledger": "measuring the losses",
}


@click.command(cls=Command)
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the index, made anew.",
)
@click.option(
    "--recipe",
    type=RecipeName(),
    default="balanced",
    show_default=True,
    metavar="R",
    help="Preset, recipe line or .toml file.",
)
@click.option(
    "--encoder",
    metavar="MODEL",
    help="Model folder or hub id; 'none' with --vectors for an index that takes vectors only.",
)
@click.option(
    "--vectors", is_flag=True, help="SOURCE holds vectors: .npz or .safetensors, or a folder."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="First N documents only.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Texts encoded at a time.",
)
@click.option(
    "--store-texts/--no-store-texts",
    default=True,
    show_default=True,
    help="Keep the texts, compressed, so that hits can be shown.",
)
@click.option(
    "--store-assignment/--no-store-assignment",
    default=None,
    help="Keep where every original token went, so that hits can be explained.  "
    "[default: where texts cannot be encoded again to find that out]",
)
@click.option(
    "--ledger/--no-ledger",
    default=None,
    help="Measure what every stage loses, on queries drawn from the documents.  "
    "[default: up to 100,000 documents]",
)
@shared
def index(
    shared: Shared,
    source: Path,
    out: Path,
    recipe: str,
    encoder: str | None,
    vectors: bool,
    limit: int | None,
    batch_size: int,
    store_texts: bool,
    store_assignment: bool | None,
    ledger: bool | None,
) -> None:
    """Build an index of SOURCE in a new folder.

    SOURCE is a folder in BEIR's layout, a .jsonl file (packed or not) of documents with _id and
    text, or with --vectors a .npz or .safetensors file of vectors or a folder of such files. The
    corpus is streamed; a source with a mistake in it leaves no index behind.

    \b
    Examples:
      colreduce index scifact/ --out idx --encoder MODEL --recipe small
      colreduce index docs.jsonl.gz --out idx --encoder MODEL --limit 1000
      colreduce index pages.npz --vectors --out idx --recipe "ward(factor=8) | int8"
    """
    none = encoder is None or encoder == "none"
    if none and not vectors:
        if encoder == "none":
            vectors = True
        else:
            raise click.UsageError("Wanted --encoder MODEL, or --vectors if SOURCE holds vectors.")
    from colreduce.embed import load_encoder
    from colreduce.recipe import Recipe
    from colreduce_indexer.job import build, refuse_existing
    from colreduce_indexer.sources import open_source

    chosen = Recipe.parse(recipe)
    refuse_existing(out)
    loaded = None if none else load_encoder(encoder, device=shared.device)
    if loaded is not None:
        shared.screen.remark(loaded.describe())
    opened = open_source(source, loaded, vectors=vectors, limit=limit, batch_size=batch_size)
    with shared.screen.progress() as progress:
        built = build(
            opened,
            out,
            chosen,
            encoder=loaded,
            seed=shared.seed,
            store_texts=store_texts,
            store_assignment=store_assignment,
            ledger=ledger,
            progress=progress,
        )
    if shared.screen.as_json:
        shared.screen.document(built.to_dict())
    else:
        _show(shared.screen, built)


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@click.option(
    "--vectors", is_flag=True, help="SOURCE holds vectors: .npz or .safetensors, or a folder."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="First N documents only.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Texts encoded at a time.",
)
@shared
def add(
    shared: Shared, folder: Path, source: Path, vectors: bool, limit: int | None, batch_size: int
) -> None:
    """Add the documents of SOURCE to the index in DIR; ids that are there are replaced.

    SOURCE is what 'colreduce index' takes. All of it becomes visible at once, when it is on disk.

    \b
    Examples:
      colreduce add idx new.jsonl
      colreduce add idx pages.npz --vectors
    """
    from colreduce.index import Index
    from colreduce_indexer.job import add_all
    from colreduce_indexer.sources import open_source

    with Index.open(folder, device=shared.device) as index:
        encoder = None if vectors else index.encoder
        opened = open_source(source, encoder, vectors=vectors, limit=limit, batch_size=batch_size)
        with shared.screen.progress() as progress:
            taken = add_all(index, opened, shared.seed, progress)
        answer = {
            "format": 1,
            "generation": index.generation,
            "documents": len(index),
            "seconds": taken,
        }
    if shared.screen.as_json:
        shared.screen.document(answer)
    else:
        shared.screen.line(
            f"{folder}: {answer['documents']:,} documents, generation {answer['generation']}"
        )


def _show(screen: Screen, built: Built) -> None:
    about = built.description
    screen.line(
        f"{about['path']}: {about['documents']:,} documents, "
        f"{about['vectors_per_doc']:.1f} vectors each of {about['tokens_per_doc']:.1f} tokens"
    )
    screen.line(f"recipe: {about['recipe']}")
    show_bytes(screen, about)
    if about["ledger"]:
        screen.heading("What every stage lost")
        show_ledger(screen, about["ledger"])
    took = [
        (label, seconds(built.seconds[name]))
        for name, label in STAGES.items()
        if name in built.seconds
    ]
    screen.table(["", ">"], took)
