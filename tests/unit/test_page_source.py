"""Pages from files into an index, and back: search, pictures, and why a page was found."""

from __future__ import annotations

import json
import os
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from colreduce_indexer import job, stages
from colreduce_indexer.job import build
from colreduce_indexer.plan import Settings
from colreduce_indexer.sources import Source, open_source, suited
from colreduce_indexer.stages import with_vectors

from colreduce.cli import main
from colreduce.embed import load_encoder
from colreduce.embed.pages import drawn
from colreduce.errors import BadData, BadInput
from colreduce.index import Index
from colreduce.recipe import Recipe
from tests.chromium import chromium
from tests.hashing_encoder import HashingEncoder
from tests.reference.pdfs import write_pdf
from tests.reference.tiny_page_models import save_colpali, save_colqwen2

pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
images = pytest.importorskip("PIL.Image", reason="pillow is not installed")

TIDES = "Tides and the moon rise twice a day along most coasts."
BREAD = "Bread rises with yeast in a warm and quiet place."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_colqwen2(tmp_path_factory.mktemp("models") / "colqwen2")


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    """Return a folder with four pages in three files, and two files that hold none."""
    folder = tmp_path / "papers"
    (folder / "inner").mkdir(parents=True)
    write_pdf(folder / "sea.pdf", [TIDES, BREAD], (600, 800))
    write_pdf(folder / "inner" / "wide.pdf", ["One page ."], (800, 400))
    images.new("RGB", (500, 700), "yellow").save(folder / "scan.png")
    write_pdf(folder / "locked.pdf", ["secret"], locked=True)
    (folder / "torn.pdf").write_bytes(b"%PDF-1.7")
    (folder / "notes.txt").write_text("no page")
    return folder


def everything(source: Source, start: int = 0) -> tuple[list[Any], list[Any]]:
    documents: list[Any] = []
    bad: list[Any] = []
    for batch in source.read(start):
        some = batch.documents
        assert some.texts is not None
        assert some.metadata is not None
        documents += zip(some.numbers, some.ids, some.texts, some.metadata, strict=True)
        bad += batch.bad
    return documents, bad


def test_every_page_is_a_document_and_every_file_without_one_is_told(papers: Path):
    source = open_source(papers, vectors=False)
    documents, bad = everything(source)
    assert [(number, one, text) for number, one, text, _ in documents] == [
        (0, "inner/wide.pdf#page=1", "One page ."),
        (2, "scan.png", ""),
        (3, "sea.pdf#page=1", TIDES),
        (4, "sea.pdf#page=2", BREAD),
    ]
    assert documents[3][3] == {"file": "sea.pdf", "page": 2, "width": 600, "height": 800}
    assert [(one.number, one.reason) for one in bad] == [
        (1, "it is encrypted"),
        (5, "it is damaged or no PDF"),
    ]
    assert bad[0].place == str(papers / "locked.pdf")


def test_reading_may_begin_at_any_record(papers: Path):
    source = open_source(papers, vectors=False)
    documents, bad = everything(source)
    for start in range(8):
        later = everything(source, start)
        assert later[0] == [one for one in documents if one[0] >= start]
        assert [one.number for one in later[1]] == [
            one.number for one in bad if one.number >= start
        ]


def test_a_long_file_is_left_out_when_few_pages_are_taken(papers: Path):
    documents, bad = everything(open_source(papers, vectors=False, most_pages=1))
    assert [one for _, one, _, _ in documents] == ["inner/wide.pdf#page=1", "scan.png"]
    assert bad[1].reason == "it has 2 pages; 1 to 1 are taken of a file"


def test_one_file_is_a_source_too(papers: Path):
    documents, _ = everything(open_source(papers / "sea.pdf", vectors=False))
    assert [one for _, one, _, _ in documents] == ["sea.pdf#page=1", "sea.pdf#page=2"]
    (papers.parent / "empty").mkdir()
    with pytest.raises(BadData, match="Nor is there a PDF or a picture"):
        open_source(papers.parent / "empty", vectors=False)


def settings(recipe: str = "ward(factor=4) | int8", **more: Any) -> Settings:
    return Settings(recipe=Recipe.parse(recipe), max_rejects=2, **more)


def test_pages_are_built_into_an_index_with_grids_pictures_and_texts(
    papers: Path, tmp_path: Path, model: str
):
    encoder = load_encoder(model, device="cpu")
    source = suited(open_source(papers, vectors=False), encoder)
    built = build(source, tmp_path / "idx", settings(), encoder=encoder)
    assert built.rejected == 2
    with Index.open(tmp_path / "idx") as index:
        hits = index.search("what rises", k=4)
        assert len(hits) == 4
        documents = {one.id: one for one in index.get([hit.id for hit in hits], pictures=True)}
        assert documents["sea.pdf#page=2"].text == BREAD
        assert documents["scan.png"].text == ""
        assert all((one.picture or b"")[:4] == b"RIFF" for one in documents.values())
        assert index.get(["scan.png"])[0].picture is None  # nobody asked for it
        found = index.explain("what rises", "inner/wide.pdf#page=1")
        assert found.traced == "stored"
        assert found.grid == (3, 6)
        patches = [token.patch for token in found.tokens if token.patch is not None]
        assert patches == [(row, column) for row in range(3) for column in range(6)]
        assert found.notes == ()
        assert index.describe()["bytes"]["pictures"] > 0
    again = build(source, tmp_path / "again", settings(), encoder=encoder)
    assert again.digest == built.digest


