"""Collections are made, compacted, copied and dropped over the wire, within the server's folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colreduce_service.encoders import Encoders
from colreduce_service.open_indexes import OpenIndexes

from colreduce import Client, Collections, Index
from colreduce.errors import (
    AlreadyExists,
    BadInput,
    BadRecipe,
    ColreduceError,
    Locked,
    NotFound,
    ReadOnly,
)
from colreduce.recipe import Recipe
from tests.service.running import DIM, fill, scraped, serving, unit_vectors, until

RECIPE = "fp32 | exhaustive | maxsim"
EYE = np.eye(DIM, dtype=np.float32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "indexes").mkdir()
    (tmp_path / "copies").mkdir()
    return tmp_path / "indexes"


@pytest.fixture
def client(root: Path) -> Iterator[Client]:
    with (
        serving(root, snapshots=root.parent / "copies") as server,
        Client(server.listening, timeout=20) as opened,
    ):
        yield opened


def test_a_collection_lives_from_its_making_to_its_end(client: Client, root: Path) -> None:
    assert client.collections() == []
    assert client.create("papers", "ward(factor=2) | int8", dim=DIM, seed=7) == (
        "ward(factor=2) | int8 | exhaustive | maxsim"
    )
    [listed] = client.collections()
    assert (listed.name, listed.ready, listed.writable, listed.documents) == (
        "papers",
        True,
        True,
        0,
    )
    client.add(["a", "b"], embeddings=[EYE[:4], EYE[4:8]])
    client.add(["c"], embeddings=[EYE[8:9]])
    client.delete(["b"])
    facts = client.describe()
    assert (facts["documents"], facts["seed"], facts["segments"]) == (2, 7, 3)
    generation = client.compact(purge=True)
    facts = client.describe()
    assert (facts["segments"], facts["generation"]) == (1, generation)
    assert client.search(EYE[8:9], k=1)[0].id == "c"
    assert client.drop("papers") == 2
    assert client.collections() == []
    assert list(root.iterdir()) == []
    with pytest.raises(NotFound):
        client.search(EYE[:1], collection="papers")


def test_a_name_can_be_used_again_and_not_twice(client: Client, root: Path) -> None:
    client.create("x", RECIPE, dim=DIM)
    client.add(["old"], embeddings=[EYE[:1]])
    with pytest.raises(AlreadyExists):
        client.create("x", RECIPE, dim=DIM)
    client.drop("x")
    client.create("x", RECIPE, dim=DIM)
    assert client.describe("x")["documents"] == 0
    client.add(["new"], embeddings=[EYE[:1]])
    (root / "taken").mkdir()
    (root / "taken" / "notes.txt").write_text("not an index")
    (root / "linked").symlink_to(root.parent / "copies")
    for name in ("taken", "linked"):
        with pytest.raises(AlreadyExists) as caught:
            client.create(name, RECIPE, dim=DIM)
        assert str(root) not in str(caught.value)
    assert list((root.parent / "copies").iterdir()) == []


def test_a_creation_that_was_cut_short_is_no_obstacle_to_the_next(
    client: Client, root: Path
) -> None:
    (root / "papers" / "segments").mkdir(parents=True)
    (root / "papers" / "LOCK").touch()
    client.create("papers", RECIPE, dim=DIM)
    client.add(["a"], embeddings=[EYE[:2]])
    assert client.describe("papers")["documents"] == 1


def test_a_snapshot_can_be_restored_and_its_name_is_the_servers_choice(
    client: Client, root: Path, tmp_path: Path
) -> None:
    client.create("papers", RECIPE, dim=DIM)
    client.add(["a", "b"], ["one", "two"], embeddings=[EYE[:4], EYE[4:8]])
    copy = client.snapshot()
    file = root.parent / "copies" / copy.name
    assert copy.name.startswith("papers-")
    assert file.stat().st_size == copy.bytes
    with Index.restore(file, tmp_path / "restored") as restored:
        assert (restored.generation, len(restored)) == (copy.generation, 2)
        assert restored.search(EYE[:4], k=1) == client.search(EYE[:4], k=1)
    assert client.snapshot().name != copy.name


@pytest.mark.parametrize(
    ("arguments", "kind", "field"),
    [
        ({"name": "papers", "recipe": "/etc/recipe.toml", "dim": 4}, BadRecipe, "recipe"),
        ({"name": "papers", "recipe": "wart(factor=2)", "dim": 4}, BadInput, "recipe"),
        ({"name": "papers", "recipe": "ward(factor=0)", "dim": 4}, BadInput, "recipe"),
        ({"name": "papers", "recipe": "dense(model='x')", "dim": 4}, BadRecipe, "recipe"),
        ({"name": "papers", "recipe": "int8 | " * 2000, "dim": 4}, BadInput, "recipe"),
        ({"name": "papers", "recipe": RECIPE}, BadInput, "encoder"),
        ({"name": "papers", "recipe": RECIPE, "dim": 4, "encoder": "x"}, BadInput, "encoder"),
        ({"name": "papers", "recipe": RECIPE, "encoder": "/etc/model"}, BadInput, "encoder"),
    ],
)
def test_what_cannot_be_made_is_refused_by_field_and_nothing_is_left(
    client: Client, root: Path, arguments: dict[str, str], kind: type[BadInput], field: str
) -> None:
    with pytest.raises(kind) as caught:
        client.create(**arguments)
    assert caught.value.field == field
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/x", "A", "a/b", "a\0", "x" * 65, "-a"])
def test_a_name_never_leads_out_of_the_folder(client: Client, root: Path, name: str) -> None:
    from colreduce.rpc.v1 import admin_pb2

    for verb, request in (
        ("CreateCollection", admin_pb2.CreateCollectionRequest(name=name, dim=4)),
        ("DropCollection", admin_pb2.DropCollectionRequest(name=name)),
    ):
        with pytest.raises(Exception, match="not a collection's name"):
            getattr(client._stubs["Admin"], verb)(request, timeout=10)
    assert sorted(one.name for one in root.parent.iterdir()) == ["copies", "indexes"]


def test_a_link_to_an_index_elsewhere_is_not_followed_when_it_is_dropped(
    root: Path, tmp_path: Path
) -> None:
    fill(tmp_path / "elsewhere", RECIPE, documents=3)
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    with serving(root) as server, Client(server.listening, timeout=20) as client:
        with pytest.raises(ReadOnly, match="link"):
            client.drop("linked")
        assert client.describe("linked")["documents"] == 3


def test_a_collection_that_another_process_writes_to_is_not_dropped(root: Path) -> None:
    fill(root / "papers", RECIPE, documents=3)
    with Index.open(root / "papers") as index:
        index.acquire()
        with serving(root) as server, Client(server.listening, timeout=20) as client:
            with pytest.raises(Locked) as caught:
                client.drop("papers")
            assert str(root) not in str(caught.value)
            assert client.describe("papers")["documents"] == 3
        index.delete(["doc-0"])
        assert len(index) == 2


def test_a_server_over_one_index_or_told_to_read_makes_and_drops_nothing(root: Path) -> None:
    fill(root / "one", RECIPE, documents=3)
    for folder, settings in ((root / "one", {}), (root, {"read_only": True})):
        with serving(folder, **settings) as server, Client(server.listening) as client:
            with pytest.raises(ReadOnly):
                client.create("two", RECIPE, dim=DIM)
            with pytest.raises(ReadOnly):
                client.drop("one")
            assert client.describe("one")["documents"] == 3


def test_a_name_that_was_refused_becomes_no_label_of_a_metric(root: Path) -> None:
    with serving(root, metrics="127.0.0.1:0") as server, Client(server.listening) as client:
        with pytest.raises(NotFound):
            client.drop("made-up")
        with pytest.raises(BadRecipe):
            client.create("made-up", "dense(model='x')", dim=DIM)
        client.create("papers", RECIPE, dim=DIM)
        client.drop("papers")
        labels = {label for sample in scraped(server.metrics) for label in sample[1:]}
    assert "papers" in labels
    assert "made-up" not in labels


def test_without_a_folder_for_snapshots_there_is_none(root: Path) -> None:
    fill(root / "one", RECIPE, documents=3)
    with (
        serving(root) as server,
        Client(server.listening) as client,
        pytest.raises(ReadOnly, match="--snapshots"),
    ):
        client.snapshot()
    with pytest.raises(ColreduceError, match="no folder"), serving(root, snapshots=root / "none"):
        pass


def test_what_was_half_dropped_is_gone_after_the_next_start(root: Path) -> None:
    fill(root / ".dropped-papers-0011", RECIPE, documents=3)
    with serving(root) as server, Client(server.listening) as client:
        assert client.collections() == []
    assert list(root.iterdir()) == []


def test_a_search_says_how_long_each_stage_took_when_asked(client: Client) -> None:
    client.create("papers", "fp32 | mean | maxsim", dim=DIM)
    client.add(["a"], embeddings=[EYE[:4]])
    answer = client.answer(EYE[:2], k=1)
    assert [hit.id for hit in answer.hits] == ["a"]
    stages = ["read", "wait", "encode", "first_stage", "rerank", "total"]
    assert list(answer.seconds) == stages
    assert 0 < sum(answer.seconds[stage] for stage in stages[:-1]) <= answer.seconds["total"]


def test_a_replica_lets_go_of_a_collection_that_another_process_has_dropped(root: Path) -> None:
    fill(root / "papers", RECIPE, documents=3)
    fill(root / "notes", RECIPE, documents=3)
    query = unit_vectors(np.random.default_rng(0), 2)
    with (
        serving(root, read_only=True) as replica,
        Client(replica.listening, timeout=20) as client,
    ):
        assert client.search(query, collection="papers")
        Collections(root).drop("papers")
        until(lambda: [one.name for one in client.collections()] == ["notes"])
        with pytest.raises(NotFound, match="papers"):
            client.search(query, collection="papers")
        assert client.search(query, collection="notes")
        # With the same name another one can come.
        fill(root / "papers", RECIPE, documents=5)
        until(lambda: len(client.collections()) == 2)
        assert client.describe("papers")["documents"] == 5


def test_a_folder_that_is_away_for_a_moment_is_not_taken_for_a_dropped_one(root: Path) -> None:
    fill(root / "papers", RECIPE, documents=3)
    indexes = OpenIndexes(root, write=False)
    indexes.open()
    (root / "papers").rename(root / ".away")
    indexes.look()
    assert len(indexes.get("papers").index) == 3
    (root / ".away").rename(root / "papers")
    indexes.look()
    (root / "papers").rename(root / ".away")
    indexes.look()
    assert indexes.get("papers").ready
    indexes.look()
    with pytest.raises(NotFound):
        indexes.get("papers")
    indexes.close()


class SlowToLoad(Encoders):
    """Lends models when it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def lend(self, index: Index) -> None:
        if index.path.name == "slow":
            self.begun.set()
            assert self.go_on.wait(20)
        super().lend(index)


def test_while_a_model_is_loaded_collections_come_and_go(root: Path) -> None:
    encoders = SlowToLoad()
    indexes = OpenIndexes(root, encoders)
    indexes.open()
    fill(root / "slow", RECIPE, documents=3)
    looking = threading.Thread(target=indexes.look)
    looking.start()
    assert encoders.begun.wait(20)
    more: Any = {"encoder": None, "dim": DIM, "seed": 0}
    more |= {"store_texts": True, "store_assignment": None}
    made = indexes.create("quick", Recipe.parse(RECIPE), **more)
    assert made.ready
    assert indexes.drop("quick") == 0
    with pytest.raises(NotFound):
        indexes.get("slow")
    encoders.go_on.set()
    looking.join()
    assert indexes.get("slow").documents == 3
    assert [one.name for one in indexes.all()] == ["slow"]
    indexes.close()
