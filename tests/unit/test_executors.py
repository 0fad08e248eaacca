"""Pieces made by other processes are the pieces that this one makes, whatever happens to them."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import socket
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colreduce_indexer.executors import (
    Executor,
    Inline,
    Job,
    Made,
    Processes,
    chosen,
    on_ray,
    processes,
)
from colreduce_indexer.executors.base import Brief, Maker, Work
from colreduce_indexer.job import Built, build
from colreduce_indexer.plan import Settings
from colreduce_indexer.progress import Meter, Silence
from colreduce_indexer.sources import open_source
from colreduce_indexer.stages import Window

from colreduce.errors import BadInput, ColreduceError, Damaged, ModelMismatch, Unavailable
from colreduce.index import Index
from colreduce.pipeline import Pipeline
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe
from colreduce.store import Store, Workshop, taken_along
from tests.hashing_encoder import HashingEncoder
from tests.service.tiers import note, size

RECIPE = Recipe.parse("pca(dim=8) | window(size=2) | pq(parts=4, bits=4) | mean | bm25 | rrf")
DOCUMENTS, PIECE = 100, 8
PIECES = -(-DOCUMENTS // PIECE)


class Killer(Silence):
    """Ends workers at random moments, and counts the pieces that were begun."""

    def __init__(self, kills: int, seed: int = 1) -> None:
        self.left = kills
        self.begun = 0
        self._draw = random.Random(seed)

    def event(self, kind: str, facts: Mapping[str, Any]) -> None:
        self.begun += kind == "piece begun"
        workers = multiprocessing.active_children()
        if kind == "piece begun" and self.left and workers:
            self.left -= 1
            victim = self._draw.choice(workers).pid
            assert victim is not None
            os.kill(victim, signal.SIGKILL)


class Twice:
    """Has every piece made twice by somebody else."""

    def __init__(self, inner: Executor) -> None:
        self.inner = inner
        self.made_pieces = 0

    def made(self, job: Job, stream: Iterable[Window], meter: Meter) -> Generator[Made, None, None]:
        def doubled() -> Iterator[Window]:
            held: list[Window] = []
            for window in stream:
                held.append(window)
                yield window
                if window.last:
                    yield from held
                    held = []

        for made in self.inner.made(job, doubled(), meter):
            self.made_pieces += 1
            yield made


class Deadly(HashingEncoder):
    """Ends the process that encodes one document, unless it is the one that runs the tests."""

    def __init__(self) -> None:
        super().__init__()
        self.home = os.getpid()

    def documents(self, texts: Iterable[str], batch_size: int = 32) -> Iterator[Ragged]:
        held = list(texts)
        if os.getpid() != self.home and any("word7 word7" in text for text in held):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().documents(held, batch_size)


class Broken(HashingEncoder):
    """Raises in every process but the one that runs the tests."""

    def __init__(self) -> None:
        super().__init__()
        self.home = os.getpid()

    def documents(self, texts: Iterable[str], batch_size: int = 32) -> Iterator[Ragged]:
        if os.getpid() != self.home:
            raise TypeError("the model is not whole")
        return super().documents(texts, batch_size)


def corpus(path: Path, tail: str = "") -> Path:
    draw = random.Random(1)
    words = [f"word{n}" for n in range(14)]
    lines = [
        {"_id": f"d{n}", "text": " ".join(draw.choices(words, k=draw.randint(3, 12))) + tail}
        for n in range(DOCUMENTS)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(
    path: Path,
    out: Path,
    executor: Executor | None,
    encoder: HashingEncoder | None = None,
    teller: Silence | None = None,
    **options: Any,
) -> Built:
    settings = Settings(**{"recipe": RECIPE, "batch_size": 4, "piece": PIECE, **options})
    return build(
        open_source(path, vectors=False),
        out,
        settings,
        encoder=encoder or HashingEncoder(),
        teller=teller or Silence(),
        executor=executor,
    )


def test_processes_make_the_same_bytes_and_the_same_ledger(tmp_path: Path):
    path = corpus(tmp_path / "docs.jsonl")
    alone = run(path, tmp_path / "alone", Inline(), keep_sample=True)
    killer = Killer(0)
    several = run(path, tmp_path / "several", Processes(2), teller=killer, keep_sample=True)
    assert killer.begun == PIECES
    assert several.digest == alone.digest
    for built in (alone, several):
        del built.description["ledger"]["seconds"]
    assert several.description["ledger"] == alone.description["ledger"]
    assert several.seconds["encode"] > 0
    assert multiprocessing.active_children() == []
    with Index.open(tmp_path / "several", encoder=HashingEncoder()) as index:
        assert len(index.search("word7", 5)) == 5


@pytest.mark.timeout(600)
def test_workers_that_die_and_pieces_that_are_made_twice_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = corpus(tmp_path / "docs.jsonl")
    alone = run(path, tmp_path / "alone", Inline(), ledger=False)
    kills = size(3, 20)
    monkeypatch.setattr(processes, "MOST_DEATHS", kills + 1)  # all may meet the same piece
    killer = Killer(kills)
    killed = run(path, tmp_path / "killed", Processes(2), teller=killer, ledger=False)
    twice = Twice(Processes(2))
    doubled = run(path, tmp_path / "doubled", twice, ledger=False)
    again = killer.begun - PIECES
    note("P21", "local workers", kills=kills, again=again, doubled=twice.made_pieces - PIECES)
    assert killer.left == max(kills - killer.begun, 0) == 0
    assert killed.digest == alone.digest
    assert 1 <= again <= kills + 2
    assert twice.made_pieces == 2 * PIECES
    assert doubled.digest == alone.digest
    assert list((tmp_path / "killed" / "segments").glob(".tmp*")) == []


def test_a_piece_that_ends_every_process_ends_the_build_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(processes, "MOST_DEATHS", 2)
    path = corpus(tmp_path / "docs.jsonl")
    with pytest.raises(ColreduceError, match="ended its process 2 times"):
        run(path, tmp_path / "idx", Processes(1), Deadly(), ledger=False)
    assert multiprocessing.active_children() == []
    assert run(path, tmp_path / "idx", None).description["documents"] == DOCUMENTS


def test_what_goes_wrong_in_a_worker_is_told_where_the_build_runs(tmp_path: Path):
    path = corpus(tmp_path / "docs.jsonl")
    with pytest.raises(ColreduceError, match="at piece 0: TypeError: the model is not whole"):
        run(path, tmp_path / "idx", Processes(1), Broken(), ledger=False)


def test_a_worker_with_other_libraries_or_another_model_makes_nothing(tmp_path: Path):
    config = {
        "recipe": Recipe.parse("window(size=2) | int8").to_dict(),
        "encoder": {"name": "other", "dim": 16},
        "dim": 16,
    }
    bench = Workshop(tmp_path)
    work = Work(config, Pipeline(Recipe.from_dict(config["recipe"])), None, 4, 8)
    brief = Brief.of(Job(work, HashingEncoder(), bench, tmp_path), "cpu")
    with pytest.raises(ModelMismatch, match="Vectors of two models"):
        Maker(replace(brief, encoder=Wider()), bench)
    with pytest.raises(ModelMismatch, match=r"torch 2.* instead of 0\.1"):
        Maker(replace(brief, versions={"torch": "0.1"}), bench)


class Wider(HashingEncoder):
    """Another model."""

    def __init__(self) -> None:
        super().__init__()
        self.identity = {"name": "other", "dim": 32}


def test_bytes_that_travel_are_held_against_their_seals(tmp_path: Path):
    with Store.prepare(tmp_path / "idx", {"dim": 3}) as store:
        store.staging.found({}, {})
        staging = store.staging
        (tmp_path / "elsewhere").mkdir()
        writer = Workshop(tmp_path / "elsewhere").begin()
        writer.add(["a", "b"])
        writer.append("numbers", np.arange(1 << 18, dtype=np.int64))
        sealed = writer.seal(0)
        files = taken_along(sealed.directory)
        assert list((tmp_path / "elsewhere").iterdir()) == []
        changed = {**files, "numbers.bin": files["numbers.bin"][::-1].copy()}
        for wrong in (changed, {**files, "more.bin": files["pack.bin"]}, {}):
            with pytest.raises(Damaged, match="a piece arrived damaged"):
                staging.receive(0, wrong, sealed.seal.sha256)
        assert staging.numbers() == []
        assert staging.receive(0, files, sealed.seal.sha256)
        assert not staging.receive(0, files, sealed.seal.sha256)
        assert staging.open(0, "full").rows == 2


def test_who_makes_the_pieces_is_chosen_by_numbers():
    assert isinstance(chosen(0, "", 0), Inline)
    two = chosen(2, "", 0)
    assert isinstance(two, Processes)
    assert two.workers == 2
    assert isinstance(chosen(2, "local", 0.5), on_ray.OnRay)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert isinstance(chosen(0, f"127.0.0.1:{port}", 0), on_ray.OnRay)
    with pytest.raises(Unavailable, match=r"no cluster of Ray can be joined at .*refused"):
        chosen(0, f"127.0.0.1:{port}", 0)
    with pytest.raises(BadInput, match="0 workers make nothing"):
        Processes(0)


def test_folders_of_actors_that_died_are_removed_when_they_are_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead, alive = 2**22 + 7, os.getpid()  # the first number is larger than any process has
    names = [
        f"colreduce-{dead}-{'a' * 16}",
        f"colreduce-{alive}-{'b' * 16}",
        "colreduce-x",
        "other",
    ]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / names[0] / "half made").write_text("x")
    young = on_ray._own_folder()
    assert {entry.name for entry in tmp_path.iterdir()} == {*names, young.name}
    for entry in tmp_path.iterdir():
        os.utime(entry, (0, 0))
    again = on_ray._own_folder()
    assert {entry.name for entry in tmp_path.iterdir()} == {*names[1:], young.name, again.name}
