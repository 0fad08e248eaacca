"""Reducers that know what a token is: duplicates, function words, punctuation, common types."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from colreduce.errors import BadInput, BadParameter
from colreduce.ragged import Ragged
from colreduce.reduce import REDUCERS
from colreduce.reduce.vocabulary import numbers_of_punctuation, numbers_of_words
from tests.reference import token_types

WORDPIECE = {"[CLS]": 0, "the": 1, "##the": 2, "The": 3, "cat": 4, ".": 5, "##?!": 6, "of": 7}
SENTENCEPIECE = {"<s>": 0, "▁the": 1, "the": 2, "▁The": 3, "▁cat": 4, "▁.": 5, ".": 6, "▁": 7}
BYTE_LEVEL = {"<s>": 0, "Ġthe": 1, "the": 2, "Ġcat": 3, "Ġ(": 4, "!!": 5}


def _ids(documents: list[list[int]]) -> Ragged:
    generator = torch.Generator().manual_seed(0)
    return Ragged.pack(
        [torch.randn(len(ids), 4, generator=generator) for ids in documents],
        token_ids=[np.array(ids) for ids in documents],
        special=[np.array(ids) == 0 for ids in documents],
    )


def _kept(batch: Ragged, assignment: torch.Tensor) -> list[list[int]]:
    parts = assignment.split(batch.lengths.tolist())
    return [torch.nonzero(part >= 0).flatten().tolist() for part in parts]


def test_identical_vectors_become_one_that_counts_for_all() -> None:
    draw = np.random.default_rng(0)
    documents = []
    for length in (1, 2, 30, 30, 9):
        different = draw.normal(size=(max(length // 3, 1), 5)).astype(np.float32)
        documents.append(different[draw.integers(len(different), size=length)])
    documents[3] = documents[2]  # another document's vectors are no duplicates of these
    documents[4][3] = -0.0
    documents[4][5] = 0.0
    batch = Ragged.pack(documents)
    left = REDUCERS["dedupe"]().reduce(batch, {})
    assert left.batch.weights is not None
    vectors, weights = left.batch.unpack(), left.batch.weights.split(left.batch.lengths.tolist())
    places = left.assignment.split(batch.lengths.tolist())
    for number, document in enumerate(documents):
        kept, took = token_types.dedupe(document)
        assert np.array_equal(vectors[number].numpy(), document[kept])
        assert places[number].tolist() == took
        assert weights[number].tolist() == np.bincount(took).tolist()


def test_dedupe_adds_up_the_weights_that_came_in_and_keeps_what_is_known() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    batch = Ragged.pack(
        [vectors], weights=[torch.tensor([1.0, 2.0, 4.0])], token_ids=[torch.tensor([7, 8, 7])]
    )
    left = REDUCERS["dedupe"]().reduce(batch, {}).batch
    assert left.weights is not None
    assert left.weights.tolist() == [5.0, 2.0]
    assert left.token_ids is not None
    assert left.token_ids.tolist() == [7, 8]


def test_words_are_found_where_a_tokenizer_marks_their_beginning() -> None:
    assert numbers_of_words(WORDPIECE, ["THE"]) == [1, 3]
    assert numbers_of_words(SENTENCEPIECE, ["the"]) == [1, 3]
    assert numbers_of_words(BYTE_LEVEL, ["the"]) == [1]


def test_punctuation_is_found_in_every_kind_of_vocabulary() -> None:
    assert numbers_of_punctuation(WORDPIECE) == [5, 6]
    assert numbers_of_punctuation(SENTENCEPIECE) == [5, 6]
    assert numbers_of_punctuation(BYTE_LEVEL) == [4, 5]


@pytest.mark.parametrize(
    ("line", "dropped"),
    [
        ({"name": "stopwords"}, {1, 3, 7}),
        ({"name": "stopwords", "words": "cat of"}, {4, 7}),
        ({"name": "stopwords", "words": "cat", "ids": "5, 9"}, {4, 5, 9}),
        ({"name": "punctuation"}, {5, 6}),
    ],
)
def test_tokens_of_the_list_are_dropped(line: dict[str, str], dropped: set[int]) -> None:
    documents = [[0, 1, 4, 5], [1, 3, 4, 5, 6, 7], [9, 8, 7, 6, 5, 4], [0]]
    batch = _ids(documents)
    method = REDUCERS[line["name"]].build({k: v for k, v in line.items() if k != "name"})
    left = method.reduce(batch, method.fit(batch, seed=0, vocabulary=WORDPIECE))
    special = [[number == 0 for number in ids] for ids in documents]
    assert _kept(batch, left.assignment) == [
        token_types.drop(ids, dropped, marks) for ids, marks in zip(documents, special, strict=True)
    ]


def test_a_document_of_stopwords_only_stays_as_it_is() -> None:
    batch = _ids([[1, 7, 1]])
    method = REDUCERS["stopwords"]()
    left = method.reduce(batch, method.fit(batch, seed=0, vocabulary=WORDPIECE))
    assert torch.equal(left.batch.tokens, batch.tokens)


def test_without_a_vocabulary_the_numbers_must_be_given() -> None:
    batch = _ids([[1, 2, 3]])
    with pytest.raises(BadInput, match="tokenizer is not known"):
        REDUCERS["punctuation"]().fit(batch, seed=0)
    with pytest.raises(BadInput, match="knows none"):
        REDUCERS["stopwords"].build({"words": "zebra"}).fit(batch, seed=0, vocabulary=WORDPIECE)
    with pytest.raises(BadParameter, match="divided by commas"):
        REDUCERS["stopwords"].build({"ids": "the"})
    state = REDUCERS["stopwords"].build({"ids": "2"}).fit(batch, seed=0)
    assert state["ids"].tolist() == [2]


def _corpus() -> tuple[list[list[int]], list[list[bool]], Ragged]:
    draw = np.random.default_rng(3)
    documents = [
        [0, *(draw.zipf(1.4, size=int(length)).clip(max=40)).tolist()]
        for length in draw.integers(1, 40, size=30)
    ]
    return documents, [[n == 0 for n in ids] for ids in documents], _ids(documents)


def test_the_types_in_most_documents_are_dropped() -> None:
    documents, special, batch = _corpus()
    counts = token_types.frequencies(documents, special)
    for types in (1, 5, 1000):
        method = REDUCERS["idf_types"].build({"types": types})
        state = method.fit(batch, seed=0)
        dropped = token_types.most_common(counts, types)
        assert state["ids"].tolist() == sorted(dropped)
        assert _kept(batch, method.reduce(batch, state).assignment) == [
            token_types.drop(ids, dropped, marks)
            for ids, marks in zip(documents, special, strict=True)
        ]


def test_the_rarest_tokens_of_a_document_stay() -> None:
    documents, special, batch = _corpus()
    counts = token_types.frequencies(documents[:20], special[:20])
    method = REDUCERS["idf_per_doc"].build({"factor": 2.5})
    state = method.fit(batch.take(slice(0, 20)), seed=0)
    assert _kept(batch, method.reduce(batch, state).assignment) == [
        token_types.idf_per_doc(ids, marks, counts, max(int(len(ids) / 2.5), 1))
        for ids, marks in zip(documents, special, strict=True)
    ]


def test_token_numbers_are_asked_for_by_name() -> None:
    batch = _ids([[1, 2, 3]])
    bare = Ragged(batch.tokens, batch.lengths)
    for name in ("idf_types", "idf_per_doc"):
        with pytest.raises(BadInput, match="token_ids"):
            REDUCERS[name]().fit(bare, seed=0)
