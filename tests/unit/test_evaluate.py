from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from colreduce_indexer.job import build
from colreduce_indexer.plan import Settings
from colreduce_indexer.sources import open_source

from colreduce.errors import BadData, BadInput
from colreduce.evaluate.compare import evaluate
from colreduce.evaluate.embeddings import EmbeddingStore, text_key
from colreduce.evaluate.ledger import check_sum
from colreduce.evaluate.metrics import read_runs
from colreduce.evaluate.sample import chunks, reservoir
from colreduce.evaluate.scoring import TopRows, Wanted, score_all
from colreduce.index import Index
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe
from tests.hashing_encoder import HashingEncoder

WORDS = ["sun", "moon", "star", "wind", "rain", "snow", "tree", "leaf", "root", "stone", "sand"]
RECIPE = "pca(dim=8) | window(size=3) | int8 | mean | maxsim(candidates=12)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty documents of a few words each, and queries that repeat words of some of them."""
    draw = np.random.default_rng(3)
    texts = [" ".join(draw.choice(WORDS, size=draw.integers(3, 12))) for _ in range(40)]
    texts[7] = ""
    corpus = [{"_id": f"d{i:02}", "title": "", "text": text} for i, text in enumerate(texts)]
    queries = [{"_id": f"q{i}", "text": " ".join(texts[i].split()[:3])} for i in range(5)]
    queries.append({"_id": "unjudged", "text": "moon"})
    qrels = [f"q{i}\td{i:02}\t2\nq{i}\td{i + 20:02}\t1\n" for i in range(5)]
    home = tmp_path / "toy"
    (home / "qrels").mkdir(parents=True)
    for name, entries in (("corpus", corpus), ("queries", queries)):
        lines = "".join(json.dumps(entry) + "\n" for entry in entries)
        (home / f"{name}.jsonl").write_text(lines)
    (home / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(qrels))
    return home


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLREDUCE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_ledger_has_a_row_per_stage_and_ends_with_the_index(folder: Path, tmp_path: Path):
    out = tmp_path / "run.trec"
    [row] = evaluate(folder, HashingEncoder(), [RECIPE], run_out=out).rows
    assert [loss.stage for loss in row.losses] == [
        "exact",
        "pca(dim=8)",
        "window(size=3)",
        "int8",
        "mean",
        "maxsim(candidates=12)",
    ]
    assert row.losses[0].agreement == 1.0
    assert row.metrics == row.losses[-1].metrics
    assert row.losses[-1].agreement == row.losses[-2].agreement < 1.0
    assert row.relative["nDCG@10"] == row.metrics["nDCG@10"] / row.losses[0].metrics["nDCG@10"]
    assert (row.documents, row.queries, row.dataset, row.split) == (40, 5, "toy", "test")
    assert set(row.first_stage_alone) == {"nDCG@10", "R@100", "RR@10"}
    run = read_runs(out)["colreduce-1"]
    assert sorted(run) == [f"q{i}" for i in range(5)]
    assert all(len(hits) == 12 for hits in run.values())


def test_exact_search_is_the_definition_of_maxsim(folder: Path, tmp_path: Path):
    encoder = HashingEncoder()
    texts = [record["text"] for record in read(folder / "corpus.jsonl")]
    documents = [batch.tokens for text in texts for batch in encoder.documents([text])]
    queries = [record["text"] for record in read(folder / "queries.jsonl")][:5]
    out = tmp_path / "run.trec"
    [row] = evaluate(folder, encoder, ["exact"], run_out=out).rows
    run = read_runs(out)["colreduce-1"]
    for number, query in enumerate(encoder.queries(queries)):
        scores = [float((query @ one.T).max(dim=1).values.sum()) for one in documents]
        best = sorted(range(40), key=lambda row: (-scores[row], row))
        hits = run[f"q{number}"]
        assert [score for _, score in hits] == pytest.approx(
            [scores[row] for row in best], rel=1e-5
        )
        # Documents with the same words score alike but for rounding, so several may be the best.
        assert scores[int(hits[0][0][1:])] == pytest.approx(scores[best[0]], rel=1e-5)
    assert {loss.agreement for loss in row.losses} == {1.0}
    assert row.relative == {"nDCG@10": 1.0, "R@100": 1.0, "RR@10": 1.0}
    assert row.vectors_per_doc == pytest.approx(sum(map(len, documents)) / 40)
    assert row.raw_bytes_per_doc == pytest.approx(sum(map(len, documents)) / 40 * 16 * 4)


