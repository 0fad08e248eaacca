"""What a plan is made on: judged queries, given ones, or sentences of the documents."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from colreduce.errors import BadData, BadInput, UnknownName
from colreduce.evaluate.embeddings import EmbeddingStore
from colreduce.evaluate.progress import silent
from colreduce.plan.task import NONE, Task, load_task
from tests.hashing_encoder import HashingEncoder

DOCUMENTS = 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty documents of two sentences, twelve judged queries; one is named as a document."""
    where = tmp_path / "set"
    (where / "qrels").mkdir(parents=True)
    documents = [
        {
            "_id": f"d{number}",
            "text": f"Word{number} stands in sentence number {number} alone. "
            f"The other sentence of document {number} says word{number} again.",
        }
        for number in range(DOCUMENTS)
    ]
    names = ["d7", *(f"q{number}" for number in range(1, 12))]
    queries = [{"_id": name, "text": f"word{at}"} for at, name in enumerate(names)]
    for file, lines in (("corpus", documents), ("queries", queries)):
        text = "\n".join(json.dumps(line) for line in lines)
        (where / f"{file}.jsonl").write_text(text)
    judged = [f"{name}\td{at}\t1" for at, name in enumerate(names)]
    table = "\n".join(["query-id\tcorpus-id\tscore", *judged])
    (where / "qrels" / "test.tsv").write_text(table + "\n")
    return where


def load(source: Path, split: str | None = "test", queries: int = 100) -> Task:
    with EmbeddingStore() as store:
        return load_task(
            source,
            HashingEncoder(),
            store,
            split=split,
            vectors=None,
            queries=queries,
            seed=0,
            batch_size=8,
            progress=silent,
        )


def test_a_judged_folder_gives_its_judged_queries(folder: Path):
    task = load(folder)
    assert (task.kind, len(task), len(task.documents)) == ("judged", 12, DOCUMENTS)
    hidden = dict(zip(task.query_ids, task.hidden.tolist(), strict=True))
    assert hidden["d7"] == 7  # a query does not find the document of its own name
    assert {row for name, row in hidden.items() if name != "d7"} == {NONE}


def test_queries_without_judgements_are_asked_as_they_are(folder: Path):
    task = load(folder, split=None)
    assert (task.kind, task.qrels, len(task)) == ("given", None, 12)


def test_a_file_of_documents_gives_sentences_and_hides_their_documents(folder: Path):
    task = load(folder / "corpus.jsonl", queries=20)
    assert (task.kind, len(task)) == ("sentences", 20)
    texts = [f"word{number}" for number in range(DOCUMENTS)]
    for text, row in zip(task.query_texts, task.hidden, strict=True):
        assert texts[row] in (text or "").lower()


def test_no_more_queries_are_drawn_than_are_wanted_and_always_the_same(folder: Path):
    first, again = load(folder, queries=9), load(folder, queries=9)
    assert len(first) == 9
    assert first.query_ids == again.query_ids
    assert np.array_equal(first.queries.lengths, again.queries.lengths)


def test_a_split_that_is_not_there_is_named_with_those_that_are(folder: Path):
    with pytest.raises(UnknownName, match="test"):
        load(folder, split="tset")


def test_few_queries_are_refused_with_what_to_do(folder: Path):
    with pytest.raises(BadInput, match="wanted 8 at least"):
        load(folder, queries=5)


def test_a_source_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(BadData, match="no file or folder"):
        load(tmp_path / "nowhere")
