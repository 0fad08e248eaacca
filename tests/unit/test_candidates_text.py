"""First stages over texts: counts, statistics over segments, and what is said when text lacks."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
import torch

from colreduce.candidates.base import Documents, Query
from colreduce.candidates.bm25 import Bm25
from colreduce.candidates.dense import Dense
from colreduce.candidates.postings import Entries, Postings, PostingsBuilder, narrowest
from colreduce.candidates.sparse import Sparse
from colreduce.errors import BadInput, MissingDependency
from colreduce.ragged import Ragged
from tests.reference.first_stages import opened, segment

pytest.importorskip("bm25s", reason="bm25 needs the extra bm25")

TEXTS = [
    "The cat sat on the mat and the cat slept",
    "A dog chased the cat",
    "Stock markets fell sharply in early trading",
    "The dog sat",
    "",
    "cat cat cat cat dog",
    "Early markets open before trading starts and stay open until the bell rings twice",
]


def texts_only(texts) -> Documents:
    batch = Ragged(torch.ones(len(texts), 2), torch.ones(len(texts), dtype=torch.long))
    return Documents(batch, batch, list(texts))


def query(text: str | None) -> Query:
    return Query(torch.ones(1, 2), text)


def test_scores_are_those_of_bm25s_on_the_whole_corpus_however_it_is_cut_into_segments():
    import bm25s

    theirs = bm25s.BM25(method="lucene", k1=1.2, b=0.7)
    theirs.index(bm25s.tokenize(TEXTS, stopwords="en", show_progress=False), show_progress=False)
    method = Bm25(k1=1.2, b=0.7)
    for cuts in ([0, 7], [0, 2, 3, 7]):
        pieces = [TEXTS[a:b] for a, b in itertools.pairwise(cuts)]
        parts = [segment(method, {}, [texts_only(piece)]) for piece in pieces]
        sides = method.assemble([method.open(part, {}) for part in parts])
        searchers = [side.together for side in sides]
        for text in ("cat dog", "early trading markets", "cat cat sat", "zebra"):
            got = np.zeros(len(TEXTS))
            for start, one in zip(cuts, searchers, strict=False):
                [found] = one.search([query(text)], 10)
                got[found.rows + start] = found.scores
            words = bm25s.tokenize([text], stopwords="en", show_progress=False, return_ids=False)
            known = [word for word in words[0] if word in theirs.vocab_dict]
            expected = theirs.get_scores(known) if known else np.zeros(len(TEXTS))
            np.testing.assert_allclose(got, expected, atol=1e-6)


def test_stop_words_can_be_kept():
    documents = texts_only(["it is of the", "a band"])
    for stopwords, rows in (("english", []), ("none", [0])):
        method = Bm25(stopwords=stopwords)
        one = method.open(segment(method, {}, [documents]), {})
        [found] = one.search([query("of the")], 5)
        assert found.rows.tolist() == rows


@pytest.mark.parametrize("method", [Bm25(), Sparse(model="none"), Dense(model="none")], ids=str)
def test_documents_and_queries_without_text_are_refused_by_place(method):
    with pytest.raises(BadInput, match=f"{method.name} reads text, and document 1") as caught:
        segment(method, {}, [texts_only(["here", None])])
    assert caught.value.field == "documents"
    one = method.open(opened({"vectors": np.zeros((1, 2), np.float32)}, 1), {})
    with pytest.raises(BadInput, match="query came as vectors only") as caught:
        one.search([query(None)], 3)
    assert caught.value.field == "query"


def test_a_missing_bm25s_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(MissingDependency, match=r"pip install 'colreduce\[bm25\]'"):
        Bm25().fit(texts_only(["a text"]), seed=0)


def test_a_model_that_cannot_be_loaded_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="cannot be loaded as a SentenceTransformer"):
        segment(Dense(model=str(tmp_path)), {}, [texts_only(["a text"])])


def test_lists_are_found_by_term_and_missing_terms_have_none():
    builder = PostingsBuilder()
    terms = np.array([7, 7, 900, 3], np.uint64)
    builder.add(Entries(np.array([0, 1, 1, 2]), terms, np.array([1, 2, 3, 4], np.float32)), 3)
    builder.add(Entries(np.array([0]), np.array([7], np.uint64), np.array([9], np.float32)), 2)
    postings = Postings(opened(builder.finish(), 5))
    asked = np.array([900, 7, 5, 2**63], np.uint64)
    assert postings.counts(asked).tolist() == [1, 3, 0, 0]
    which, rows, weights = postings.entries(asked)
    assert which.tolist() == [0, 1, 1, 1]
    assert rows.tolist() == [1, 0, 1, 3]
    assert weights.tolist() == [3, 1, 2, 9]
    assert postings.totals.tolist() == [1, 5, 4, 9, 0]


def test_counts_are_stored_in_the_smallest_type_that_holds_them():
    assert narrowest(np.array([1, 255], np.float32)).dtype == np.uint8
    assert narrowest(np.array([1, 256], np.float32)).dtype == np.uint16
    assert narrowest(np.array([1, 70_000], np.float32)).dtype == np.uint32
    assert narrowest(np.array([1.5], np.float32)).dtype == np.float32