def test_rows_are_the_plain_values_of_the_contract(folder: Path):
    found = evaluate(folder, HashingEncoder(), ["exact", RECIPE])
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["format"] == 1
    first, second = document["rows"]
    assert first["recipe"] == "fp32 | exhaustive | maxsim"
    assert first["losses"][0] == second["losses"][0]
    assert set(second["losses"][0]) > {"stage", "nDCG@10", "R@100", "RR@10", "agreement@10"}
    assert set(second["bytes_per_doc"]) >= {"vectors", "first_stage", "catalogue", "total"}
    assert second["bytes_per_doc"]["total"] < first["bytes_per_doc"]["total"]
    assert set(second["index_seconds"]) == {"encode", "reduce", "first_stage"}
    assert set(second["search_ms"]) == {"p50", "p95", "p99"}


def test_documents_are_encoded_once_per_encoder_and_text(folder: Path, cache: Path):
    encoder = HashingEncoder()
    [first] = evaluate(folder, encoder, [RECIPE]).rows
    assert encoder.encoded == 40
    [again] = evaluate(folder, encoder, [RECIPE]).rows
    assert encoder.encoded == 40
    assert again.losses == first.losses
    other = HashingEncoder("another")
    evaluate(folder, other, [RECIPE])
    assert other.encoded == 40
    assert not [path for path in (cache / "embeddings").iterdir() if path.name.startswith(".tmp")]


def test_without_the_cache_nothing_is_kept(folder: Path, cache: Path):
    encoder = HashingEncoder()
    [kept_nothing] = evaluate(folder, encoder, [RECIPE], cache=False).rows
    assert not cache.exists()
    [cached] = evaluate(folder, encoder, [RECIPE]).rows
    assert cached.losses == kept_nothing.losses


def test_a_damaged_cache_is_made_again(folder: Path, cache: Path):
    encoder = HashingEncoder()
    [first] = evaluate(folder, encoder, [RECIPE]).rows
    for path in (cache / "embeddings").glob("*/tokens.bin"):
        path.write_bytes(path.read_bytes()[:-4])
    for path in (cache / "embeddings").glob("exact-*.npz"):
        path.write_bytes(b"PK")
    [outcome] = [path for path in (cache / "outcomes").iterdir() if b"sha256" in path.read_bytes()]
    outcome.write_bytes(outcome.read_bytes()[:-1])
    [again] = evaluate(folder, encoder, [RECIPE]).rows
    assert encoder.encoded == 80
    assert again.losses == first.losses
    assert not again.cached


def test_what_was_measured_is_not_measured_again(folder: Path, cache: Path):
    encoder = HashingEncoder()
    first = evaluate(folder, encoder, [RECIPE])
    again = evaluate(folder, encoder, [RECIPE])
    assert encoder.encoded == 40
    assert [row.cached for row in (*first.rows, *again.rows)] == [False, True]
    assert again.rows[0].metrics == first.rows[0].metrics
    assert again.rows[0].losses == first.rows[0].losses
    assert again.comparisons == first.comparisons


def test_a_recipe_that_finds_nothing_is_worse_by_more_than_chance(folder: Path):
    found = evaluate(folder, HashingEncoder(), ["exact", "first(size=1) | maxsim(candidates=1)"])
    by_metric = {one.metric: one for one in found.comparisons}
    one = by_metric["nDCG@10"]
    assert (one.first, one.better + one.worse + one.same) == ("exact", found.rows[0].queries)
    assert one.difference.value == pytest.approx(
        found.rows[1].metrics["nDCG@10"] - found.rows[0].metrics["nDCG@10"]
    )
    lost = [worst for worst in found.worst if worst.before > worst.after]
    assert lost == list(found.worst)
    assert all(worst.text for worst in lost)


