"""One model encodes for all: queries that wait are encoded together, and go before documents."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import torch
from colreduce_service.collection import Collection
from colreduce_service.encoders import BATCH_QUERIES, Encoders, SharedEncoder
from torch import Tensor

from colreduce import Client, Index
from colreduce.embed import Encoder
from colreduce.errors import BadInput, DeadlineExceeded, ModelMismatch, Unavailable
from colreduce.rpc.v1 import write_pb2, write_pb2_grpc
from tests.hashing_encoder import HashingEncoder
from tests.service.running import fill, serving, until


class Model(HashingEncoder):
    """A model with a digest, that takes its time, and that cannot read one word."""

    def __init__(self, name: str = "one", seconds: float = 0.0) -> None:
        super().__init__(name)
        self.identity = {**self.identity, "sha256": f"digest of {name}"}
        self.seconds = seconds
        self.batches: list[list[str]] = []

    def queries(self, texts: Sequence[str], batch_size: int = 32) -> list[Tensor]:
        self.batches.append(list(texts))
        time.sleep(self.seconds)
        if any("unreadable" in text for text in texts):
            raise ValueError("cannot be read")
        return super().queries(texts, batch_size)

    def documents(self, texts, batch_size=32):  # type: ignore[no-untyped-def]
        for one in super().documents(texts, batch_size):
            time.sleep(self.seconds)
            yield one


@pytest.fixture
def model() -> Model:
    return Model(seconds=0.01)


@pytest.fixture
def shared(model: Model) -> Iterator[SharedEncoder]:
    made = SharedEncoder(model)
    yield made
    made.close()


def test_queries_of_many_threads_are_encoded_together_and_each_gets_its_own(
    model: Model, shared: SharedEncoder
) -> None:
    texts = [f"query number {n}" for n in range(200)]
    with ThreadPoolExecutor(40) as pool:
        found = list(pool.map(lambda text: shared.encode([text])[0], texts))
    plain = Model()
    for text, vectors in zip(texts, found, strict=True):
        assert torch.equal(vectors, plain.queries([text])[0])
    assert shared.batches == len(model.batches) < 60
    assert max(len(batch) for batch in model.batches) <= BATCH_QUERIES
    assert sorted(text for batch in model.batches for text in batch) == sorted(texts)


def test_a_query_does_not_wait_for_many_documents(model: Model, shared: SharedEncoder) -> None:
    done = threading.Event()

    def encode_documents() -> None:
        assert len(list(shared.documents(f"document {n}" for n in range(400)))) == 100
        done.set()

    thread = threading.Thread(target=encode_documents)
    thread.start()
    until(lambda: model.encoded > 0)
    assert len(shared.encode(["quick"])) == 1
    assert not done.is_set()
    thread.join()
    assert model.encoded == 400


def test_a_query_that_nobody_waits_for_is_not_encoded(model: Model, shared: SharedEncoder) -> None:
    model.seconds = 0.3

    def gone() -> None:
        raise DeadlineExceeded("the caller has gone")

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(shared.encode, ["first"])
        until(lambda: bool(model.batches))
        with pytest.raises(DeadlineExceeded):
            shared.encode(["second", "and one beside it"], gone)
        assert len(running.result()) == 1
    assert len(shared.encode(["third"])) == 1
    assert model.batches == [["first"], ["third"]]


def test_documents_that_nobody_waits_for_are_not_encoded_to_the_end(
    index: Path, model: Model
) -> None:
    model.seconds = 0.1
    before = model.encoded
    with serving(index, model) as server, grpc.insecure_channel(server.listening) as channel:
        every = [write_pb2.NewDocument(id=str(n), text=f"text {n}") for n in range(200)]
        call = write_pb2_grpc.WriteStub(channel).Upsert(
            iter([write_pb2.UpsertRequest(documents=every)]), timeout=20
        )
        until(lambda: model.encoded > before)
        call.cancel()
        time.sleep(0.3)
        after = model.encoded
        time.sleep(0.5)
        assert model.encoded == after < 100
        assert len(server.indexes.get("").index) == 2


def test_a_text_that_cannot_be_encoded_does_not_hurt_those_beside_it(
    model: Model, shared: SharedEncoder
) -> None:
    model.seconds = 0.1
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(shared.encode, ["first"])
        until(lambda: bool(model.batches))
        beside = [pool.submit(shared.encode, [text]) for text in ("good", "unreadable", "fine")]
        assert [len(one.result()) for one in (first, beside[0], beside[2])] == [1, 1, 1]
        with pytest.raises(ValueError, match="cannot be read"):
            beside[1].result()


def test_documents_that_cannot_be_encoded_raise_and_the_model_goes_on(
    shared: SharedEncoder,
) -> None:
    def texts() -> Iterator[str]:
        yield "good"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(shared.documents(texts()))
    assert len(list(shared.documents(["a", "b"]))) == 1
    assert shared.read("a b").pieces[1].text == "a"  # type: ignore[union-attr]


def test_a_closed_encoder_refuses_and_what_waited_is_told(model: Model) -> None:
    shared = SharedEncoder(model)
    model.seconds = 0.2
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(shared.encode, ["first"])
        until(lambda: bool(model.batches))
        waiting = pool.submit(shared.encode, ["second"])
        until(lambda: len(shared._queries) == 1)
        shared.close()
        assert len(first.result()) == 1
        with pytest.raises(Unavailable, match="shutting down"):
            waiting.result()
    with pytest.raises(Unavailable):
        shared.encode(["late"])
    with pytest.raises(Unavailable):
        list(shared.documents(["late"]))


@pytest.fixture
def index(tmp_path: Path) -> Path:
    with Index.create(tmp_path / "idx", recipe="fp32 | mean", encoder=Model()) as made:
        made.add(["sky", "bread"], ["the sky is blue", "bread rises slowly"])
    return tmp_path / "idx"


def test_a_model_is_lent_to_every_index_that_was_built_with_it(index: Path, model: Model) -> None:
    with Index.create(index.with_name("second"), recipe="exact", encoder=Model()):
        pass
    fill(index.with_name("vectors"), "exact", documents=3)
    with (
        serving(index.parent, model, workers=2, queue=32) as server,
        Client(server.listening, timeout=20) as client,
    ):
        texts = {
            one.name: client.describe(one.name)["text_queries"] for one in client.collections()
        }
        assert texts == {"idx": True, "second": True, "vectors": False}
        with ThreadPoolExecutor(16) as pool:
            found = list(
                pool.map(lambda _: client.search("sky", k=1, collection="idx"), range(100))
            )
        assert {hits[0].id for hits in found} == {"sky"}
        assert len(model.batches) < 60  # although two searches run at once
        client.add(["c"], ["yeast makes gas"], collection="second")
        assert client.search("yeast", k=1, collection="second")[0].id == "c"
        assert client.explain("yeast", "c", collection="second").tokens[1].text == "yeast"
        client.create("third", encoder="one")
        client.add(["d"], ["a third one"], collection="third")
        assert client.search("third", collection="third")[0].id == "d"


def test_a_model_that_an_index_was_not_built_with_is_refused(index: Path) -> None:
    encoders = Encoders(("another",))
    encoders.keep(Model("another"))
    with Index.open(index) as opened, pytest.raises(ModelMismatch, match="differs in sha256"):
        encoders.lend(opened)
    collection = Collection("idx", index, encoders.lend, write=False)
    with pytest.raises(ModelMismatch):
        collection.require_text("query.text")
    assert collection.ready
    collection.close()
    encoders.close()


class Slow(Index):
    """An index whose model takes long to load."""

    began = threading.Event()
    go_on = threading.Event()

    @property
    def encoder(self) -> Encoder:
        self.began.set()
        assert self.go_on.wait(20)
        return Model("slow")


def test_who_wants_another_model_does_not_wait_while_one_loads(tmp_path: Path) -> None:
    encoders = Encoders()
    encoders.keep(Model("quick"))
    for name in ("slow", "quick"):
        Index.create(tmp_path / name, recipe="exact", encoder=Model(name)).close()
    with (
        Slow.open(tmp_path / "slow") as slow,
        Slow.open(tmp_path / "slow") as same,
        Index.open(tmp_path / "quick") as quick,
        ThreadPoolExecutor(2) as pool,
    ):
        waiting = [pool.submit(encoders.lend, one) for one in (slow, same)]
        assert Slow.began.wait(20)
        encoders.lend(quick)
        assert not any(one.done() for one in waiting)
        Slow.go_on.set()
        assert [one.result(20) for one in waiting] == [None, None]
        assert slow._encoder is same._encoder  # it was loaded once
        assert len(encoders.all()) == 2
    encoders.close()


def test_no_encoder_stands_alone() -> None:
    with pytest.raises(BadInput, match="stands alone"):
        Encoders(("none", "another")).load()
