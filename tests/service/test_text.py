"""Text queries are encoded on the server, by the model that the index was built with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from colreduce import Client, Index
from colreduce.errors import BadInput, NotFound
from colreduce.results import Document
from tests.service.running import Running, fill

TEXTS = {
    "sky": "The sky is blue because air scatters short waves of light more than long ones.",
    "bread": "Bread rises because yeast turns sugar into gas, which the dough holds back.",
    "tides": "The pull of the moon raises the sea on two sides of the earth.",
    "bees": "A bee dances to tell the others of the hive where it found flowers.",
}
QUERIES = ["why is the sky blue", "what makes dough rise", "moon and sea"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, demo_model: str) -> Path:
    root = tmp_path_factory.mktemp("texts")
    for name, recipe in (("whole", "exact"), ("small", "ward(factor=2) | int8")):
        with Index.create(root / name, recipe=recipe, encoder=demo_model) as index:
            index.add(list(TEXTS), list(TEXTS.values()))
    Index.create(root / "grown", recipe="exact", encoder=demo_model).close()
    fill(root / "vectors", "exact", documents=3)
    return root


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with Running(folder) as running, running.client(timeout=20) as opened:
        assert len(running.facts["encoders"]) == 1  # two indexes share it
        yield opened


@pytest.mark.parametrize("name", ["whole", "small"])
def test_a_text_finds_what_the_library_finds(folder: Path, client: Client, name: str) -> None:
    with Index.open(folder / name) as index:
        for query in QUERIES:
            expected = index.search(query, k=4)
            found = client.search(query, k=4, collection=name)
            assert [hit.id for hit in found] == [hit.id for hit in expected]
            assert [hit.score for hit in found] == [hit.score for hit in expected]
    assert client.search(QUERIES[0], k=1, collection=name)[0].id == "sky"


def test_texts_and_vectors_may_stand_in_one_batch(folder: Path, client: Client) -> None:
    with Index.open(folder / "whole") as index:
        vectors = index.encoder.queries([QUERIES[1]])[0]
    found = client.search_many([QUERIES[0], vectors, QUERIES[2]], k=1, collection="whole")
    assert [hits[0].id for hits in found] == ["sky", "bread", "tides"]


def test_which_collections_take_text_is_said(client: Client) -> None:
    assert client.describe("whole")["text_queries"] is True
    assert len(client.describe("whole")["encoder"]["sha256"]) == 64
    assert client.describe("vectors")["text_queries"] is False
    with pytest.raises(BadInput, match="give vectors instead") as caught:
        client.search("hello", collection="vectors")
    assert caught.value.field == "query.text"


def test_documents_may_come_as_texts(client: Client) -> None:
    client.add(["bread", "bees"], [TEXTS["bread"], TEXTS["bees"]], collection="grown")
    [hit] = client.search("what makes dough rise", k=1, collection="grown")
    assert hit.id == "bread"
    assert client.get(["bees"], collection="grown")[0].text == TEXTS["bees"]
    given = [Document("blank", {}, "  "), Document("sky", {}, TEXTS["sky"])]
    report = client.upsert(given, collection="grown")
    assert [(one.id, type(one.error)) for one in report.refused] == [("blank", BadInput)]
    assert client.search(QUERIES[0], k=1, collection="grown")[0].id == "sky"


def test_an_explanation_is_that_of_the_library_down_to_the_tokens(
    folder: Path, client: Client
) -> None:
    with Index.open(folder / "small") as index:
        vectors = index.encoder.queries([QUERIES[0]])[0]
        for query in (QUERIES[0], vectors):
            expected = index.explain(query, "sky")
            assert client.explain(query, "sky", collection="small") == expected
    assert [token.text for token in expected.tokens][:3] == ["[CLS]", "the", "sky"]
    assert expected.tokens[2].span == (4, 7)
    assert any(len(match.tokens) > 1 for match in expected.matches)
    with pytest.raises(NotFound):
        client.explain(QUERIES[0], "nobody", collection="small")


def test_many_threads_may_send_texts_at_once(client: Client) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: client.search(text, collection="small"), QUERIES * 8))
    assert [hits[0].id for hits in found] == ["sky", "bread", "tides"] * 8


def test_a_server_told_to_encode_nothing_takes_vectors_only(folder: Path) -> None:
    options = ("--encoder", "none")
    with Running(folder / "whole", *options) as running, running.client(timeout=20) as client:
        assert running.facts["encoders"] == []
        with pytest.raises(BadInput, match="encodes no text"):
            client.search("hello")
        assert len(client.search(np.eye(384)[:2], k=2)) == 2
        told = client.explain(np.eye(384)[:2], "sky")
        assert [token.text for token in told.tokens][:2] == [None, None]
        assert "encodes no text" in " ".join(told.notes)
        with grpc.insecure_channel(running.address) as channel:
            grpc.channel_ready_future(channel).result(timeout=5)