def test_a_run_of_ours_read_back_is_worth_what_it_was(folder: Path, tmp_path: Path):
    run = tmp_path / "run.trec"
    ours = evaluate(folder, HashingEncoder(), ["exact"], run_out=run)
    read_back = evaluate(folder, runs_in=[run])
    [row] = read_back.runs
    assert row.metrics == pytest.approx(ours.rows[0].metrics)
    assert row.unanswered == 0


def test_data_sets_count_once_each_in_the_averages(folder: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    lines = (other / "qrels" / "test.tsv").read_text().splitlines()
    (other / "qrels" / "test.tsv").write_text("\n".join(lines[: len(lines) // 2 + 1]) + "\n")
    found = evaluate([folder, other], HashingEncoder(), ["exact", RECIPE])
    for average in found.averages:
        rows = [row for row in found.rows if row.system == average.system]
        assert len(rows) == average.datasets == 2
        mean = sum(row.metrics["nDCG@10"] for row in rows) / 2
        assert average.metrics["nDCG@10"] == pytest.approx(mean)


def test_judgements_of_what_is_not_there_stop_before_anything_is_encoded(folder: Path):
    with (folder / "qrels" / "test.tsv").open("a") as file:
        file.write("q1\tnowhere\t1\n")
    encoder = HashingEncoder()
    with pytest.raises(BadData, match="the document 'nowhere', judged for the query 'q1'"):
        evaluate(folder, encoder, [RECIPE])
    assert encoder.encoded == 0


def test_vectors_of_a_file_take_the_place_of_the_encoder(folder: Path, tmp_path: Path):
    encoder = HashingEncoder()
    corpus = read(folder / "corpus.jsonl")
    corpus.reverse()  # the file's order is not the corpus'
    documents = Ragged.concat(list(encoder.documents([entry["text"] for entry in corpus])))
    asked = read(folder / "queries.jsonl")
    padded, _ = Ragged.pack(
        [query[:4] for query in encoder.queries([f"{entry['text']} x x" for entry in asked])]
    ).pad()
    path = tmp_path / "vectors.npz"
    np.savez(
        path,
        doc_ids=np.array([entry["_id"] for entry in corpus]),
        doclens=documents.lengths.numpy(),
        doc_vectors=documents.tokens.numpy(),
        query_ids=np.array([entry["_id"] for entry in asked]),
        query_vectors=padded.numpy()[:, :3],
    )
    [row] = evaluate(folder, None, ["exact"], vectors=path).rows
    assert row.encoder == "vectors.npz"
    assert row.metrics["RR@10"] > 0.9
    with pytest.raises(BadInput, match="wanted an encoder"):
        evaluate(folder, None, ["exact"])


def test_a_file_of_vectors_with_judgements_is_a_collection(real_data: Path):
    path = real_data / "vectors" / "nanofiqa_colbertv2.npz"
    [row] = evaluate(path, None, ["ward(factor=4) | int8"]).rows
    assert (row.documents, row.queries) == (35, 5)
    assert row.losses[0].metrics["RR@10"] == 1.0
    assert row.relative["nDCG@10"] > 0.95


def test_a_ledger_that_does_not_add_up_is_refused():
    assert check_sum([np.array([3.0, 1.0])], [[3.0, 1.0005]]) == pytest.approx(0.0005)
    with pytest.raises(AssertionError, match="for query 1 the stages lead to scores"):
        check_sum([np.array([3.0]), np.array([2.0])], [[3.0], [2.01]])
    with pytest.raises(AssertionError, match="does not add up"):
        check_sum([np.array([3.0, 2.0])], [[3.0]])


def ragged(sizes: list[int], seed: int) -> Ragged:
    draw = torch.Generator().manual_seed(seed)
    return Ragged.pack([torch.randn(size, 4, generator=draw) for size in sizes])


def test_scores_in_blocks_equal_maxsim_one_by_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("colreduce.evaluate.scoring.BLOCK_SIMILARITIES", 1 << 13)
    queries, documents = ragged([3, 1, 5, 2], 0), ragged([4, 1, 700, 9, 1200, 2], 1)
    lengths = documents.lengths.numpy()
    found = score_all(queries, lengths, lambda q, rows: q @ documents.tokens[rows].T)
    for row, query in enumerate(queries.unpack()):
        for column, document in enumerate(documents.unpack()):
            expected = float((query @ document.T).max(dim=1).values.sum())
            assert found[row, column] == pytest.approx(expected, rel=1e-5)


def test_the_best_rows_over_blocks_are_those_of_the_whole():
    scores = np.random.default_rng(0).integers(0, 30, size=(3, 101)).astype(np.float32)
    top = TopRows(3, 5)
    for start in range(0, 101, 10):
        top.add(start, scores[:, start : start + 10])
    rows, values = top.finish()
    for query in range(3):
        expected = sorted(range(101), key=lambda row: (-scores[query, row], row))[:5]
        assert rows[query].tolist() == expected
        assert values[query].tolist() == scores[query, expected].tolist()


def test_scores_of_chosen_rows_come_back_in_the_order_they_were_asked():
    scores = np.arange(60, dtype=np.float32).reshape(2, 30)
    wanted = Wanted([np.array([29, 0, 11]), np.array([], dtype=np.int64), np.array([5])][:2])
    for start in (0, 12, 24):
        wanted.add(start, scores[:, start : start + 12])
    first, second = wanted.finish()
    assert first.tolist() == [29.0, 0.0, 11.0]
    assert second.tolist() == []


def test_a_sample_depends_on_the_seed_and_keeps_the_order():
    assert reservoir(range(5), 10, seed=1) == [0, 1, 2, 3, 4]
    drawn = reservoir(range(1000), 20, seed=1)
    assert drawn == sorted(set(drawn))
    assert drawn == reservoir(iter(range(1000)), 20, seed=1)
    assert drawn != reservoir(range(1000), 20, seed=2)
    assert max(drawn) > 500
    assert list(chunks(range(5), 2)) == [[0, 1], [2, 3], [4]]


def test_keys_tell_texts_apart_that_join_to_the_same():
    encoder = HashingEncoder()
    assert text_key(encoder, "documents", ["ab", "c"]) != text_key(
        encoder, "documents", ["a", "bc"]
    )
    assert text_key(encoder, "documents", ["a"]) != text_key(encoder, "queries", ["a"])


def test_embeddings_come_back_from_disk_as_they_were(tmp_path: Path):
    encoder = HashingEncoder()
    texts = ["one two", "", "three four five"]
    with EmbeddingStore(tmp_path) as store:
        found = store.documents(encoder, lambda: iter(texts), batch_size=2)
        [batch] = encoder.documents(texts)
        span = found.span(0, 3)
        assert torch.equal(span.tokens, batch.tokens)
        assert torch.equal(span.lengths, batch.lengths)
        assert span.token_ids is not None
        assert batch.token_ids is not None
        assert torch.equal(span.token_ids, batch.token_ids)
        assert torch.equal(found.take([2, 0]).tokens, batch.take(torch.tensor([2, 0])).tokens)
        assert [start for start, _ in found.blocks(5)] == [0, 1, 2]


def test_an_evaluation_ranks_as_the_index_of_a_batch_build_does(folder: Path, tmp_path: Path):
    encoder, out = HashingEncoder(), tmp_path / "run.trec"
    evaluate(folder, encoder, [RECIPE], run_out=out)
    run = read_runs(out)["colreduce-1"]
    build(
        open_source(folder, vectors=False),
        tmp_path / "idx",
        Settings(recipe=Recipe.parse(RECIPE), batch_size=3),
        encoder=encoder,
    )
    with Index.open(tmp_path / "idx", encoder=encoder) as index:
        for query in read(folder / "queries.jsonl")[:5]:
            hits = index.search(query["text"], 12)
            assert [hit.id for hit in hits] == [name for name, _ in run[query["_id"]]]
            scores = [score for _, score in run[query["_id"]]]
            assert [hit.score for hit in hits] == pytest.approx(scores, rel=1e-5)
