"""The sample corpus of `colreduce demo` is well formed BEIR."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

SAMPLE = Path(str(resources.files("colreduce.cli"))) / "sample"


def records(name: str) -> list[dict[str, Any]]:
    lines = (SAMPLE / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def judgements() -> list[tuple[str, str, int]]:
    lines = (SAMPLE / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "query-id\tcorpus-id\tscore"
    rows = [line.split("\t") for line in lines[1:]]
    return [(query, document, int(grade)) for query, document, grade in rows]


def test_two_hundred_documents_have_their_own_id_title_and_text():
    documents = records("corpus.jsonl")
    assert len(documents) == 200
    assert len({document["_id"] for document in documents}) == 200
    assert len({document["title"] for document in documents}) == 200
    assert {tuple(document) for document in documents} == {("_id", "title", "text", "metadata")}


def test_a_document_is_a_short_paragraph():
    words = [len(document["text"].split()) for document in records("corpus.jsonl")]
    assert (min(words) >= 40, max(words) <= 90) == (True, True)


def test_every_topic_has_ten_documents():
    topics = [document["metadata"]["topic"] for document in records("corpus.jsonl")]
    assert {topics.count(topic) for topic in topics} == {10}


def test_twenty_queries_have_two_to_five_judged_documents_each():
    queries = [query["_id"] for query in records("queries.jsonl")]
    judged = [query for query, _, _ in judgements()]
    assert len(queries) == len(set(queries)) == 20
    assert {2 <= judged.count(query) <= 5 for query in queries} == {True}


def test_judgements_name_known_queries_and_documents_once():
    pairs = [(query, document) for query, document, _ in judgements()]
    assert len(pairs) == len(set(pairs))
    assert {query for query, _ in pairs} == {query["_id"] for query in records("queries.jsonl")}
    assert {document for _, document in pairs} <= {d["_id"] for d in records("corpus.jsonl")}


def test_grades_are_one_or_two_and_every_query_has_a_best_document():
    assert {grade for _, _, grade in judgements()} == {1, 2}
    best = {query for query, _, grade in judgements() if grade == 2}
    assert len(best) == 20
