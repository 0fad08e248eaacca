"""The commands that change and copy an index: delete, get, compact, snapshot and restore."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from colreduce.cli.options import Command, Shared, shared
from colreduce.cli.screen import Screen, one_line

folder_argument = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
ids_argument = click.argument("ids", metavar="ID...", nargs=-1, required=True)
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done; do nothing.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command(cls=Command)
@folder_argument
@ids_argument
@dry_run_option
@yes_option
@shared
def delete(shared: Shared, folder: Path, ids: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Delete documents from the index in DIR; '-' reads ids from stdin, one a line.

    Their bytes stay until 'colreduce compact', and are gone for good after 'compact --purge'.

    \b
    Examples:
      colreduce delete idx doc-17 doc-18
      colreduce delete idx - --yes < old-ids.txt
    """
    from colreduce.index import Index

    named = list(dict.fromkeys(_ids(ids)))
    with Index.open(folder) as index:
        there = [one for one in named if one in index]
        missing = [one for one in named if one not in set(there)]
        if dry_run or not there:
            _told(shared.screen, "would delete", there, missing, index.generation, dry_run=True)
            return
        if not yes:
            click.confirm(
                f"Delete {len(there):,} of {len(index):,} documents?", abort=True, err=True
            )
        index.delete(there)
        _told(shared.screen, "deleted", there, missing, index.generation, dry_run=False)


def _told(
    screen: Screen,
    word: str,
    there: list[str],
    missing: list[str],
    generation: int,
    *,
    dry_run: bool,
) -> None:
    if screen.as_json:
        screen.document(
            {
                "format": 1,
                "deleted": there,
                "missing": missing,
                "generation": generation,
                "dry_run": dry_run,
            }
        )
        return
    screen.line(f"{word} {len(there):,} documents")
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        screen.remark(f"not there: {shown}")


@click.command(cls=Command)
@folder_argument
@ids_argument
@shared
def get(shared: Shared, folder: Path, ids: tuple[str, ...]) -> None:
    """Show stored documents of the index in DIR.

    \b
    Examples:
      colreduce get idx doc-17
      colreduce get idx doc-17 doc-18 --json
    """
    from colreduce.index import Index

    with Index.open(folder) as index:
        found = index.get(_ids(ids))
    if shared.screen.as_json:
        entries = [{"id": d.id, "metadata": dict(d.metadata), "text": d.text} for d in found]
        shared.screen.document({"format": 1, "documents": entries})
        return
    rows = [(d.id, one_line(str(dict(d.metadata))), one_line(d.text)) for d in found]
    shared.screen.table(["id", "metadata", "~text"], rows)


@click.command(cls=Command)
@folder_argument
@click.option("--purge", is_flag=True, help="Remove every byte of what was deleted or replaced.")
@dry_run_option
@yes_option
@shared
def compact(shared: Shared, folder: Path, purge: bool, dry_run: bool, yes: bool) -> None:
    """Move all documents of the index in DIR into one segment.

    Searches go on meanwhile and give the same answers. Older generations stay for readers that
    use them, unless --purge is given.

    \b
    Examples:
      colreduce compact idx
      colreduce compact idx --purge --yes
    """
    from colreduce.index import Index

    with Index.open(folder) as index:
        before = index.describe()
        if not dry_run:
            if purge and not yes:
                click.confirm("Remove older generations for good?", abort=True, err=True)
            index.compact(purge=purge)
        after = index.describe()
    answer = {
        "format": 1,
        "dry_run": dry_run,
        "generation": after["generation"],
        "documents": after["documents"],
        "segments": {"before": before["segments"], "after": after["segments"]},
        "bytes": {"before": before["bytes"]["total"], "after": after["bytes"]["total"]},
    }
    if shared.screen.as_json:
        shared.screen.document(answer)
    elif dry_run:
        shared.screen.line(f"would move {before['segments']} segments into one")
    else:
        shared.screen.line(
            f"{before['segments']} segments became {after['segments']}, "
            f"{after['documents']:,} documents, generation {after['generation']}"
        )


@click.command(cls=Command)
@folder_argument
@click.argument("out", metavar="FILE")
@shared
def snapshot(shared: Shared, folder: Path, out: str) -> None:
    """Write a complete copy of the index in DIR into one new FILE, while it is in use.

    FILE may be the URL of an object (with the extra [storage]). The copy then takes room in the
    folder for temporary files until it has been sent.

    \b
    Examples:
      colreduce snapshot idx idx-monday.tar
      colreduce snapshot idx s3://backups/idx-monday.tar
    """
    from colreduce.index import Index
    from colreduce.objects import Objects, is_url

    with Index.open(folder) as index:
        generation = index.snapshot(out)
    size = Objects(out).size() if is_url(out) else Path(out).stat().st_size
    answer = {"format": 1, "file": out, "generation": generation, "bytes": size}
    _answered(shared.screen, answer, f"{out}: generation {generation}, {size:,} bytes")


@click.command(cls=Command)
@click.argument("file", metavar="FILE")
@folder_argument
@shared
def restore(shared: Shared, file: str, folder: Path) -> None:
    """Make an index in the new folder DIR from a FILE that 'snapshot' wrote, or its URL.

    Every byte is checked before the index appears.

    \b
    Examples:
      colreduce restore idx-monday.tar idx-again
      colreduce restore s3://backups/idx-monday.tar idx-again
    """
    from colreduce.index import Index

    with Index.restore(file, folder) as index:
        answer = {
            "format": 1,
            "path": str(folder),
            "generation": index.generation,
            "documents": len(index),
        }
    _answered(shared.screen, answer, f"{folder}: {answer['documents']:,} documents")


def _answered(screen: Screen, answer: dict[str, Any], words: str) -> None:
    if screen.as_json:
        screen.document(answer)
    else:
        screen.line(words)


def _ids(given: tuple[str, ...]) -> list[str]:
    """Return the ids named, or those on stdin for a lone '-'."""
    if given == ("-",):
        return [line.strip() for line in sys.stdin if line.strip()]
    return list(given)
