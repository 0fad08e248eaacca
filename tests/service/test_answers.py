"""The server answers what the library answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from colreduce import Client, Index
from colreduce.errors import BadInput, Damaged, NotFound
from colreduce.results import Explanation, Match, Token
from colreduce.rpc import codec
from colreduce.rpc.explanation import from_explanation, to_explanation
from colreduce.rpc.ledger import from_ledger, to_ledger
from colreduce.rpc.v1 import admin_pb2, search_pb2, search_pb2_grpc
from tests.service.running import Running


@pytest.mark.parametrize("name", ["reduced", "staged"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 3},
        {"k": 1000},
        {"candidates": 2, "k": 2},
        {"exact": True},
        {"filter": {"number": {"gte": 50}}},
        {"filter": "number < 7 and not number in (1, 2)", "k": 20},
        {"filter": {"big": 2**60 + 3}},
        {"filter": {}},
    ],
)
def test_hits_are_those_of_the_library_id_for_id_and_score_for_score(
    folder: Path, client: Client, queries: list[np.ndarray], name: str, options: dict[str, Any]
) -> None:
    with Index.open(folder / name) as index:
        for query in queries:
            expected = index.search(query, **options)
            assert client.search(query, collection=name, **options) == expected
            assert expected[0].metadata["big"] > 2**60 - 1


def test_many_queries_in_one_request_are_answered_as_one_by_one(
    folder: Path, client: Client, queries: list[np.ndarray]
) -> None:
    many = queries * 20  # more than one request holds
    with Index.open(folder / "reduced") as index:
        assert client.search_many(many, k=4) == index.search_many(many, k=4)
    assert client.search_many([]) == []
    numbers = {
        hit.metadata["number"]
        for hits in client.search_many(queries, filter="number = 4 or number = 9")
        for hit in hits
    }
    assert numbers == {4, 9}


def test_half_precision_and_int8_queries_are_read_as_the_numbers_they_stand_for(
    folder: Path, server: Running, client: Client, queries: list[np.ndarray]
) -> None:
    half = queries[0].astype(np.float16)
    scales = (np.abs(queries[0]).max(1) / 127).astype(np.float32)
    codes = np.round(queries[0] / scales[:, None]).astype(np.int8)
    with Index.open(folder / "reduced") as index:
        assert client.search(half) == index.search(half.astype(np.float32))
        expected = index.search(codes.astype(np.float32) * scales[:, None])
    with grpc.insecure_channel(server.address) as channel:
        answer = search_pb2_grpc.SearchStub(channel).Search(
            search_pb2.SearchRequest(
                collection="reduced",
                query=search_pb2.Query(vectors=codec.quantised_tokens(codes, scales)),
            )
        )
    assert [(hit.id, hit.score) for hit in answer.hits] == [(hit.id, hit.score) for hit in expected]


def test_ten_hits_come_back_when_k_is_left_out(server: Running, queries: list[np.ndarray]) -> None:
    with grpc.insecure_channel(server.address) as channel:
        answer = search_pb2_grpc.SearchStub(channel).Search(
            search_pb2.SearchRequest(
                collection="reduced",
                query=search_pb2.Query(vectors=codec.to_tokens(queries[0])),
                omit_metadata=True,
            )
        )
    assert len(answer.hits) == 10
    assert answer.generation == 2
    assert {hit.metadata_json for hit in answer.hits} == {""}


def test_documents_come_back_with_text_and_metadata_in_the_order_asked(
    folder: Path, client: Client
) -> None:
    with Index.open(folder / "reduced") as index:
        assert client.get(["doc-7", "doc-3"]) == index.get(["doc-7", "doc-3"])
    assert client.get(["doc-7"])[0].text == "text 7"
    with pytest.raises(NotFound, match="doc-60"):
        client.get(["doc-1", "doc-60"])
    with pytest.raises(BadInput, match="list of ids"):
        client.get("doc-1")


def test_describe_says_what_the_library_says(folder: Path, client: Client) -> None:
    with Index.open(folder / "reduced") as index:
        expected = index.describe()
    given = client.describe()
    del expected["path"]
    assert {key: given[key] for key in expected} == expected
    assert given["name"] == "reduced"
    assert given["text_queries"] is False
    assert "built from vectors" in given["text_queries_problem"]


INTERVAL = {"low": 0.25, "value": 0.5, "high": 0.75}


def test_a_loss_ledger_crosses_the_wire_with_every_interval() -> None:
    stage = {
        "kind": "reduce",
        "values": {"agreement@10": INTERVAL},
        "lost": {"agreement@10": INTERVAL},
        "score_error": INTERVAL,
    }
    ledger = {
        "format": 1,
        "generation": 2,
        "documents": 5183,
        "queries": {"kind": "sentences", "count": 64},
        "level": 0.95,
        "measures": ["agreement@10"],
        "stages": [
            {"stage": "ward(factor=8)", **stage},
            {"stage": "mean", **stage, "kind": "first_stage", "score_error": None},
        ],
        "candidates": {"counts": [10, 20], "recall": [0.5, 0.75]},
        "lost": {"agreement@10": INTERVAL},
        "blame": "ward(factor=8)",
        "trust": "as far as sentences are like questions",
        "seconds": 3.5,
    }
    sent = to_ledger(ledger)
    assert sent is not None
    assert from_ledger(admin_pb2.Ledger.FromString(sent.SerializeToString())) == ledger
    assert to_ledger(None) is None


def test_a_damaged_collection_is_refused_by_name_and_the_others_are_served(
    client: Client, queries: list[np.ndarray]
) -> None:
    listed = {one.name: one for one in client.collections()}
    assert sorted(listed) == ["broken", "reduced", "staged"]
    assert [listed[name].ready for name in sorted(listed)] == [False, True, True]
    assert listed["reduced"].documents == 60
    assert "segments/" in listed["broken"].problem
    with pytest.raises(Damaged, match="segments/"):
        client.search(queries[0], collection="broken")
    assert len(client.search(queries[0])) == 10


def test_paths_of_the_server_are_not_told(folder: Path, client: Client) -> None:
    with pytest.raises(Damaged) as caught:
        client.search(np.eye(16), collection="broken")
    assert str(folder) not in str(caught.value)
    assert str(folder) not in client.collections()[0].problem


def test_one_client_serves_many_threads(client: Client, queries: list[np.ndarray]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    expected = client.search_many(queries)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(client.search, queries * 10))
    assert found == expected * 10


def test_an_explanation_of_vectors_is_that_of_the_library(
    folder: Path, client: Client, queries: list[np.ndarray]
) -> None:
    with Index.open(folder / "reduced") as index:
        for query in queries:
            [hit] = index.search(query, k=1)
            expected = index.explain(query, hit.id)
            found = client.explain(query, hit.id)
            assert replace(found, notes=expected.notes) == expected
            assert (found.traced, len(found.notes)) == ("stored", 1)
    with pytest.raises(NotFound, match="doc-60"):
        client.explain(queries[0], "doc-60")
    with pytest.raises(BadInput) as caught:
        client.explain(queries[0], "")
    assert caught.value.field == "id"


def test_an_explanation_crosses_the_wire_with_all_that_may_be_in_it() -> None:
    told = Explanation(
        "page-1",
        1.5,
        (Match((0, 1), 2, (3, 4), 1.5, 1.75), Match((2,), 0, (), 0.0)),
        (Token(0, "what", (0, 4)), Token(1, "[SEP]", None, None, True)),
        (Token(0, patch=(0, 1), vector=2), Token(1, patch=(1, 0)), Token(2, "é", (0, 1), None)),
        "what",
        "é",
        "recomputed",
        0.999,
        (2, 2),
        ("a note", "another"),
    )
    message = to_explanation(told, 7)
    assert message.generation == 7
    sent = search_pb2.ExplainResponse.FromString(message.SerializeToString())
    assert from_explanation(sent) == told
    bare = Explanation("a", 0.0, (), (), ())
    assert from_explanation(to_explanation(bare, 1)) == bare
