"""The ledger that a build keeps: what it adds up to, whom it blames, what it was measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from colreduce import Index, Recipe
from colreduce.errors import BadInput, BadParameter
from colreduce.evaluate.fidelity import LedgerMaker, RunWatch
from colreduce.evaluate.held_out import JUDGED, MOST, Asking, draw, given
from colreduce.ragged import Ragged
from tests.hashing_encoder import HashingEncoder

DIM, DOCUMENTS, QUERIES = 24, 120, 30


def documents(seed: int = 0) -> Ragged:
    """Documents of clustered tokens, each about a few of forty themes."""
    draw_from = torch.Generator().manual_seed(seed)
    themes = torch.nn.functional.normalize(torch.randn(40, DIM, generator=draw_from), dim=1)
    items = []
    for _ in range(DOCUMENTS):
        about = torch.randint(40, (6,), generator=draw_from)
        tokens = themes[about].repeat_interleave(4, 0)
        tokens = tokens + 0.25 * torch.randn(24, DIM, generator=draw_from)
        items.append(torch.nn.functional.normalize(tokens, dim=1))
    return Ragged.pack(items)


def ledger_of(tmp_path: Path, recipe: str, asking: Asking | None = None) -> tuple[dict, Index]:
    batch, ids = documents(), [f"d{number:03}" for number in range(DOCUMENTS)]
    index = Index.create(tmp_path / "idx", recipe=recipe, dim=DIM)
    index.fit(batch)
    asking = asking or draw(ids, batch, None, None, seed=1, count=QUERIES)
    maker = LedgerMaker(index, asking)
    for run in (slice(0, 50), slice(50, 70), slice(70, DOCUMENTS)):
        watch = RunWatch(index.pipeline, asking, run.start)
        with index.batch(watch) as adding:
            adding.add(ids[run], embeddings=batch.take(run).unpack())
        maker.take(watch.finish(), run.stop - run.start)
    return maker.finish(seed=0), index


@pytest.mark.parametrize(
    ("recipe", "guilty"),
    [
        ("truncate(dim=2) | int8 | exhaustive", "truncate(dim=2)"),
        ("first(size=1) | int8 | exhaustive", "first(size=1)"),
        ("pq(parts=1, bits=4) | exhaustive", "pq(parts=1, bits=4)"),
        ("int8 | mean | maxsim(candidates=11)", "mean"),
    ],
)
def test_a_planted_loss_is_blamed_on_its_stage(tmp_path, recipe, guilty):
    ledger, index = ledger_of(tmp_path, recipe)
    index.close()
    lost = {one["stage"]: one["lost"]["agreement@10"]["value"] for one in ledger["stages"]}
    assert ledger["blame"] == guilty
    others = [value for stage, value in lost.items() if stage != guilty]
    assert lost[guilty] > 0.2 > max(others)


def test_the_losses_of_the_stages_add_up_to_the_whole(tmp_path):
    recipe = "pca(dim=12) | ward(factor=6) | int4 | mean | maxsim(candidates=20)"
    ledger, index = ledger_of(tmp_path, recipe)
    index.close()
    stages = ledger["stages"]
    assert [one["kind"] for one in stages] == [
        "exact",
        "transform",
        "reduce",
        "codec",
        "first_stage",
        "rerank",
    ]
    whole = ledger["lost"]["agreement@10"]["value"]
    assert sum(one["lost"]["agreement@10"]["value"] for one in stages) == pytest.approx(whole)
    assert stages[-1]["values"]["agreement@10"]["value"] == pytest.approx(1 - whole)
    for one in stages:
        interval = one["values"]["agreement@10"]
        assert interval["low"] <= interval["value"] <= interval["high"]
    errors = [one["score_error"] for one in stages]
    assert errors[0]["value"] == 0
    assert errors[-1] is errors[-2] is None


def test_nothing_is_lost_by_exact_search_and_nobody_is_blamed(tmp_path):
    ledger, index = ledger_of(tmp_path, "exact")
    index.close()
    assert ledger["blame"] == ""
    assert ledger["lost"]["agreement@10"] == {"low": 0.0, "value": 0.0, "high": 0.0}


def test_a_handful_of_documents_loses_nothing_by_the_one_that_is_hidden(tmp_path):
    for count in (1, 4):
        batch, ids = documents().take(slice(0, count)), [str(number) for number in range(count)]
        with Index.create(tmp_path / f"idx{count}", recipe="exact", dim=DIM) as index:
            index.fit(batch)
            asking = draw(ids, batch, None, None, seed=1)
            maker, watch = LedgerMaker(index, asking), RunWatch(index.pipeline, asking, 0)
            with index.batch(watch) as adding:
                adding.add(ids, embeddings=batch.unpack())
            maker.take(watch.finish(), count)
            ledger = maker.finish(seed=0)
        assert ledger["blame"] == ""
        assert ledger["stages"][-1]["values"]["agreement@10"]["value"] == 1


def test_the_last_row_is_what_the_index_answers(tmp_path):
    ledger, index = ledger_of(tmp_path, "ward(factor=6) | int8 | mean | maxsim(candidates=20)")
    batch, ids = documents(), [f"d{number:03}" for number in range(DOCUMENTS)]
    asking = draw(ids, batch, None, None, seed=1, count=QUERIES)
    shares = []
    with index:
        for vectors, source in zip(asking.vectors.unpack(), asking.sources, strict=True):
            scores = [float((vectors @ one.T).amax(1).sum()) for one in batch.unpack()]
            order = [ids[row] for row in np.argsort(-np.array(scores), kind="stable")]
            exact = [one for one in order if one != source][:10]
            hits = [hit.id for hit in index.search(vectors, k=11) if hit.id != source][:10]
            shares.append(len(set(exact) & set(hits)) / 10)
    final = ledger["stages"][-1]["values"]["agreement@10"]["value"]
    assert final == pytest.approx(np.mean(shares))


def test_the_ledger_is_kept_with_the_index_and_its_bytes_are_counted_apart(tmp_path):
    ledger, index = ledger_of(tmp_path, "ward(factor=4) | int8")
    index.close()
    with Index.open(tmp_path / "idx") as opened:
        about = opened.describe()
        assert about["ledger"] == ledger
        assert about["bytes"]["ledger"] > 0
        opened.add(["more"], embeddings=[torch.ones(3, DIM)])
        opened.compact()
        assert opened.describe()["ledger"] == ledger


def test_sentences_are_drawn_where_there_are_texts_and_an_encoder():
    texts = [f"Short. The document number {n} says this, at some length. End." for n in range(8)]
    encoder = HashingEncoder()
    vectors = Ragged.concat(list(encoder.documents(texts)))
    asking = draw([f"d{n}" for n in range(8)], vectors, texts, encoder, seed=3, count=5)
    assert asking.kind == "sentences"
    assert len(asking) == 5
    for text, source in zip(asking.texts, asking.sources, strict=True):
        assert text == f"The document number {source[1:]} says this, at some length."
        assert len(text.split()) <= MOST


def test_texts_without_a_whole_sentence_give_runs_of_vectors():
    batch = documents()
    asking = draw([str(n) for n in range(DOCUMENTS)], batch, ["no"] * DOCUMENTS, None, seed=0)
    assert asking.kind == "spans"
    rows = batch.unpack()[int(asking.sources[0])]
    first = asking.vectors.unpack()[0]
    assert any(torch.equal(first, rows[start : start + len(first)]) for start in range(13))


def test_auto_takes_as_many_candidates_as_the_curve_of_the_index_asks_for(tmp_path):
    recipe = 'int8 | mean | maxsim(candidates="auto", recall=0.9)'
    ledger, index = ledger_of(tmp_path, recipe)
    curve = ledger["candidates"]
    assert curve["recall"] == sorted(curve["recall"])
    with index:
        chosen = index.candidates
        place = curve["counts"].index(chosen)
        assert curve["recall"][place] >= 0.9
        assert place == 0 or curve["recall"][place - 1] < 0.9
        [asked] = index.ask([torch.ones(2, DIM)])
        assert asked.candidates == chosen
        [told] = index.ask([torch.ones(2, DIM)], candidates=33)
        assert told.candidates == 33
    final = ledger["stages"][-2]["values"]["agreement@10"]["value"]
    assert final >= 0.85
    with Index.open(tmp_path / "idx") as opened:
        assert opened.candidates == chosen


def test_auto_without_a_curve_takes_a_number_that_is_said(tmp_path):
    recipe = 'int8 | mean | maxsim(candidates="auto")'
    with Index.create(tmp_path / "idx", recipe=recipe, dim=DIM) as index:
        assert index.candidates == 500


def test_a_word_that_is_no_number_of_candidates_is_refused():
    with pytest.raises(BadParameter, match="wanted a number or auto"):
        Recipe.parse('maxsim(candidates="many")')
    assert str(Recipe.parse('maxsim(candidates="auto")')).endswith('maxsim(candidates="auto")')


def test_with_judgements_the_ledger_tells_what_they_say(tmp_path):
    batch = documents()
    # A query is the first tokens of a document, which is its answer: exact search puts it first.
    queries = Ragged.pack([item[:8] for item in batch.unpack()[:QUERIES]])
    grades = [{f"d{number:03}": 1, "not there": 1} for number in range(QUERIES)]
    names = [f"q{number}" for number in range(QUERIES)]
    asking = Asking(JUDGED, queries, [None] * QUERIES, names, grades)
    ledger, _ = ledger_of(tmp_path, "truncate(dim=1) | int8 | exhaustive", asking)
    assert ledger["measures"] == ["nDCG@10", "R@10", "agreement@10"]
    exact, short, *_ = ledger["stages"]
    assert exact["values"]["R@10"]["value"] == 0.5  # one of two that are judged
    assert exact["values"]["nDCG@10"]["value"] == pytest.approx(1 / (1 + 1 / np.log2(3)))
    assert short["values"]["nDCG@10"]["value"] < exact["values"]["nDCG@10"]["value"]
    assert ledger["blame"] == "truncate(dim=1)"
    assert ledger["trust"] == ""
    for name in ledger["measures"]:
        lost = sum(stage["lost"][name]["value"] for stage in ledger["stages"])
        assert lost == pytest.approx(ledger["lost"][name]["value"])


def test_given_queries_are_read_with_their_judgements(tmp_path):
    (tmp_path / "qrels").mkdir()
    lines = [f'{{"_id": "q{n}", "text": "words of query {n}"}}' for n in range(3)]
    (tmp_path / "queries.jsonl").write_text("\n".join(lines))
    judged = "query-id\tcorpus-id\tscore\nq0\td1\t2\nq2\td0\t1\n"
    (tmp_path / "qrels" / "dev.tsv").write_text(judged)
    encoder = HashingEncoder()
    plain = given(tmp_path / "queries.jsonl", None, encoder, seed=0)
    assert (plain.kind, plain.sources, list(plain.grades)) == ("given", ["q0", "q1", "q2"], [])
    asked = given(tmp_path, "dev", encoder, seed=0)
    assert (asked.kind, asked.sources) == ("judged", ["q0", "q2"])
    assert asked.grades == [{"d1": 2}, {"d0": 1}]
    with pytest.raises(BadInput, match="no judgements of split 'dev'"):
        given(tmp_path / "queries.jsonl", "dev", encoder, seed=0)
