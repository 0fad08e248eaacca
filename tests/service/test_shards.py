"""A collection in shards answers as one index does, and says when a part of it is missing."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from colreduce_service.shards.collection import ShardedCollection
from colreduce_service.shards.hub import DOUBTED_SECONDS, Handle, Hub, merge
from colreduce_service.shards.replica import Question, Replica
from colreduce_service.shards.threads import InThread

from colreduce import Client, Index
from colreduce.errors import BadInput, DeadlineExceeded, NotFound, ReadOnly, Unavailable
from colreduce.index import Hit
from colreduce.index.shards import split
from colreduce.store import sharding
from tests.hashing_encoder import HashingEncoder
from tests.service.running import DIM, Running, scraped, serving, unit_vectors, until

torch.set_num_threads(1)
DOCUMENTS, TWINS = 120, 4


def whole_vectors(rng: np.random.Generator, tokens: int) -> np.ndarray:
    """Return vectors of small whole numbers: their products are the same in whatever order.

    A matrix product rounds a column by where it stands, so twins in two shards may differ by a
    last bit otherwise, and would be no twins.
    """
    drawn = rng.integers(-2, 3, size=(tokens, DIM)).astype(np.float32)
    drawn[:, 0] = 1
    return drawn


def filled(path: Path, recipe: str) -> Path:
    """Build an index in which some documents are alike, so that their scores are equal."""
    rng = np.random.default_rng(5)
    embeddings = [whole_vectors(rng, int(rng.integers(2, 9))) for _ in range(DOCUMENTS // TWINS)]
    ids = [f"doc-{number}" for number in range(DOCUMENTS)]
    with Index.create(path, recipe=recipe, dim=DIM) as index:
        index.add(
            ids,
            [f"text {number}" for number in range(DOCUMENTS)],
            embeddings=[embeddings[number % len(embeddings)] for number in range(DOCUMENTS)],
            metadata=[{"number": number} for number in range(DOCUMENTS)],
        )
    return path


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("single") / "whole", "fp32 | exhaustive | maxsim")


@pytest.fixture(scope="module")
def sharded(single: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sharded") / "whole"
    split(single, root, 3)
    return root


@pytest.fixture
def hub(sharded: Path) -> Iterator[Hub]:
    with ThreadPoolExecutor() as pool:
        yield Hub(replicas_of(sharded, 2, pool))


def replicas_of(root: Path, count: int, pool: ThreadPoolExecutor) -> list[list[Handle]]:
    names = sharding.newest(root).folders
    return [[InThread(Replica(str(root / name)), pool) for _ in range(count)] for name in names]


class Slow:
    """A replica that takes its time."""

    def __init__(self, inner: Handle, pool: ThreadPoolExecutor, seconds: float) -> None:
        self.inner, self.pool, self.seconds = inner, pool, seconds

    def ask(self, method: str, *arguments: Any) -> Future[Any]:
        def later() -> Any:
            time.sleep(self.seconds)
            return self.inner.ask(method, *arguments).result()

        return self.pool.submit(later)

    def end(self) -> None:
        self.inner.end()


def asked(k: int = 10, **how: Any) -> list[Question]:
    return [Question(whole_vectors(np.random.default_rng(9), 5), None, k, **how)]


def test_shards_answer_id_for_id_as_one_index_and_twins_in_the_same_order(
    single: Path, sharded: Path
):
    rng = np.random.default_rng(11)
    queries = [whole_vectors(rng, int(rng.integers(1, 9))) for _ in range(6)]
    ways = itertools.product((False, True), (None, "number >= 40"), (1, 7, 50, 1000), queries)
    with (
        serving(single) as one,
        serving(sharded) as many,
        Client(one.listening, timeout=20) as whole,
        Client(many.listening, timeout=20) as parts,
    ):
        for exact, filter, k, query in ways:
            expected = whole.answer(query, k, exact=exact, filter=filter)
            found = parts.answer(query, k, exact=exact, filter=filter)
            assert found.hits == expected.hits
            assert not found.partial
        assert len({hit.score for hit in expected.hits}) < len(expected.hits)
        assert parts.search_many(queries, 5) == whole.search_many(queries, 5)
        told = parts.answer(queries[0]).seconds
        assert {"encode", "first_stage", "rerank", "total"} <= set(told)


@pytest.mark.parametrize(
    "recipe", ["pca(dim=8) | ward(factor=2) | int8 | exhaustive | maxsim", "pq(parts=4, bits=4)"]
)
def test_shards_know_what_the_methods_learned_of_the_whole(
    tmp_path: Path, recipe: str, queries: list[np.ndarray]
):
    rng = np.random.default_rng(5)
    embeddings = [unit_vectors(rng, int(rng.integers(2, 9))) for _ in range(DOCUMENTS)]
    with Index.create(tmp_path / "idx", recipe=recipe, dim=DIM) as index:
        index.add([f"doc-{number}" for number in range(DOCUMENTS)], embeddings=embeddings)
        expected = index.search_many(queries, 20, exact=True)
    split(tmp_path / "idx", tmp_path / "shards", 4)
    with serving(tmp_path / "shards") as server, Client(server.listening, timeout=20) as client:
        for query, hits in zip(queries, expected, strict=True):
            found = client.search(query, 20, exact=True)
            assert [hit.id for hit in found] == [hit.id for hit in hits]
            assert [one.score for one in found] == pytest.approx([one.score for one in hits])


def test_documents_are_got_and_explained_from_the_shard_where_they_lie(single: Path, sharded: Path):
    ids = ["doc-9", "doc-100", "doc-3", "doc-9"]
    query = whole_vectors(np.random.default_rng(9), 5)
    with (
        serving(single) as one,
        serving(sharded) as many,
        Client(one.listening) as whole,
        Client(many.listening) as parts,
    ):
        assert parts.get(ids) == whole.get(ids)
        with pytest.raises(NotFound, match="there is no document 'doc-x'"):
            parts.get(["doc-1", "doc-x"])
        ours, theirs = parts.explain(query, "doc-9"), whole.explain(query, "doc-9")
        assert (ours.score, ours.matches) == (theirs.score, theirs.matches)
        told, known = parts.describe(), whole.describe()
        for name in ("documents", "tokens_per_doc", "vectors_per_doc", "recipe"):
            assert told[name] == pytest.approx(known[name])
        assert (told["segments"], told["generation"]) == (3, 3)
        [entry] = parts.collections()
        assert (entry.documents, entry.ready, entry.problem) == (DOCUMENTS, True, "")


def test_what_a_query_is_at_fault_for_is_told_and_what_is_written_is_refused(sharded: Path):
    with serving(sharded, snapshots=sharded.parent) as server, Client(server.listening) as client:
        with pytest.raises(BadInput, match="16-wide"):
            client.search(np.ones((2, 3), np.float32))
        with pytest.raises(BadInput, match="filter"):
            client.search(np.ones((2, DIM), np.float32), filter="number >=")
        for change in (
            lambda: client.add(["x"], embeddings=[np.ones((2, DIM), np.float32)]),
            lambda: client.delete(["doc-1"]),
            client.compact,
            client.snapshot,
        ):
            with pytest.raises(ReadOnly, match="shard by shard"):
                change()


def test_texts_are_encoded_once_and_every_shard_sees_their_words(tmp_path: Path):
    encoder = HashingEncoder()
    encoder.identity = {**encoder.identity, "sha256": "0"}
    texts = [f"word{number % 11} word{number}" for number in range(60)]
    with Index.create(
        tmp_path / "idx", recipe="int8 | exhaustive | bm25 | rrf | maxsim", encoder=encoder
    ) as index:
        index.add([f"d{number}" for number in range(60)], texts)
        expected = index.search("word7 word18", 5)
    split(tmp_path / "idx", tmp_path / "shards", 2)
    with serving(tmp_path / "shards", encoder) as server, Client(server.listening) as client:
        assert [hit.id for hit in client.search("word7 word18", 5)] == [hit.id for hit in expected]
        assert server.indexes.encoders.all()[0].batches == 1


def test_a_shard_that_is_missing_is_told_and_never_hidden(sharded: Path):
    with ThreadPoolExecutor() as pool:
        handles = replicas_of(sharded, 1, pool)
        handles[1] = [InThread(Replica(str(sharded / "nowhere")), pool)]
        hub = Hub(handles)
        merged = hub.answer(asked(k=1000), 5, lambda: None)
        assert merged.missing == (1,)
        record = sharding.newest(sharded)
        assert {record.shard_of(hit.id) for hit in merged.hits[0]} == {0, 2}
        hub.refresh()
        assert hub.silent == {1}
        with pytest.raises(Unavailable, match="shard 1 does not answer"):
            hub.of_all("describe", 5)
        nobody = Hub([[InThread(Replica(str(sharded / "nowhere")), pool)]])
        with pytest.raises(Unavailable, match="none of the shards has answered"):
            nobody.answer(asked(), 5, lambda: None)


def test_an_answer_that_is_partial_says_so_over_the_wire_and_search_refuses_it(
    single: Path, tmp_path: Path
):
    root = tmp_path / "whole"
    made = split(single, root, 3)
    (root / made.folders[2]).rename(root / "gone")
    query = whole_vectors(np.random.default_rng(9), 5)
    with Running(root, "--metrics", "127.0.0.1:0") as server, server.client(timeout=10) as client:
        answer = client.answer(query, 1000)
        assert answer.partial
        assert 0 < len(answer.hits) < DOCUMENTS
        with pytest.raises(Unavailable, match="a part of the collection did not answer in time"):
            client.search(query)
        with pytest.raises(Unavailable, match="a part of the collection"):
            client.search_many([query])
        [entry] = client.collections()
        assert (entry.ready, entry.problem) == (
            True,
            "answers are partial: shard 2 does not answer",
        )
        found = scraped(server.facts["metrics"])
        assert found["colreduce_readable", "whole"] == 1
        assert found["colreduce_partial_total", "whole"] == 3
        (root / "gone").rename(root / made.folders[2])
        until(lambda: not client.answer(query).partial)
        assert len(client.search(query, 1000)) == DOCUMENTS
        code, said = server.stop()
        assert code == 0
        assert "warning: whole is served only in part: answers are partial: shard 2" in said


def test_a_replica_that_fails_is_passed_over_and_asked_again_when_it_has_recovered(sharded: Path):
    with ThreadPoolExecutor() as pool:
        handles = replicas_of(sharded, 2, pool)
        broken = Replica(str(sharded / "nowhere"))
        handles[0][0] = InThread(broken, pool)
        hub = Hub(handles)
        for _ in range(20):
            assert hub.answer(asked(), 5, lambda: None).missing == ()
        assert list(hub._resting) == [(0, 0)]
        broken._folder = sharded / sharding.newest(sharded).folders[0]
        hub.refresh()
        assert hub._resting == {}


def test_a_replica_that_hangs_costs_half_of_the_time_and_later_next_to_nothing(sharded: Path):
    with ThreadPoolExecutor(64) as pool:
        handles = replicas_of(sharded, 2, pool)
        slow = Slow(handles[0][0], pool, 0.0)
        handles[0][0] = slow
        hub = Hub(handles)
        hub.refresh()
        slow.seconds = 2.0
        for _ in range(2):  # by turns, so one of the two meets it
            started = time.monotonic()
            assert hub.answer(asked(), 1.0, lambda: None).missing == ()
            assert time.monotonic() - started < 0.9
        slow.seconds = 0.0
        for _ in range(100):
            hub.answer(asked(), 5.0, lambda: None)
        usual = hub._patience(5.0)
        assert usual < 1.0
        slow.seconds = 2.0
        for _ in range(2):
            started = time.monotonic()
            assert hub.answer(asked(), 5.0, lambda: None).missing == ()
            assert time.monotonic() - started < usual + 0.5


def test_a_shard_whose_only_replica_is_started_again_does_not_hold_up_the_others(sharded: Path):
    with ThreadPoolExecutor(16) as pool:
        handles = replicas_of(sharded, 1, pool)
        well = handles[1][0]
        handles[1][0] = InThread(Replica(str(sharded / "nowhere")), pool)
        hub = Hub(handles)
        assert hub.answer(asked(), 5.0, lambda: None).missing == (1,)
        starting = Slow(well, pool, 3.0)  # what is asked meanwhile waits for it
        handles[1][0] = starting
        for _ in range(3):
            started = time.monotonic()
            assert hub.answer(asked(), 5.0, lambda: None).missing == (1,)
            assert time.monotonic() - started < DOUBTED_SECONDS + 0.5
        starting.seconds = 0.0
        assert hub.answer(asked(), 5.0, lambda: None).missing == ()
        starting.seconds = 0.6  # it is trusted again, and waited for
        assert hub.answer(asked(), 5.0, lambda: None).missing == ()


def test_what_is_there_when_the_time_is_up_is_answered_and_a_caller_who_went_is_not(sharded: Path):
    with ThreadPoolExecutor() as pool:
        handles = replicas_of(sharded, 1, pool)
        handles[2][0] = Slow(handles[2][0], pool, 2.0)
        hub = Hub(handles)
        started = time.monotonic()
        assert hub.answer(asked(), 0.8, lambda: None).missing == (2,)
        assert 0.5 < time.monotonic() - started < 0.8

        def gone() -> None:
            raise DeadlineExceeded("the caller has gone")

        with pytest.raises(DeadlineExceeded):
            hub.answer(asked(), 5.0, gone)
        assert hub.idle


def test_a_change_of_a_shard_and_a_new_record_are_taken_over_while_queries_run(
    single: Path, tmp_path: Path
):
    root = tmp_path / "whole"
    made = split(single, root, 2)
    query = whole_vectors(np.random.default_rng(9), 5)
    failed: list[Exception] = []
    over = threading.Event()
    with serving(root) as server, Client(server.listening, timeout=10) as client:
        generations = [client.answer(query).generation]

        def asking() -> None:
            while not over.is_set():
                try:
                    answer = client.answer(query, 1000)
                    assert not answer.partial
                    assert len(answer.hits) in (DOCUMENTS, DOCUMENTS + 1)
                    generations.append(answer.generation)
                except Exception as error:
                    failed.append(error)

        thread = threading.Thread(target=asking)
        thread.start()
        try:
            with Index.open(root / made.folders[made.shard_of("new")]) as shard:
                shard.add(["new"], ["n"], embeddings=[query])
            until(lambda: client.answer(query, 1).hits[0].id == "new")
            split(single, root, 3)
            until(lambda: client.describe()["segments"] == 3)
            until(lambda: client.answer(query, 1).hits[0].id != "new")
        finally:
            over.set()
            thread.join()
        assert failed == []
        assert generations == sorted(generations)
        assert generations[0] < generations[-1]
        [collection] = server.indexes.all()
        assert isinstance(collection, ShardedCollection)
        until(lambda: not collection._leaving)


def test_a_question_that_has_waited_too_long_is_not_looked_at(sharded: Path):
    replica = Replica(str(sharded / sharding.newest(sharded).folders[0]))
    assert isinstance(replica.answer(asked(), 5.0, time.time() - 2.0), DeadlineExceeded)
    assert isinstance(replica.answer(asked(), 0.0, time.time()), DeadlineExceeded)
    assert not isinstance(replica.answer(asked(), 5.0, time.time()), DeadlineExceeded)
    replica.close()


def test_replicas_open_at_once_and_one_that_does_not_is_asked_later(sharded: Path):
    with ThreadPoolExecutor(8) as pool:
        handles = replicas_of(sharded, 1, pool)
        slow = Slow(handles[1][0], pool, 0.6)
        handles[0][0] = Slow(handles[0][0], pool, 0.2)
        handles[1][0], handles[2][0] = slow, Slow(handles[2][0], pool, 0.2)
        hub = Hub(handles)
        hub.open(0.4, 0.5)
        assert hub.silent == {1}
        slow.seconds = 0.0
        hub.refresh()
        assert hub.silent == set()
        assert sum(hub.documents) == DOCUMENTS


def test_a_shard_that_nobody_answers_for_yet_is_waited_for_longer_than_a_second_replica(
    sharded: Path,
):
    with ThreadPoolExecutor(8) as pool:
        handles = replicas_of(sharded, 2, pool)
        handles[0][1] = Slow(handles[0][1], pool, 3.0)
        handles[1] = [Slow(handles[1][0], pool, 3.0), Slow(handles[1][1], pool, 0.6)]
        hub, began = Hub(handles), time.monotonic()
        hub.open(0.3, 2.5)
        assert 0.6 <= time.monotonic() - began < 2.5
        assert hub.silent == set()
        assert sum(hub.documents) == DOCUMENTS


def test_hits_of_shards_are_joined_by_score_and_then_by_id():
    found = [
        [Hit("c", 2.0), Hit("a", 1.0), Hit("z", 0.5)],
        [Hit("b", 2.0), Hit("d", 1.0)],
        [],
    ]
    assert [hit.id for hit in merge(found, 4)] == ["b", "c", "a", "d"]


def test_a_folder_may_hold_collections_of_both_kinds(single: Path, sharded: Path, tmp_path: Path):
    split(single, tmp_path / "both" / "parts", 2)
    filled(tmp_path / "both" / "whole", "int8 | exhaustive | maxsim")
    with serving(tmp_path / "both") as server, Client(server.listening) as client:
        assert {one.name: one.documents for one in client.collections()} == {
            "parts": DOCUMENTS,
            "whole": DOCUMENTS,
        }
        with pytest.raises(ReadOnly, match="parts lies in shards"):
            client.drop("parts")
        assert len(client.search(np.ones((1, DIM), np.float32), 3, collection="parts")) == 3