def test_pictures_outlive_the_files_a_deletion_and_a_compaction(
    papers: Path, tmp_path: Path, model: str
):
    encoder = load_encoder(model, device="cpu")
    source = suited(open_source(papers, vectors=False), encoder)
    build(source, tmp_path / "idx", settings(), encoder=encoder)
    shutil.rmtree(papers)
    with Index.open(tmp_path / "idx", encoder=encoder) as index:
        before = {one.id: one.picture for one in index.get(["scan.png", "sea.pdf#page=2"],
                                                           pictures=True)}  # fmt: skip
        # Pages that were given as vectors have no pictures; both kinds come to lie in one segment.
        [page] = encoder.pages([images.new("RGB", (300, 300), "red")])  # type: ignore[attr-defined]
        index.add(["bare"], embeddings=page)
        index.delete(["sea.pdf#page=1"])
        index.compact()
        found = index.get(["scan.png", "sea.pdf#page=2", "bare"], pictures=True)
        assert [one.picture for one in found] == [*before.values(), None]
        assert index.explain("what rises", "bare").grid == (4, 4)
        assert index.explain("what rises", "sea.pdf#page=2").grid == (5, 4)


def test_an_unreduced_page_is_explained_patch_by_patch(papers: Path, tmp_path: Path, model: str):
    encoder = load_encoder(model, device="cpu")
    source = suited(open_source(papers, vectors=False), encoder)
    build(source, tmp_path / "idx", settings("exact"), encoder=encoder)
    with Index.open(tmp_path / "idx", encoder=encoder) as index:
        found = index.explain("what rises", "scan.png")
        assert found.traced == "unreduced"
        assert found.grid is not None
        met = found.tokens[found.matches[0].vector]
        assert met.position == found.matches[0].vector


def test_the_best_pages_are_scored_again_by_all_their_patches(
    papers: Path, tmp_path: Path, model: str
):
    encoder = load_encoder(model, device="cpu")
    source = suited(open_source(papers, vectors=False), encoder)
    recipe = "markers | ward(size=2) | fp32 | mean() | maxsim(candidates=4, whole=2)"
    build(source, tmp_path / "few", settings(recipe), encoder=encoder)
    build(source, tmp_path / "all", settings("exact"), encoder=encoder)
    with (
        Index.open(tmp_path / "few", encoder=encoder) as few,
        Index.open(tmp_path / "all", encoder=encoder) as every,
    ):
        exact = {hit.id: hit.score for hit in every.search("what rises", k=4)}
        for hit in few.search("what rises", k=2):
            assert hit.score == pytest.approx(exact[hit.id], rel=2e-3)


def test_pictures_are_not_kept_when_nobody_wants_them(papers: Path, tmp_path: Path, model: str):
    encoder = load_encoder(model, device="cpu")
    source = suited(open_source(papers, vectors=False), encoder)
    build(source, tmp_path / "idx", settings(store_pictures=False), encoder=encoder)
    with Index.open(tmp_path / "idx", encoder=encoder) as index:
        assert index.get(["scan.png"], pictures=True)[0].picture is None
        assert index.describe()["bytes"]["pictures"] == 0


def test_a_changed_file_is_noticed_between_the_readings(papers: Path, tmp_path: Path, model: str):
    encoder = load_encoder(model, device="cpu")
    source = suited(open_source(papers, vectors=False), encoder)

    class Changing:
        """Another text stands on a page when the pieces are made."""

        name, vectors, state = source.name, False, staticmethod(source.state)
        readings = 0

        def read(self, start: int = 0):
            self.readings += 1
            if self.readings == 2:
                path = papers / "scan.png"
                images.new("RGB", (500, 700), "green").save(path)
                os.utime(path, ns=(1, 1))
            return source.read(start)

    with pytest.raises(BadData, match="has changed since it was read the first time"):
        build(Changing(), tmp_path / "idx", settings(), encoder=encoder)


def test_only_a_few_pages_are_in_memory_as_pictures(tmp_path: Path, model: str, monkeypatch: Any):
    write_pdf(tmp_path / "many.pdf", [f"page {number}" for number in range(24)], (100, 100))
    encoder = load_encoder(model, device="cpu")
    given: list[weakref.ref[Any]] = []
    most = 0

    def counted(wanted: Any) -> Iterator[Any]:
        nonlocal most
        for picture in drawn(wanted):
            given.append(weakref.ref(picture))
            most = max(most, sum(one() is not None for one in given))
            yield picture

    monkeypatch.setattr(stages, "drawn", counted)
    source = suited(open_source(tmp_path / "many.pdf", vectors=False), encoder)
    some = next(iter(source.read())).documents
    assert len(with_vectors(some, encoder, 32).pictures or ()) == 24
    assert 0 < most <= 7


