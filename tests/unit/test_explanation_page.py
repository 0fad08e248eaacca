"""An explanation as a page and in the terminal."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from colreduce import Index, Ragged
from colreduce.cli import main
from colreduce.pages.explanation import explanation_page, pieces, said, strengths
from colreduce.pages.page import write
from colreduce.results import Explanation, Match, Token
from tests.chromium import Browser, chromium
from tests.hashing_encoder import HashingEncoder
from tests.unit.test_explain import TEXTS

QUERY = "wild <b>yeasts</b> raise"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def text_hit(tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    path = tmp_path_factory.mktemp("explained") / "idx"
    texts = {**TEXTS, "<i>x": "Wild <script>yeasts</script> raise & raise a dough."}
    with Index.create(path, recipe="ward(factor=2) | int8", encoder=HashingEncoder()) as index:
        index.add(list(texts), list(texts.values()))
        return index.explain(QUERY, "<i>x")


@pytest.fixture(scope="module")
def page_hit(tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    draws = torch.Generator().manual_seed(0)
    page = torch.nn.functional.normalize(torch.randn(6, 8, generator=draws), dim=1)
    path = tmp_path_factory.mktemp("page") / "idx"
    with Index.create(path, recipe="ward(factor=2) | fp32", dim=8) as index:
        with index.batch() as batch:
            batch.add(["page"], embeddings=Ragged.pack([page], grid=[torch.tensor([0, 2, 3])]))
        return index.explain(page[[4, 0]].numpy(), "page")


def test_what_was_typed_and_stored_cannot_become_markup(text_hit: Explanation) -> None:
    shown = explanation_page(text_hit)
    for evil in ("<script>", "<b>yeasts", "<i>x"):
        assert evil not in shown
    assert "Why &lt;i&gt;x scores" in shown


def test_the_pieces_of_a_text_are_the_text(text_hit: Explanation) -> None:
    assert text_hit.text is not None
    assert "".join(part for part, _ in pieces(text_hit, text_hit.text)) == text_hit.text


def test_the_vector_with_the_largest_share_is_the_strongest() -> None:
    matches = (Match((0,), 2, (1,), 0.5), Match((1,), 2, (1,), 0.3), Match((2,), 0, (0,), 0.4))
    found = Explanation("d", 1.2, matches, (), (Token(0), Token(1)))
    assert strengths(found) == {2: 1.0, 0: 0.4 / 0.8}


def test_tokens_are_named_by_words_patches_or_numbers() -> None:
    words = Explanation(
        "d", 0, (), (), (Token(0, "na", (0, 2)), Token(1, "ive", (2, 5))), text="naïve"
    )
    assert said(words, (0, 1)) == "naïve"
    patches = Explanation("d", 0, (), (), (Token(0, patch=(1, 2)), Token(1)))
    assert said(patches, (0, 1)) == "row 2, column 3 … vector 1"
    many = Explanation("d", 0, (), (), tuple(Token(n) for n in range(20)))
    assert said(many, range(20)).endswith("vector 11 and 8 more")


def test_the_page_works_in_a_browser_and_asks_for_nothing(
    text_hit: Explanation, browser: Browser, tmp_path: Path
) -> None:
    path = write(tmp_path / "why.html", explanation_page(text_hit))
    browser.show(path, width=420, dark=True)
    assert browser.complaints() == []
    assert browser.requests() == [path.resolve().as_uri()]
    assert browser.value("document.querySelector('.document').textContent") == text_hit.text
    assert browser.value("document.documentElement.scrollWidth") <= 420
    match = text_hit.matches[1]
    strong = "getComputedStyle(document.querySelector('.document .v{}')).getPropertyValue('--s')"
    other = next(one.vector for one in text_hit.matches if one.vector != match.vector)
    assert float(browser.value(strong.format(other))) > 0
    browser.value("document.querySelector('label[for=q1]').click()")
    assert float(browser.value(strong.format(other))) == 0
    assert float(browser.value(strong.format(match.vector))) > 0


def test_a_page_is_shown_as_its_patches_over_its_picture(
    page_hit: Explanation, browser: Browser, tmp_path: Path
) -> None:
    path = write(tmp_path / "page.html", explanation_page(page_hit, png(3, 2)))
    browser.show(path)
    assert browser.complaints() == []
    assert browser.value("document.querySelectorAll('.patches span').length") == 6
    assert browser.value("document.querySelector('.sheet img').naturalWidth") == 3
    assert browser.value("document.querySelector('.sheet img').src")[:15] == "data:image/png;"


def png(width: int, height: int) -> bytes:
    """Make a grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_the_command_explains_text_and_writes_a_page(tmp_path: Path, demo_model: Path) -> None:
    with Index.create(tmp_path / "idx", recipe="ward(factor=2)", encoder=demo_model) as index:
        index.add(list(TEXTS), list(TEXTS.values()))
    words = ["explain", str(tmp_path / "idx"), "how is dough raised", "bread"]
    told = CliRunner().invoke(main, [*words, "--html", str(tmp_path / "why.html")])
    assert told.exit_code == 0, told.output
    assert "bread scores" in told.stdout
    assert "written to" in told.stderr
    assert (tmp_path / "why.html").read_text().startswith("<!doctype html>")
    plain = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert Explanation.from_dict({k: v for k, v in plain.items() if k != "format"}).id == "bread"


def test_the_command_explains_vectors(tmp_path: Path) -> None:
    vectors = np.eye(4, dtype=np.float32)
    with Index.create(tmp_path / "idx", recipe="fp32", dim=4) as index:
        index.add(["a"], embeddings=[vectors])
    np.save(tmp_path / "query.npy", vectors[[2]])
    words = ["explain", str(tmp_path / "idx"), "a", "--query-vectors", str(tmp_path / "query.npy")]
    told = CliRunner().invoke(main, words)
    assert told.exit_code == 0, told.output
    assert "a scores 1.000" in told.stdout
    assert "vector 2" in told.stdout
    lacking = CliRunner().invoke(main, ["explain", str(tmp_path / "idx"), "a"])
    assert lacking.exit_code == 2
    assert "Wanted TEXT and ID" in lacking.stderr
    lacking = CliRunner().invoke(main, [*words, "--image", str(tmp_path / "query.npy")])
    assert lacking.exit_code == 2
    assert "--html" in lacking.stderr


def test_a_page_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write(tmp_path / "why.html", "half of a pair: \ud800")
    (tmp_path / "taken.html").mkdir()
    with pytest.raises(OSError, match="directory"):
        write(tmp_path / "taken.html", "a page")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.html"]
