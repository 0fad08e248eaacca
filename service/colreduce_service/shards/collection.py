"""A collection of shards, with the face of a collection that lies in one index."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from colreduce.errors import ColreduceError, ReadOnly, Unavailable
from colreduce.index import Document, Hit, Index
from colreduce.results import Explanation
from colreduce.store import sharding
from colreduce.store.sharding import Sharding
from colreduce_service.call import Call
from colreduce_service.collection import Collection
from colreduce_service.encoders import SharedEncoder
from colreduce_service.shards.hub import Handle, Hub, Merged
from colreduce_service.shards.replica import Question

# Seconds that saying what all shards hold may take.
LOOK_SECONDS = 5.0

# Seconds that replicas have to start and to open their shards, and those of a shard that nobody
# answers for: on a busy cluster programs start slowly.
OPEN_SECONDS, OPEN_AT_MOST = 60.0, 300.0

# Makes the replicas of shards that lie in these folders.
Opener = Callable[[Sequence[Path]], list[list[Handle]]]


class _Shown:
    """One state of a collection; two are equal only if they are the same object."""

    def __init__(self, generation: int) -> None:
        self.generation = generation


class ShardedCollection(Collection):
    """Many indexes under one name. It is searched here, and changed shard by shard elsewhere.

    What is known of an index before it is searched (its recipe, its model, the width of its
    vectors) is read from the first shard; the rest is known to the replicas.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        lend: Callable[[Index], None],
        opener: Opener,
        *,
        remote: bool = False,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """``opener`` makes the replicas; ``remote`` says that they compute in other processes."""
        self._opener = opener
        self._remote = remote
        self._record: Sharding | None = None
        self._hub: Hub | None = None
        self._shown = _Shown(0)
        self._leaving: list[Hub] = []  # of earlier records; requests may still be with them
        super().__init__(name, path, lend, write=False, changed=changed)

    @property
    def ready(self) -> bool:
        """Say whether any shard of it can be searched."""
        hub = self._hub
        return super().ready and hub is not None and len(hub.silent) < len(hub.handles)

    @property
    def problem(self) -> ColreduceError | None:
        """Return what is wrong with it."""
        known = super().problem
        if known is None and self._hub is not None and self._hub.silent:
            silent = ", ".join(map(str, sorted(self._hub.silent)))
            return Unavailable(f"answers are partial: shard {silent} does not answer")
        return known

    @property
    def write_problem(self) -> ColreduceError | None:
        """Return why it cannot be changed here."""
        return self._closed or ReadOnly(
            "a collection of shards is changed shard by shard: by 'colreduce add' to a shard"
        )

    @property
    def generation(self) -> int:
        """Return a number that grows with every change of a shard, and with every new record."""
        hub, record = self._known()
        return record.base + sum(hub.generations)

    @property
    def documents(self) -> int:
        """Return how many documents the shards hold, as far as they have answered."""
        hub, _ = self._known()
        return sum(hub.documents)

    @property
    def shown(self) -> object:
        """Return something that is another object as soon as searches see a change."""
        if self._shown.generation != self.generation:
            self._shown = _Shown(self.generation)
        return self._shown

    def search(
        self,
        queries: Sequence[Any],
        k: int,
        *,
        candidates: int | None,
        exact: bool,
        filter: Mapping[str, Any] | str | None,
        call: Call,
    ) -> tuple[int, list[list[Hit]]]:
        """Ask all shards; where one does not answer, ``call.partial`` is set."""
        hub, record = self._known()
        with call.stage("encode"):
            encoded = self._encoded(queries, call)
        questions = [
            Question(vectors, text, k, candidates, exact, filter) for vectors, text in encoded
        ]
        with call.outside() if self._remote else nullcontext():
            merged: Merged = hub.answer(questions, call.deadline.left(), call.check)
        call.partial = bool(merged.missing)
        call.cost += merged.cost
        for stage, seconds in merged.seconds.items():
            call.spent(stage, seconds)
        return record.base + sum(hub.generations), merged.hits

    def get(self, ids: Sequence[str], pictures: bool = False) -> tuple[int, list[Document]]:
        """Return stored documents, each from the shard where it lies."""
        hub, record = self._known()
        by_shard: dict[int, list[str]] = {}
        for one in dict.fromkeys(ids):
            by_shard.setdefault(record.shard_of(one), []).append(one)
        found: dict[str, Document] = {}
        for shard, some in by_shard.items():
            told = hub.of_one(
                shard, "get", some, pictures, seconds=LOOK_SECONDS, check=lambda: None
            )
            found.update((document.id, document) for document in told)
        return record.base + sum(hub.generations), [found[one] for one in ids]

    def explain(self, query: Any, one: str, *, call: Call) -> tuple[int, Explanation]:
        """Say why a document has its score; the tokens of the query are not named."""
        hub, record = self._known()
        [(vectors, _)] = self._encoded([query], call)
        with call.stage("explain"):
            told: Explanation = hub.of_one(
                record.shard_of(one),
                "explain",
                vectors,
                one,
                seconds=call.deadline.left(),
                check=call.check,
            )
        call.cost += len(told.matches)
        return record.base + sum(hub.generations), told

    def describe(self) -> dict[str, Any]:
        """Return what all shards hold together."""
        hub, record = self._known()
        told: list[dict[str, Any]] = hub.of_all("describe", LOOK_SECONDS)
        documents = [one["documents"] for one in told]
        whole = max(sum(documents), 1)
        means = {
            name: sum(one[name] * count for one, count in zip(told, documents, strict=True)) / whole
            for name in ("tokens_per_doc", "vectors_per_doc", "raw_bytes_per_doc")
        }
        parts = {part for one in told for part in one["bytes"]}
        sizes = {part: sum(one["bytes"].get(part, 0) for one in told) for part in sorted(parts)}
        return {
            **told[0],
            **means,
            "path": str(self.path),
            "generation": record.base + sum(one["generation"] for one in told),
            "documents": sum(documents),
            "segments": sum(one["segments"] for one in told),
            "bytes": sizes,
            "ledger": None,
            "notes": {"shards": len(record.folders), "record": record.number},
        }

    def snapshot(self, target: Path) -> int:
        """Refuse: a copy holds one index."""
        raise ReadOnly(
            "a collection of shards is copied shard by shard: by 'colreduce snapshot' of a shard"
        )

    def close(self) -> None:
        """Let go of the replicas."""
        super().close()
        for hub in [*self._leaving, *([self._hub] if self._hub is not None else [])]:
            hub.close()

    def _known(self) -> tuple[Hub, Sharding]:
        self.index  # noqa: B018  (raises why there is none)
        assert self._hub is not None
        assert self._record is not None
        return self._hub, self._record

    def _encoded(self, queries: Sequence[Any], call: Call) -> list[tuple[Any, str | None]]:
        """Return every query's vectors, and its text where it came as one."""
        index = self.index
        texts = [query for query in queries if isinstance(query, str)]
        encoded: Any = iter(())
        if texts:
            encoder = index.encoder
            assert isinstance(encoder, SharedEncoder)
            with call.outside():
                encoded = iter(encoder.encode(texts, call.check))
        return [
            (_array(next(encoded)), query) if isinstance(query, str) else (_array(query), None)
            for query in queries
        ]

    def _open(self) -> None:
        """Open what the newest record says; a server that runs does so beside what it serves."""
        record = sharding.newest(self.path)
        folders = [self.path / name for name in record.folders]
        first = Index.open(folders[0], verify="sizes")
        self._textless = None
        try:
            self._lend(first)
        except ColreduceError as error:
            self._textless = error
        hub = Hub(self._opener(folders))
        hub.open(OPEN_SECONDS, OPEN_AT_MOST)
        if self._hub is not None:
            self._leaving.append(self._hub)
        found = os.stat(self.path)
        self._folder = found.st_dev, found.st_ino
        self._index, self._hub, self._record, self._closed = first, hub, record, None

    def _refresh(self, index: Index) -> None:
        """Follow the shards, replica by replica; a new record is opened beside the old one."""
        hub, record = self._known()
        for old in self._leaving:
            if old.idle:
                old.close()
        self._leaving = [old for old in self._leaving if not old.idle]
        if sharding.newest(self.path) != record:
            self._open()
        else:
            index.refresh()
            hub.refresh()


def _array(vectors: Any) -> Any:
    given = vectors if isinstance(vectors, torch.Tensor) else torch.as_tensor(vectors)
    return np.ascontiguousarray(given.detach().cpu().float().numpy())
