"""The command ``colreduce inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from colreduce.cli.options import Command, Shared, shared
from colreduce.cli.screen import Screen
from colreduce.cli.tables import show_bytes, show_ledger, show_losses


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@shared
def inspect(shared: Shared, folder: Path) -> None:
    """Show what the index in DIR holds, how it was built and where its bytes go.

    \b
    Examples:
      colreduce inspect idx
      colreduce inspect idx --json
    """
    from colreduce.index import Index

    with Index.open(folder, verify="sizes") as index:
        about = index.describe()
    if shared.screen.as_json:
        shared.screen.document({"format": 1, **about})
    else:
        _show(shared.screen, about)


def _show(screen: Screen, about: dict[str, Any]) -> None:
    encoder = about["encoder"] or {}
    model = f"{encoder.get('name')}: {encoder.get('kind')}" if encoder else "none: vectors only"
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    facts = [
        ("index", about["path"]),
        ("documents", f"{about['documents']:,}"),
        ("generation", f"{about['generation']:,}"),
        ("segments", f"{about['segments']:,}"),
        ("recipe", about["recipe"]),
        ("encoder", model),
        (
            "vectors",
            f"{about['vectors_per_doc']:.1f} per document, "
            f"of {about['tokens_per_doc']:.1f} tokens, {about['dim']} wide as encoded",
        ),
        ("seed", str(about["seed"])),
        ("built with", versions),
    ]
    screen.table(["", ""], facts)
    if about["documents"]:
        screen.heading("Bytes")
        show_bytes(screen, about)
    if about["ledger"]:
        screen.heading("What every stage lost, measured when it was built")
        show_ledger(screen, about["ledger"])
    losses = about["notes"].get("losses")
    if losses:
        screen.heading("Losses against exact search, measured when it was built")
        show_losses(screen, losses)
