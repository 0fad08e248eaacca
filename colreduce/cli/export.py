"""The command ``colreduce export``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from colreduce.cli.options import Command, Shared, shared
from colreduce.cli.screen import amount

FORMATS = ("parquet", "safetensors", "qdrant", "lancedb", "vespa")


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--to", type=click.Choice(FORMATS), required=True, help="The format.")
@click.option("--no-texts", is_flag=True, help="Leave the texts behind.")
@click.option(
    "--as-stored",
    is_flag=True,
    help="Write the codec's numbers instead of decoded vectors; safetensors only.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be written; write nothing.")
@click.option("--yes", is_flag=True, help="Replace what stands at OUT.")
@shared
def export(
    shared: Shared,
    folder: Path,
    out: Path,
    to: str,
    no_texts: bool,
    as_stored: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Write all documents of the index in DIR to OUT in another system's format.

    Ids, metadata and texts go along with the reduced vectors and with the vectors of the first
    stage. OUT appears when it is complete; what stands there is replaced only with --yes.

    \b
    Examples:
      colreduce export idx --to parquet idx.parquet
      colreduce export idx --to qdrant idx-qdrant
      colreduce export idx --to safetensors idx-vectors --as-stored
    """
    from colreduce.export import export_index
    from colreduce.index import Index

    with Index.open(folder) as index:
        done = export_index(
            index,
            to,
            out,
            texts=not no_texts,
            as_stored=as_stored,
            replace=yes,
            dry_run=dry_run,
        )
    if shared.screen.as_json:
        shared.screen.document(
            {**dataclasses.asdict(done), "format": 1, "to": to, "dry_run": dry_run}
        )
        return
    size = "" if dry_run else f", {amount(done.bytes)}"
    stages = "".join(f", {name} [{width}]" for name, width in done.first_stages.items())
    texts = ", texts" if done.texts else ""
    shared.screen.line(
        f"{'would write ' if dry_run else ''}{out}: {done.documents:,} documents, "
        f"{done.vectors:,} vectors [{done.dim}]{stages}{texts}{size}"
    )
    for remark in done.remarks:
        shared.screen.remark(remark)
