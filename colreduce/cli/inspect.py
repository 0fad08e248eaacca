"""The command ``colreduce inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from colreduce.cli.options import Command, Shared, shared
from colreduce.cli.screen import Screen, amount
from colreduce.cli.tables import show_bytes, show_ledger, show_losses

if TYPE_CHECKING:
    from colreduce.store import Unfinished


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@shared
def inspect(shared: Shared, folder: Path) -> None:
    """Show what the index in DIR holds, how it was built and where its bytes go.

    Of an index that is still being built, it says how far the build is and whether it runs.

    \b
    Examples:
      colreduce inspect idx
      colreduce inspect idx --json
    """
    from colreduce.index import Index
    from colreduce.store import unfinished
    from colreduce.store.manifest import generations

    begun = None if generations(folder) else unfinished(folder)
    if begun is not None:
        _show_building(shared.screen, folder, begun)
        return
    with Index.open(folder, verify="sizes") as index:
        about = index.describe()
    if shared.screen.as_json:
        shared.screen.document({"format": 1, **about})
    else:
        _show(shared.screen, about)


def _show_building(screen: Screen, folder: Path, begun: Unfinished) -> None:
    """Show how far a build is."""
    record, cuts = begun.record, begun.record["cuts"]
    done = sum(min(cuts["piece"], record["documents"] - n * cuts["piece"]) for n in begun.done)
    state = "stopped" if begun.holder is None else "running"
    facts = {
        "state": state,
        "process": begun.holder,
        "begun": record["begun"],
        "source": record["source"]["name"],
        "recipe": record["config"]["recipe_line"],
        "documents": {"done": done, "all": record["documents"]},
        "pieces": {"done": len(begun.done), "all": record["pieces"]},
        "rejected": len(record["rejected"]),
        "bytes": begun.bytes,
    }
    if screen.as_json:
        screen.document({"format": 1, "path": str(folder), "building": facts})
        return
    advice = "the 'colreduce index' that began it, typed again, goes on with it"
    works = f"process {begun.holder} works on it" if begun.holder else advice
    screen.table(
        ["", ""],
        [
            ("build", f"{state}: {works}"),
            ("index", str(folder)),
            ("source", record["source"]["name"]),
            ("recipe", record["config"]["recipe_line"]),
            ("begun", record["begun"]),
            ("documents", f"{done:,} of {record['documents']:,}"),
            ("pieces", f"{len(begun.done):,} of {record['pieces']:,}"),
            ("left out", f"{len(record['rejected']):,} records"),
            ("so far", amount(begun.bytes)),
        ],
    )


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
    if ran := about["notes"].get("ran_on"):
        stages = ", ".join(f"{stage} {where}" for stage, where in ran["stages"].items())
        facts.append(("ran on", f"{ran['device']}: {stages}"))
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
