"""What a command shows: results on stdout, progress and remarks on stderr.

Progress is a bar on a terminal and a plain line now and then anywhere else.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from colreduce.units import amount as amount
from colreduce.units import seconds as seconds

if TYPE_CHECKING:
    from rich.console import Console

# Seconds between two plain lines about the same work.
PAUSE = 10.0

# How wide the output is where there is no terminal to ask.
WIDTH = 110

DOING = {
    "read": "reading the documents",
    "encode": "encoding documents",
    "index": "building the index",
    "publish": "putting the pieces together",
    "search": "searching",
    "ledger": "measuring every stage",
    "train": "training",
}


class Tell(Protocol):
    """Takes what is being done, how much of it is done, of how much, and a remark on it."""

    def __call__(self, what: str, done: int, total: int, note: str = "", /) -> None:
        """Show it."""


class Screen:
    """Where a command writes."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        # Taken now: while the command runs with --json, stray writes to stdout are turned away.
        self._stdout = sys.stdout

    def document(self, content: Any) -> None:
        """Write the one JSON document of a command with --json."""
        json.dump(content, self._stdout, indent=2, ensure_ascii=False, allow_nan=False)
        self._stdout.write("\n")
        self._stdout.flush()

    def event(self, facts: Mapping[str, Any]) -> None:
        """Write one JSON line for machines to stderr, with --json only."""
        if self.as_json and not self.quiet:
            print_line(json.dumps(facts, ensure_ascii=False, allow_nan=False), sys.stderr)

    def remark(self, text: str) -> None:
        """Say something that is not the result."""
        if not self.quiet:
            print_line(text, sys.stderr)

    def line(self, text: str = "") -> None:
        """Write a line of the result."""
        print_line(text, self._stdout)

    def heading(self, text: str) -> None:
        """Write a heading."""
        self._console().print(f"\n{text}", style="bold", highlight=False, markup=False)

    def text(self, paragraph: str) -> None:
        """Write a paragraph, wrapped to the width there is."""
        self._console().print(paragraph, highlight=False, markup=False)

    def pieces(self, parts: Sequence[tuple[str, str]]) -> None:
        """Write a paragraph of pieces, each with its style."""
        from rich.text import Text

        self._console().print(Text.assemble(*parts))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table.

        A column whose name begins with ``>`` is set to the right; one that begins with ``~`` is
        cut to the room there is. Columns that have no names at all get no header.
        """
        from rich import box
        from rich.table import Table

        headed = any(name.strip(">~") for name in columns)
        look = box.SIMPLE_HEAD if headed else None
        stretch = any(name.startswith("~") for name in columns)
        shown = Table(box=look, show_header=headed, show_edge=False, pad_edge=False, expand=stretch)
        for name in columns:
            shown.add_column(
                name.strip(">~"),
                justify="right" if name.startswith(">") else "left",
                no_wrap=name.startswith((">", "~")),
                overflow="ellipsis" if name.startswith("~") else "fold",
                ratio=1 if name.startswith("~") else None,
            )
        for row in rows:
            shown.add_row(*(_plain(cell) for cell in row))
        self._console().print(shown)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Tell]:
        """Give a function to be told of progress: what is done, how much, of how much.

        A fourth word, if there is one, is a remark on it.
        """
        if self.quiet:
            yield lambda what, done, total, note="": None
        elif sys.stderr.isatty():
            yield from _bar()
        else:
            yield _Lines()

    def _console(self) -> Console:
        from rich.console import Console

        width = None if self._stdout.isatty() else WIDTH
        return Console(file=self._stdout, width=width, highlight=False)


class _Lines:
    """Progress as plain lines."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        begun = what in self._last
        whole = done >= total > 0
        if begun and not whole and now - self._last[what] < PAUSE:
            return
        self._last[what] = now
        if not begun and not whole:
            print_line(f"{DOING.get(what, what)} ...", sys.stderr)
        else:
            of = f" of {total:,}" if total else ""
            more = f"; {note}" if note else ""
            print_line(f"{DOING.get(what, what)}: {done:,}{of}{more}", sys.stderr)
        if whole:
            del self._last[what]


def _bar() -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int, note: str = "") -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(DOING.get(what, what), total=total or None, note=note)
            bar.update(tasks[what], completed=done, total=total or None, note=note)
            if done >= total > 0:
                bar.remove_task(tasks.pop(what))

        yield tell


def print_line(text: str, stream: TextIO) -> None:
    """Write a line to a stream at once."""
    stream.write(f"{text}\n")
    stream.flush()


def _plain(cell: str) -> Any:
    from rich.text import Text

    return Text(cell)


def one_line(text: str | None) -> str:
    """Return the beginning of a text without line breaks, longer than any line."""
    return " ".join((text or "")[:400].split())
