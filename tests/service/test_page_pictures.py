"""Collections of pages: their pictures over gRPC and in the console, with what was met on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from colreduce_indexer.job import build
from colreduce_indexer.plan import Settings
from colreduce_indexer.sources import open_source, suited
from colreduce_service.server import Server

import colreduce
from colreduce.embed import load_encoder
from colreduce.errors import BadInput
from colreduce.recipe import Recipe
from tests.chromium import chromium
from tests.reference.pdfs import write_pdf
from tests.reference.tiny_page_models import save_colqwen2
from tests.service.running import serving
from tests.service.running import until as happens

pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_encoder(save_colqwen2(tmp_path_factory.mktemp("models") / "model"), device="cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, encoder: Any) -> Path:
    folder = tmp_path_factory.mktemp("collections")
    papers = folder.parent / "papers"
    papers.mkdir(exist_ok=True)
    write_pdf(papers / "sea.pdf", ["tides and the moon", "bread rises"])
    source = suited(open_source(papers, vectors=False), encoder)
    settings = Settings(recipe=Recipe.parse("markers | ward(factor=4) | int8"))
    build(source, folder / "papers", settings, encoder=encoder)
    return folder


@pytest.fixture
def server(root: Path, encoder: Any) -> Iterator[Server]:
    with serving(root, encoder, console="127.0.0.1:0") as running:
        yield running


def test_a_client_is_given_pictures_when_it_asks_for_them(server: Server, root: Path) -> None:
    with (
        colreduce.Client(server.listening) as client,
        colreduce.Index.open(root / "papers") as index,
    ):
        hits = client.search("what rises", k=2)
        assert {hit.id for hit in hits} == {"sea.pdf#page=1", "sea.pdf#page=2"}
        [bare] = client.get(["sea.pdf#page=2"])
        assert bare.picture is None
        assert bare.text == "bread rises"
        assert client.get(["sea.pdf#page=2"], pictures=True) == index.get(
            ["sea.pdf#page=2"], pictures=True
        )
        found = client.explain("what rises", "sea.pdf#page=2")
        assert found.grid == (5, 4)
        with pytest.raises(BadInput, match="reads pages as pictures"):
            client.add(["text"], ["a document of text"])


def test_the_console_shows_pages_and_what_was_met_on_them(server: Server) -> None:
    with chromium() as browser:
        browser.show_address(f"http://{server.console}/")
        until(browser, "document.querySelector('#collection option') !== null")
        browser.value("document.querySelector('#query').value = 'what rises'")
        browser.value("document.querySelector('#ask').requestSubmit(); 0")
        until(browser, "document.querySelectorAll('.sheet img').length === 2")
        until(browser, "document.querySelector('.sheet img').naturalWidth > 100")
        browser.value("document.querySelector('.hit button').click()")
        until(browser, "document.querySelectorAll('.patches span').length === 20")
        shades = "[...document.querySelectorAll('.patches span')].map(e => e.style.background)"
        found = browser.value(shades)
        assert len(set(found)) > 1  # more was met on some patches than on others
        assert browser.complaints() == []
        met = browser.value("document.querySelector('.hit table').textContent")
        assert "row " in met


def until(browser: Any, condition: str) -> None:
    happens(lambda: bool(browser.value(condition)))
