"""The HTML report: true to the evaluation, safe with any text, and good in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from colreduce.evaluate.compare import evaluate
from colreduce.evaluate.evaluation import Evaluation
from colreduce.evaluate.report import page, write_report
from colreduce.evaluate.report.charts import Scale, log_ticks, ticks
from colreduce.evaluate.report.points import front, letter, points
from colreduce.evaluate.report.words import headlines
from colreduce.pages.markup import joined, tag
from tests.chromium import Browser, chromium
from tests.hashing_encoder import HashingEncoder

RECIPES = [
    "exact",
    "window(size=2) | int8",
    "pca(dim=8) | window(size=4) | int8 | mean | maxsim(candidates=12)",
    "first(size=2) | binary | maxsim",
]
HOSTILE = [
    "<script>window.hurt = 1</script>",
    '"><img src=https://example.com/x.png onerror="window.hurt = 1">',
    "</style></svg></title><iframe src=//example.com>",
    "\u202eright to left\u0000 and \ud800 alone \x1b[31m",
    "w" * 400,
    "&lt;b&gt; stays as it is & so does &copy;",
]
WORDS = ["sun", "moon", "star", "wind", "rain", "snow", "tree", "leaf", "root", "stone", "sand"]


def collection(home: Path, seed: int) -> Path:
    """Forty documents and twelve queries, some of whose words are hostile."""
    draw = np.random.default_rng(seed)
    texts = [" ".join(draw.choice(WORDS, size=draw.integers(4, 14))) for _ in range(40)]
    texts = [f"{text} {HOSTILE[i % len(HOSTILE)]}" for i, text in enumerate(texts)]
    corpus = [{"_id": f"d{i} {HOSTILE[0]}", "text": text} for i, text in enumerate(texts)]
    queries = [
        {"_id": f"q{i}", "text": f"{' '.join(texts[i].split()[:4])} {HOSTILE[i % len(HOSTILE)]}"}
        for i in range(12)
    ]
    (home / "qrels").mkdir(parents=True)
    for name, entries in (("corpus", corpus), ("queries", queries)):
        (home / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in entries))
    lines = [f"q{i}\t{corpus[j]['_id']}\t{2 if i == j else 1}\n" for i in range(12)
             for j in (i, (i + 7) % 40)]  # fmt: skip
    (home / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return home


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    home = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLREDUCE_CACHE", str(home / "cache"))
        sources = [collection(home / "one", 1), collection(home / "<b>two", 2)]
        run = home / "other.trec"
        evaluate(sources[:1], HashingEncoder(), ["fp16"], run_out=run)
        return evaluate(
            sources, HashingEncoder("<i>hashing</i>"), RECIPES, runs_in=[f"one={run}"], worst=2
        )


@pytest.fixture(scope="module")
def written(found: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(found, tmp_path_factory.mktemp("html") / "made" / "report.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


class Reader(HTMLParser):
    """Collects the elements of a page and the texts outside of style."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def test_a_lost_document_is_explained_token_by_token(found: Evaluation, written: Path) -> None:
    explained = [one for one in found.worst if one.why is not None]
    assert explained
    text = read(written).text
    for one in explained:
        assert one.why is not None
        assert one.why.note == ""
        assert one.why.id == one.lost[0].id
        assert f"add to the score of {one.why.id}" in text
        falls = [(share.before or 0.0) - share.now for share in one.why.shares]
        assert falls == sorted(falls, reverse=True)
        assert all(share.token in (one.text or "").lower() or share.token in "<>"
                   for share in one.why.shares)  # fmt: skip


def test_the_report_holds_every_value_that_was_found(found: Evaluation, written: Path):
    text = read(written).text
    for row in found.rows:
        assert row.recipe in text
        for value in row.metrics.values():
            assert f"{value:.3f}" in text
        for loss in row.losses[1:]:
            assert loss.stage in text
    assert all(run.run in text for run in found.runs)
    assert all((one.text or "")[:20] in text for one in found.worst)
    assert found.machine["processor"] in text
    assert found.machine["versions"]["numpy"] in text


def test_hostile_texts_are_shown_and_never_become_markup(found: Evaluation, written: Path):
    assert any("<script>" in moved.id for one in found.worst for moved in one.lost)
    reader = read(written)
    names = {name for name, _ in reader.elements}
    assert not names & {"script", "img", "iframe", "b2", "i", "link", "object"}
    assert "<script>window.hurt = 1</script>" in reader.text
    assert "<b>two" in reader.text
    raw = written.read_text(encoding="utf-8")
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", raw)
    assert all(not key.startswith("on") for _, attributes in reader.elements for key in attributes)


