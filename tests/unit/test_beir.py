from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from colreduce.errors import BadData, UnknownName
from colreduce.evaluate.beir import BeirFolder, check_judged, read_qrels
from colreduce.evaluate.records import Record, records

CORPUS = [
    {"_id": "a", "title": "Heat", "text": "flows", "metadata": {"year": 1}},
    {"_id": "b", "title": "", "text": "cold"},
    {"_id": "c c", "title": "", "text": ""},
]


def lines(*entries: object) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def folder(tmp_path: Path, *, packed: bool = False) -> BeirFolder:
    files = {
        "corpus.jsonl": lines(*CORPUS),
        "queries.jsonl": lines({"_id": "q", "text": "warm"}, {"_id": "r", "text": "ice"}),
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq\ta\t2\nq\tc c\t0\n",
    }
    (tmp_path / "qrels").mkdir()
    for name, text in files.items():
        if packed:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (tmp_path / name).write_text(text)
    return BeirFolder(tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_gives_documents_queries_and_graded_judgements(tmp_path: Path, packed: bool):
    found = folder(tmp_path, packed=packed)
    assert list(found.corpus()) == [
        Record("a", "Heat flows", {"year": 1}),
        Record("b", "cold"),
        Record("c c", ""),
    ]
    assert found.queries() == {"q": "warm", "r": "ice"}
    assert found.qrels() == {"q": {"a": 2, "c c": 0}}
    assert found.splits() == ["test"]


def test_a_misspelt_split_is_answered_with_those_there_are(tmp_path: Path):
    with pytest.raises(UnknownName, match=r"'tset'. Did you mean 'test'"):
        folder(tmp_path).qrels("tset")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"_id": "a", "text": "x"}\n{"_id": "b", "te', r"line 2: not a whole JSON record"),
        ('{"_id": "a", "text": "x"}\n\n{"_id": "a", "text": "y"}', r"line 3: the id 'a' was on"),
        ('{"text": "x"}', r"line 1: no '_id'"),
        ('{"_id": "", "text": "x"}', r"line 1: no '_id'"),
        ('{"_id": "a"}', r"line 1: the record 'a' has no 'text'"),
        ('{"_id": "a", "text": 7}', r"line 1: the record 'a' has no 'text'"),
        ('{"_id": "a", "text": "x", "metadata": []}', None),
        ('{"_id": "a", "text": "x", "metadata": [1]}', r"line 1: the 'metadata' of 'a'"),
        ("[1, 2]", r"line 1: wanted a JSON object, got list"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, content: str, message: str | None):
    path = tmp_path / "docs.jsonl"
    path.write_text(content)
    if message is None:
        assert [record.id for record in records(path)] == ["a"]
        return
    with pytest.raises(BadData, match=message) as caught:
        list(records(path))
    assert str(path) in str(caught.value)


def test_text_that_is_not_utf8_and_packed_files_cut_short_are_named(tmp_path: Path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b'{"_id": "a", "text": "x"}\n{"_id": "b", "text": "\xff"}\n')
    with pytest.raises(BadData, match=r"docs.jsonl line 2: not UTF-8"):
        list(records(path))
    packed = tmp_path / "docs.jsonl.gz"
    whole = gzip.compress(lines(*({"_id": str(i), "text": "x" * i} for i in range(300))).encode())
    packed.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadData, match=r"docs.jsonl.gz after line \d+: the packed file is damaged"):
        list(records(packed))


def test_numbers_as_ids_and_a_byte_order_mark_are_read(tmp_path: Path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"id": 7, "text": " x "}\r\n')
    assert list(records(path)) == [Record("7", "x")]


def test_an_empty_corpus_and_empty_queries_are_errors(tmp_path: Path):
    found = folder(tmp_path)
    (tmp_path / "corpus.jsonl").write_text("\n")
    with pytest.raises(BadData, match="the corpus is empty"):
        list(found.corpus())
    (tmp_path / "queries.jsonl").write_text(lines({"_id": "q", "text": ""}))
    with pytest.raises(BadData, match="the query 'q' is empty"):
        found.queries()
    (tmp_path / "queries.jsonl").unlink()
    with pytest.raises(BadData, match=r"neither .*queries.jsonl nor queries.jsonl.gz"):
        found.queries()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: wanted the header"),
        ("q\ta\t1\n", "line 1: wanted the header query-id<tab>corpus-id<tab>score"),
        ("query-id\tcorpus-id\tscore\nq a 1\n", "line 2: wanted query, document and grade"),
        ("query-id\tcorpus-id\tscore\nq\ta\tgood\n", "line 2: the grade 'good'"),
        ("query-id\tcorpus-id\tscore\nq\ta\t1\nq\ta\t2\n", "line 3: the document 'a' is judged"),
        ("query-id\tcorpus-id\tscore\n", "there are no judgements"),
    ],
)
def test_damaged_judgements_are_named(tmp_path: Path, content: str, message: str):
    path = tmp_path / "test.tsv"
    path.write_text(content)
    with pytest.raises(BadData, match=message):
        read_qrels(path)


def test_what_is_judged_must_exist():
    qrels = {"q": {"a": 1, "x": 1}}
    with pytest.raises(BadData, match="judged query 'q' is not among the queries"):
        check_judged(qrels, Path("t.tsv"), set(), {"a", "x"})
    with pytest.raises(BadData, match=r"t.tsv: the document 'x', judged for the query 'q'"):
        check_judged(qrels, Path("t.tsv"), {"q"}, {"a"})


@pytest.mark.parametrize(
    ("name", "documents", "judged", "positive"),
    [("cranfield", 1400, 1837, 1612), ("limit-small", 46, 2000, 2000), ("nq-utd", 800, 800, 297)],
)
def test_real_collections_have_the_counts_they_are_known_by(
    real_data: Path, name: str, documents: int, judged: int, positive: int
):
    found = BeirFolder(real_data / "beir" / name)
    texts = {record.id: record.text for record in found.corpus()}
    qrels = found.qrels()
    grades = [grade for one in qrels.values() for grade in one.values()]
    assert len(texts) == documents
    assert len(grades) == judged
    assert sum(grade > 0 for grade in grades) == positive
    check_judged(qrels, found.path, set(found.queries()), set(texts))
    if name == "cranfield":
        assert [one for one, text in texts.items() if not text] == ["471", "995"]
