"""Collections as TREC keeps them: markup, tables, four columns of judgements."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from colreduce.errors import BadData, UnknownName
from colreduce.evaluate.beir import BeirFolder, read_documents, read_qrels, read_queries
from colreduce.evaluate.records import Record

DOCUMENTS = """\
<DOC>
<DOCNO> FT911-3 </DOCNO>
<HEADLINE>
FT  14 MAY 91 / Rates &amp; prices
</HEADLINE>
<TEXT>
<P>Rates < 3 % are
low.</P>
</TEXT>
</DOC><doc><docno>FT911-4</docno>
<TEXT>AT&T</TEXT><DATE>910514</DATE></doc>
"""

TOPICS = """\
<top>
<num> Number: 301
<title> International Organized Crime

<desc> Description:
Identify organizations.
</top>
<top>
<num> Number: 302
<title> Topic: Poliomyelitis and
Post-Polio
</top>
"""

TOPICS_XML = """\
<topics task="covid">
  <topic number="1">
    <query>coronavirus origin</query>
    <question>what is the origin</question>
  </topic>
</topics>
"""


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_documents_in_markup_give_title_and_text_without_tags(tmp_path: Path):
    path = written(tmp_path / "ft.trec", DOCUMENTS)
    assert list(read_documents(path)) == [
        Record("FT911-3", "FT 14 MAY 91 / Rates & prices Rates < 3 % are low."),
        Record("FT911-4", "AT&T"),
    ]


def test_topics_give_what_was_typed_and_not_what_was_meant(tmp_path: Path):
    assert read_queries(written(tmp_path / "topics.txt", TOPICS)) == {
        "301": "International Organized Crime",
        "302": "Poliomyelitis and Post-Polio",
    }
    assert read_queries(written(tmp_path / "topics.xml", TOPICS_XML)) == {"1": "coronavirus origin"}


def test_a_table_gives_ids_and_texts(tmp_path: Path):
    path = written(tmp_path / "collection.tsv", "7\ta title\tthe text\n8\tmore\n")
    assert list(read_documents(path)) == [Record("7", "a title the text"), Record("8", "more")]
    assert read_queries(path) == {"7": "a title the text", "8": "more"}


def test_judgements_of_trec_need_no_header(tmp_path: Path):
    path = written(tmp_path / "qrels.txt", "301 0 FT911-3 2\n301 0 FT911-4 0\n302 0 FT911-4 -1\n")
    assert read_qrels(path) == {"301": {"FT911-3": 2, "FT911-4": 0}, "302": {"FT911-4": -1}}
    tabs = written(tmp_path / "tabs.txt", "q 1\t0\ta b\t1\n")
    assert read_qrels(tabs) == {"q 1": {"a b": 1}}


def test_a_folder_of_trec_files_is_a_collection(tmp_path: Path):
    written(tmp_path / "corpus" / "a" / "ft911", DOCUMENTS)
    (tmp_path / "corpus" / "b.gz").write_bytes(
        gzip.compress(b"<DOC><DOCNO>LA-1</DOCNO><TEXT>x</TEXT></DOC>")
    )
    written(tmp_path / "topics.txt", TOPICS)
    written(tmp_path / "qrels.txt", "301 0 FT911-3 1\n")
    written(tmp_path / "qrels.dev.txt", "302 0 LA-1 1\n")
    folder = BeirFolder(tmp_path)
    assert BeirFolder.is_one(tmp_path)
    assert [record.id for record in folder.corpus()] == ["FT911-3", "FT911-4", "LA-1"]
    assert sorted(folder.queries()) == ["301", "302"]
    assert folder.splits() == ["dev", "test"]
    assert folder.qrels() == {"301": {"FT911-3": 1}}
    assert folder.qrels("dev") == {"302": {"LA-1": 1}}
    with pytest.raises(UnknownName, match=r"no judgements called 'tests'. Did you mean 'test'"):
        folder.qrels("tests")


def test_queries_and_judgements_may_lie_anywhere(tmp_path: Path):
    corpus = written(tmp_path / "here" / "docs.jsonl", '{"_id": "a", "text": "x"}\n')
    topics = written(tmp_path / "there.tsv", "1\tx\n")
    judged = written(tmp_path / "judged", "1 0 a 1\n")
    folder = BeirFolder(corpus, topics=topics, judged=judged)
    assert list(folder.corpus()) == [Record("a", "x")]
    assert folder.queries() == {"1": "x"}
    assert folder.qrels("any") == {"1": {"a": 1}}


def test_the_same_id_in_two_files_of_a_corpus_is_named(tmp_path: Path):
    written(tmp_path / "corpus" / "a.tsv", "1\tx\n")
    written(tmp_path / "corpus" / "b.tsv", "1\ty\n")
    with pytest.raises(BadData, match=r"b.tsv: the id '1' was in .*a.tsv already"):
        list(BeirFolder(tmp_path).corpus())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<DOC><DOCNO>a</DOCNO>\n<TEXT>x", r"line 1: the document that begins here has no </DOC>"),
        ("<DOC>\n<TEXT>x</TEXT>\n</DOC>", r"line 1: the document has no <DOCNO>"),
        ("<html>\n", r"there is no <DOC>"),
        ("1 one\n", r"line 1: wanted an id, a tab and a text"),
        ("1\tone\n1\ttwo\n", r"line 2: the id '1' was on line 1 already"),
    ],
)
def test_damaged_documents_are_named(tmp_path: Path, text: str, message: str):
    path = written(tmp_path / "docs", text)
    with pytest.raises(BadData, match=message):
        list(read_documents(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<top><title> x </top>", "topic 1 has no number"),
        ("<top><num> 7 </top>", "topic 7 has no title"),
        (TOPICS + TOPICS, "topic 301 is there twice"),
        ("<DOC>x</DOC>", "there are no topics"),
    ],
)
def test_damaged_topics_are_named(tmp_path: Path, text: str, message: str):
    with pytest.raises(BadData, match=message):
        read_queries(written(tmp_path / "topics", text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 0 a 1\n1 0 b\n", "line 2: wanted query, iteration, document and grade, got 3 columns"),
        ("1 0 a 1\n1 0 a 2\n", "line 2: the document 'a' is judged twice for the query '1'"),
        ("1 0 a 1\n1 0 b high\n", "line 2: the grade 'high'"),
        ("1 0 a b\n", "line 1: wanted the header"),
    ],
)
def test_damaged_judgements_are_named(tmp_path: Path, text: str, message: str):
    with pytest.raises(BadData, match=message):
        read_qrels(written(tmp_path / "qrels", text))