def test_nothing_in_the_file_points_outside(written: Path):
    for _, attributes in read(written).elements:
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    style = written.read_text().partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_tables_and_pictures_say_what_they_are(written: Path):
    reader = read(written)
    names = [name for name, _ in reader.elements]
    assert names.count("caption") == names.count("table") > 5
    heads = [attributes for name, attributes in reader.elements if name == "th"]
    assert {one.get("scope") for one in heads} == {"col", "row"}
    pictures = [attributes for name, attributes in reader.elements if name == "svg"]
    assert [one["role"] for one in pictures] == ["img", "img"]
    assert all(one["aria-label"] for one in pictures)
    assert names.count("desc") == 2
    assert ("html", {"lang": "en"}) in reader.elements


def test_the_headlines_name_the_smallest_recipe_that_keeps_enough(found: Evaluation):
    first, *rest = [re.sub(r"<[^>]+>", "", one) for one in headlines(found)]
    others = [one for one in points(found) if one.system != "fp32 | exhaustive | maxsim"]
    kept = [one for one in others if one.share.value >= 0.99]
    wanted = min(kept, key=lambda one: one.bytes_per_doc) if kept else None
    if wanted is None:
        assert first.startswith("No recipe keeps 99% of exact nDCG@10")
    else:
        assert wanted.system in first
        assert f"{wanted.share.value:.1%}" in first
    assert any("of 13 comparisons" in one or "comparisons by nDCG@10" in one for one in rest)


def test_a_recipe_alone_and_a_run_alone_make_a_report_too(
    found: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLREDUCE_CACHE", str(tmp_path / "cache"))
    source = collection(tmp_path / "one", 1)
    run = tmp_path / "run.trec"
    alone = evaluate(source, HashingEncoder(), ["exact"], run_out=run)
    assert "Only exact search was measured" in page(alone)
    only_run = page(evaluate(source, runs_in=[run]))
    assert "What quality costs" not in only_run
    assert "1 run of other systems on 12 judged queries" in re.sub(r"<[^>]+>", "", only_run)


def test_markup_escapes_all_that_is_not_markup():
    assert tag("p", "a<b", tag("b", "&"), [None, "c"]) == "<p>a&lt;b<b>&amp;</b>c</p>"
    assert tag("p", class_='x"y', aria_label="é", x=1.5, y=2.0) == (
        '<p class="x&quot;y" aria-label="é" x="1.5" y="2"></p>'
    )
    assert joined("\x00\ud800") == "\ufffd\ufffd"


def test_axes_have_round_values():
    assert ticks(0.93, 1.01) == pytest.approx([0.94, 0.96, 0.98, 1.0])
    assert log_ticks(90, 2100) == [100, 200, 500, 1000, 2000]
    assert Scale(1, 100, 0, 10, logarithmic=True)(10) == pytest.approx(5)
    assert [letter(one) for one in (0, 25, 26, 27)] == ["A", "Z", "AA", "AB"]


def test_the_front_holds_what_nothing_beats_on_both():
    assert front([3, 1, 2, 2], [0.9, 0.5, 0.4, 0.7]) == [1, 3, 0]


# What a browser says of every text on the page: its contrast against what is behind it.
CONTRAST = """(() => {
  const number = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const colour = number(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return number(getComputedStyle(document.documentElement).backgroundColor);
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const one = node.parentElement;
    if (!node.data.trim() || ['TITLE', 'DESC', 'title', 'desc'].includes(one.tagName)) continue;
    const style = getComputedStyle(one);
    const colour = number(one.ownerSVGElement ? style.fill : style.color);
    const [a, b] = [light(colour), light(behind(one))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push(node.data.trim().slice(0, 40));
  }
  return low;
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_shows_the_report(browser: Browser, written: Path, dark: bool, width: int):
    browser.show(written, dark=dark, width=width)
    assert browser.requests() == [written.resolve().as_uri()]
    assert browser.complaints() == []
    assert browser.value("window.hurt === undefined")
    assert browser.value("document.scripts.length + document.images.length") == 0
    # The page itself never moves sideways; wide tables do, each in its own frame.
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(CONTRAST) == []
    page_colour = browser.value("getComputedStyle(document.documentElement).backgroundColor")
    assert page_colour == ("rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")


def test_letters_in_the_pictures_do_not_lie_on_one_another(browser: Browser, written: Path):
    browser.show(written)
    boxes = browser.value(
        "[...document.querySelectorAll('svg')].map(svg => [...svg.querySelectorAll('.name')]"
        ".map(one => { const b = one.getBoundingClientRect();"
        " return [b.left, b.top, b.right, b.bottom]; }))"
    )
    assert [len(one) for one in boxes] == [4, 4]
    for picture in boxes:
        for number, (left, top, right, bottom) in enumerate(picture):
            for other in picture[:number]:
                apart = left >= other[2] or right <= other[0] or top >= other[3] - 4
                assert apart or bottom <= other[1] + 4
