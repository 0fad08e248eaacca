"""The command ``colreduce search``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from colreduce.cli.options import Command, Shared, shared
from colreduce.cli.screen import Screen, one_line, seconds

if TYPE_CHECKING:
    from colreduce.index import Hit, Index


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("text", required=False)
@click.option(
    "-k", "k", type=click.IntRange(min=1), default=10, show_default=True, help="Hits to return."
)
@click.option(
    "--candidates",
    type=click.IntRange(min=1),
    metavar="N",
    help="Documents asked of the first stage. Default: what the recipe says.",
)
@click.option(
    "--filter",
    metavar="F",
    help="What the metadata must be, as a line or as JSON: 'year >= 2019 and lang in (en, de)'.",
)
@click.option("--exact", is_flag=True, help="Score every document, whatever the recipe says.")
@click.option(
    "--query-vectors",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Search for the vectors [tokens, width] in a .npy, .npz or .safetensors file.",
)
@click.option(
    "--encoder",
    metavar="MODEL",
    help="Model that encodes the text. Default: the one the index was built with.",
)
@shared
def search(
    shared: Shared,
    folder: Path,
    text: str | None,
    k: int,
    candidates: int | None,
    filter: str | None,
    exact: bool,
    query_vectors: Path | None,
    encoder: str | None,
) -> None:
    """Search the index in DIR for TEXT; '-' reads the text from stdin.

    \b
    Examples:
      colreduce search idx "effects of caffeine on sleep" -k 5
      colreduce search idx "effects of caffeine on sleep" --exact --json
      colreduce search idx "heart attacks" --filter "year >= 2019 and lang = en"
      colreduce search idx --query-vectors query.npy
    """
    if (text is None) == (query_vectors is None):
        raise click.UsageError("Wanted either TEXT or --query-vectors FILE.")
    if text == "-":
        text = sys.stdin.read()
    if text is not None and not text.strip():
        raise click.UsageError("TEXT is empty.")
    from colreduce.embed.precomputed import one_query
    from colreduce.index import Index

    wanted = read_filter(filter)
    query: Any = text.strip() if text is not None else one_query(query_vectors or Path())
    with Index.open(folder, encoder=encoder, device=shared.device) as index:
        if isinstance(query, str):
            asked = index.ask([query], k, candidates=candidates, exact=exact, filter=wanted)
        started = perf_counter()
        if isinstance(query, str):
            hits = index.view.search(asked[0])
        else:
            hits = index.search(query, k, candidates=candidates, exact=exact, filter=wanted)
        took = perf_counter() - started
        answer: dict[str, Any] = {
            "format": 1,
            "query": query if isinstance(query, str) else None,
            "generation": index.generation,
            "documents": len(index),
            "search_ms": took * 1000,
            "hits": as_dicts(index, hits),
        }
    if shared.screen.as_json:
        shared.screen.document(answer)
        return
    show_hits(shared.screen, answer["hits"])
    shared.screen.remark(f"{len(hits)} of {answer['documents']:,} documents in {seconds(took)}")


def read_filter(given: str | None) -> Any:
    """Return a filter as JSON's values or as the line it is; None for none."""
    if given is None or not given.lstrip().startswith("{"):
        return given
    try:
        return json.loads(given)
    except json.JSONDecodeError as error:
        raise click.BadParameter(f"not valid JSON: {error}", param_hint="--filter") from error


def as_dicts(index: Index, hits: list[Hit]) -> list[dict[str, Any]]:
    """Return hits as plain values, with their texts where the index keeps them."""
    texts = [document.text for document in index.get([hit.id for hit in hits])]
    return [
        {"id": hit.id, "score": hit.score, "metadata": dict(hit.metadata), "text": text}
        for hit, text in zip(hits, texts, strict=True)
    ]


def show_hits(screen: Screen, hits: list[dict[str, Any]]) -> None:
    """Show hits as a table: rank, score, id and the beginning of the text."""
    if not hits:
        screen.line("no hits")
        return
    rows = [
        (str(rank), f"{hit['score']:.3f}", hit["id"], one_line(hit["text"]))
        for rank, hit in enumerate(hits, start=1)
    ]
    has_texts = any(row[3] for row in rows)
    columns = [">", ">score", "id", "~text"]
    screen.table(
        columns if has_texts else columns[:3], rows if has_texts else [r[:3] for r in rows]
    )
