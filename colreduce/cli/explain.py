"""The command ``colreduce explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from colreduce.cli.options import Command, Shared, shared
from colreduce.cli.screen import Screen

if TYPE_CHECKING:
    from colreduce.results import Explanation

# Shades of the document's tokens, by their vector's part of the score.
SHADES = ((0.66, "bold black on bright_yellow"), (0.33, "black on yellow"), (0.05, "underline"))


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("text", required=False)
@click.argument("id", metavar="ID", required=False)
@click.option(
    "--query-vectors",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Explain for the vectors [tokens, width] in a .npy, .npz or .safetensors file.",
)
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also write the explanation as a page that needs no network.",
)
@click.option(
    "--image",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="With --html: the picture of the page that the document is, PNG, JPEG or WebP.  "
    "[default: the small one that the index keeps]",
)
@click.option(
    "--encoder",
    metavar="MODEL",
    help="Model that encodes the text. Default: the one the index was built with.",
)
@shared
def explain(
    shared: Shared,
    folder: Path,
    text: str | None,
    id: str | None,
    query_vectors: Path | None,
    html: Path | None,
    image: Path | None,
    encoder: str | None,
) -> None:
    """Say why the document ID of the index in DIR has its score for TEXT.

    Each token of the query is shown with the tokens of the document that it met, through the
    reduction, and with its share of the score. With --query-vectors only the ID is given.

    \b
    Examples:
      colreduce explain idx "effects of caffeine on sleep" doc-17
      colreduce explain idx "effects of caffeine on sleep" doc-17 --html why.html
      colreduce explain idx doc-17 --query-vectors query.npy --json
    """
    if query_vectors is not None and id is None:
        text, id = None, text
    if id is None or (text is None) == (query_vectors is None):
        raise click.UsageError("Wanted TEXT and ID, or ID and --query-vectors FILE.")
    if image is not None and html is None:
        raise click.UsageError("--image is drawn on a page: name one by --html FILE, too.")
    from colreduce.embed.precomputed import one_query
    from colreduce.index import Index
    from colreduce.pages.explanation import explanation_page
    from colreduce.pages.page import write

    query: Any = one_query(query_vectors) if query_vectors is not None else text
    with Index.open(folder, encoder=encoder, device=shared.device) as index:
        found = index.explain(query, id)
        [stored] = index.get([id], pictures=True)
    if html is not None:
        write(html, explanation_page(found, image.read_bytes() if image else stored.picture))
    if shared.screen.as_json:
        shared.screen.document({"format": 1, **found.to_dict()})
        return
    show_explanation(shared.screen, found)
    if html is not None:
        shared.screen.remark(f"written to {html}")


def show_explanation(screen: Screen, found: Explanation) -> None:
    """Show an explanation: the document with what was met, and the shares as a table."""
    from colreduce.pages.explanation import TRACED, said

    screen.line(f"{found.id} scores {found.score:.3f}. {TRACED[found.traced]}")
    if found.text is not None:
        screen.line()
        screen.pieces(_shaded(found, found.text))
        screen.line()
    best = max((match.share for match in found.matches), default=0.0)
    rows = [
        (
            said(found, match.query_tokens, query=True),
            f"{match.share:.3f}",
            _bar(match.share, best),
            said(found, match.tokens) if match.tokens else f"vector {match.vector}",
        )
        for match in found.matches
    ]
    screen.table(["of the query", ">share", "", "~met, in the document"], rows)
    if found.pruned:
        screen.line(f"{len(found.pruned):,} of {len(found.tokens):,} tokens were pruned")
    for note in found.notes:
        screen.line(note)


def _bar(share: float, best: float) -> str:
    return "█" * round(10 * max(0.0, share) / best) if best > 0 else ""


def _shaded(found: Explanation, text: str) -> list[tuple[str, str]]:
    """Cut the text into pieces, each with the style that its part of the score deserves."""
    from colreduce.pages.explanation import pieces, strengths

    met = strengths(found)
    shaded = []
    for part, token in pieces(found, text):
        if token is None:
            shaded.append((part, ""))
        elif token.vector is None:
            shaded.append((part, "strike dim"))
        else:
            weight = met.get(token.vector, 0.0)
            style = next((style for least, style in SHADES if weight >= least), "")
            shaded.append((part, style))
    return shaded
