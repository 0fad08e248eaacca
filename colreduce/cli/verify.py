"""The command ``colreduce verify``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from colreduce.cli.options import Command, Shared, shared
from colreduce.cli.screen import Screen
from colreduce.cli.tables import spread


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--quality",
    is_flag=True,
    help="Also measure again what every stage loses, and say whether a rebuild would pay.",
)
@shared
def verify(shared: Shared, folder: Path, quality: bool) -> None:
    """Read every byte of the index in DIR again and name the files that are damaged.

    With --quality also measure, on a sample of the documents as they are now, what every stage
    loses, beside what it lost when the index was built. Exits with 1 if any file is damaged; then
    the quality is not measured.

    \b
    Examples:
      colreduce verify idx
      colreduce verify idx --quality
    """
    from colreduce.index import Index

    report = Index.verify(folder)
    answer: dict[str, Any] = {
        "format": 1,
        "sound": report.sound,
        "generation": report.generation,
        "documents": report.documents,
        "files": report.files,
        "bytes": report.bytes,
        "problems": list(report.problems),
    }
    if quality:
        answer["quality"] = _measured(folder) if report.sound else None
    if shared.screen.as_json:
        shared.screen.document(answer)
    else:
        _show(shared.screen, answer)
    if not report.sound:
        sys.exit(1)


def _measured(folder: Path) -> dict[str, Any]:
    from colreduce.evaluate.drift import quality as measured
    from colreduce.index import Index

    with Index.open(folder, verify="sizes") as index:
        return measured(index).to_dict()


def _show(screen: Screen, answer: Mapping[str, Any]) -> None:
    words = (
        f"{answer['files']:,} files, {answer['bytes']:,} bytes, generation {answer['generation']}"
    )
    wrong = f"{len(answer['problems'])} problems"
    screen.line(f"{words}: {'sound' if answer['sound'] else wrong}")
    for problem in answer["problems"]:
        screen.remark(problem)
    if "quality" in answer:
        if answer["quality"] is None:
            screen.line("the quality was not measured, because the index is damaged")
        else:
            _show_quality(screen, answer["quality"])


def _show_quality(screen: Screen, quality: Mapping[str, Any]) -> None:
    from colreduce.evaluate.held_out import KINDS

    screen.heading("What every stage loses now, of the best ten")
    rows = [
        (one["stage"], *(_spread(one[name]) for name in ("at_build", "lost", "change")))
        for one in quality["stages"]
    ]
    screen.table(["stage", ">when built", ">now", ">change"], rows)
    queries = quality["queries"]
    since = quality["written_since"]
    newer = "" if since is None else f"; {since:,} documents were written since the build"
    screen.line(
        f"on {queries['count']} {KINDS[queries['kind']]} among {quality['sampled']:,} sampled "
        f"documents; the last row is the whole index{newer}"
    )
    if quality["relearned"] is not None:
        screen.line(f"methods that learn anew would keep {_spread(quality['relearned'])} more")
    verdict = quality["rebuild"]
    pays = "a rebuild would pay" if verdict["pays"] else "a rebuild would not pay"
    screen.line(f"{pays}: {verdict['why']}")


def _spread(interval: Mapping[str, float] | None) -> str:
    return "-" if interval is None else spread(interval)