def test_of_many_pages_some_are_encoded_twice(tmp_path: Path, model: str, monkeypatch: Any):
    write_pdf(tmp_path / "many.pdf", [f"page {number}" for number in range(9)], (100, 100))
    encoder: Any = load_encoder(model, device="cpu")
    monkeypatch.setattr(job, "PAGES", 4)
    encoded, pages = [], encoder.pages
    monkeypatch.setattr(
        encoder, "pages", lambda *given: (encoded.append(len(one)) or one for one in pages(*given))
    )
    source = suited(open_source(tmp_path / "many.pdf", vectors=False), encoder)
    build(source, tmp_path / "idx", settings("exact"), encoder=encoder)
    assert sum(encoded) == 3 + 9


def test_a_page_that_vanishes_while_it_is_drawn_ends_the_build(
    papers: Path, tmp_path: Path, model: str
):
    encoder = load_encoder(model, device="cpu")
    source = suited(open_source(papers, vectors=False), encoder)
    some = next(iter(source.read())).documents
    (papers / "sea.pdf").unlink()
    with pytest.raises(BadData, match=r"sea\.pdf: there is no such file"):
        with_vectors(some, encoder, 4)


def test_an_encoder_of_text_reads_the_text_of_pages(papers: Path, tmp_path: Path):
    encoder = HashingEncoder()
    source = suited(open_source(papers, vectors=False), encoder)
    build(source, tmp_path / "idx", settings("exact"), encoder=encoder)
    with Index.open(tmp_path / "idx", encoder=encoder) as index:
        assert index.search("yeast", k=1)[0].id == "sea.pdf#page=2"


def test_a_corpus_may_name_the_pictures_of_its_pages(tmp_path: Path, model: str):
    folder = tmp_path / "corpus"
    folder.mkdir()
    images.new("RGB", (500, 700), "yellow").save(folder / "a.png")
    write_pdf(folder / "b.pdf", [TIDES, BREAD], (600, 800))
    lines = [
        {"_id": "a", "text": "", "metadata": {"image": "a.png"}},
        {"_id": "b", "text": "", "metadata": {"image": "b.pdf", "page": 2}},
        {"_id": "c", "text": "words alone"},
        {"_id": "d", "text": "", "metadata": {"image": "b.pdf", "page": 9}},
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    encoder = load_encoder(model, device="cpu")
    documents, bad = everything(suited(open_source(folder, vectors=False), encoder))
    assert [(one, text) for _, one, text, _ in documents] == [("a", ""), ("b", BREAD)]
    assert "is no page: wanted the name of a picture or PDF" in bad[0].reason
    assert len(bad) == 2
    plain, _ = everything(suited(open_source(folder, vectors=False), HashingEncoder()))
    assert [one for _, one, _, _ in plain] == ["a", "b", "c", "d"]


def test_a_table_holds_no_pages(tmp_path: Path, model: str):
    tables = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    import pyarrow

    tables.write_table(pyarrow.table({"_id": ["a"], "text": ["x"]}), tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet", vectors=False)
    with pytest.raises(BadInput, match="reads pages as pictures"):
        suited(source, load_encoder(model, device="cpu"))


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("save", [save_colpali, save_colqwen2])
def test_from_a_folder_of_pdfs_to_a_heatmap_over_the_page(papers: Path, tmp_path: Path, save: Any):
    out, page = str(tmp_path / "idx"), tmp_path / "why.html"
    model = save(tmp_path / "model")
    run("index", str(papers), "--out", out, "--encoder", model, "--max-rejects", "2",
        "--recipe", "ward(factor=4) | int8", "--quiet")  # fmt: skip
    rejects = (tmp_path / "idx.rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in rejects] == [
        "it is encrypted",
        "it is damaged or no PDF",
    ]
    found = json.loads(run("search", out, "what rises", "-k", "4", "--json").stdout)
    assert {hit["id"] for hit in found["hits"]} >= {"scan.png", "sea.pdf#page=2"}
    run("explain", out, "what rises", "sea.pdf#page=2", "--html", str(page))
    written = page.read_text()
    assert written.count("data:image/webp;base64,") == 1
    assert BREAD in written
    assert "the prompt" in written
    with Index.open(out) as index:
        grid = index.explain("what rises", "sea.pdf#page=2").grid
    assert grid is not None
    with chromium() as browser:
        browser.show(page)
        assert browser.value("document.querySelectorAll('.patches span').length") == (
            grid[0] * grid[1]
        )
        inside = "(e => [e.left, e.top, e.right, e.bottom])(document.querySelector('{}')"
        inside += ".getBoundingClientRect())"
        picture, patches = (browser.value(inside.format(one)) for one in (".sheet img", ".patches"))
        assert all(abs(a - b) < 2 for a, b in zip(picture, patches, strict=True))
        asked = [one for one in browser.requests() if not one.startswith("data:")]
        assert asked == [page.resolve().as_uri()]
        assert browser.complaints() == []
