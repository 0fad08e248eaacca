"""Snapshots and pieces in object storage, and what is said when that does not work."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

pytest.importorskip("fsspec")

from colreduce_indexer.exchange import Exchange, Left, leave
from colreduce_indexer.executors import chosen
from colreduce_indexer.executors.base import Made, Order
from colreduce_indexer.executors.on_ray import MOST_LOST, Crew

from colreduce import Index
from colreduce.cli import main
from colreduce.errors import (
    AlreadyExists,
    BadData,
    BadInput,
    ColreduceError,
    Damaged,
    MissingDependency,
    NotFound,
    Unavailable,
)
from colreduce.objects import Objects, is_url

DIM = 8


@pytest.fixture(params=["file", "memory"])
def url(request, tmp_path):
    """Two kinds of storage that fsspec brings along."""
    return f"file://{tmp_path}/store" if request.param == "file" else f"memory://{tmp_path.name}"


@pytest.fixture
def index(tmp_path):
    draw = torch.Generator().manual_seed(0)
    documents = [torch.nn.functional.normalize(torch.randn(5, DIM, generator=draw), dim=1)] * 3
    with Index.create(tmp_path / "idx", recipe="int8 | mean | maxsim", dim=DIM) as made:
        made.add(["a", "b", "c"], embeddings=documents)
        yield made


@pytest.mark.parametrize(
    ("place", "wanted"),
    [("s3://bucket/x", True), ("file:///x", True), ("idx.tar", False), ("/x://y", False)],
)
def test_urls_are_told_from_files(place, wanted):
    assert is_url(place) is wanted


def test_a_snapshot_in_object_storage_is_restored_whole(index, tmp_path, url):
    assert index.snapshot(f"{url}/monday.tar") == index.generation
    with Index.restore(f"{url}/monday.tar", tmp_path / "again") as again:
        assert len(again) == 3
        assert again.view.snapshot.digest == index.view.snapshot.digest


def test_a_snapshot_takes_no_name_that_is_taken(index, url):
    index.snapshot(f"{url}/monday.tar")
    with pytest.raises(AlreadyExists, match=r"monday\.tar exists"):
        index.snapshot(f"{url}/monday.tar")


def test_a_snapshot_that_was_harmed_in_storage_is_refused(index, tmp_path, url):
    index.snapshot(f"{url}/monday.tar")
    objects = Objects(url)
    data = bytearray(objects.get("monday.tar"))
    data[len(data) // 2] ^= 1
    objects.remove("monday.tar")
    objects.put("monday.tar", data)
    with pytest.raises((Damaged, BadData)):
        Index.restore(f"{url}/monday.tar", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_the_commands_take_urls(index, tmp_path, url):
    runner, target = CliRunner(), f"{url}/tuesday.tar"
    done = runner.invoke(main, ["snapshot", str(index.path), target, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert (told["file"], told["bytes"]) == (target, Objects(target).size())
    done = runner.invoke(main, ["restore", target, str(tmp_path / "again")])
    assert done.exit_code == 0, done.output
    assert "3 documents" in done.output
    done = runner.invoke(main, ["restore", f"{url}/no.tar", str(tmp_path / "more")])
    assert done.exit_code != 0
    assert "there is nothing at" in done.output


def test_what_cannot_be_reached_says_why(monkeypatch, tmp_path):
    with pytest.raises(BadInput, match="Protocol not known: nowhere"):
        Objects("nowhere://x")
    with pytest.raises(NotFound, match="there is nothing at memory://none/here"):
        Objects("memory://none").get("here")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable, match="cannot be used"):
        Objects(f"file://{tmp_path}/file").put("below", b"x")
    real = builtins.__import__

    def without(name, *rest):
        if name == "fsspec":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency, match=r"colreduce\[storage\]"):
        Objects("memory://x")


def test_a_piece_goes_through_the_exchange_and_nothing_is_left(url):
    exchange = Exchange(url)
    files = {"segment.json": np.frombuffer(b"{}", np.uint8), "pack.bin": np.arange(9, dtype="u1")}
    one, other = (leave(exchange.url, 3, files) for _ in range(2))
    assert one != other  # two may make the same piece
    for left in (one, other):
        found = exchange.take(left)
        assert {name: bytes(data) for name, data in found.items()} == {
            name: bytes(data) for name, data in files.items()
        }
    exchange.drop(one)
    with pytest.raises(NotFound):
        exchange.take(one)
    assert len(exchange.take(other)) == 2
    exchange.close()
    assert not Objects(exchange.url).exists()


def test_a_piece_that_is_gone_from_the_exchange_is_made_again_but_not_for_ever(url):
    crew = Crew(None, None, [], None, Exchange(url))
    made, order = Made(3, None, "", None, left=Left("gone", ("pack.bin",))), Order(3, [])
    for _ in range(MOST_LOST - 1):
        assert crew._fetched(made, order) is None
        assert crew._again.pop() is order
    with pytest.raises(ColreduceError, match="piece 3 was lost"):
        crew._fetched(made, order)


def test_an_exchange_without_a_cluster_is_refused():
    with pytest.raises(BadInput, match="give --ray"):
        chosen(2, "", 0.0, exchange="memory://x")
