"""Says what the server holds; makes, maintains and removes collections."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from colreduce.errors import BadInput, BadRecipe, ReadOnly
from colreduce.recipe import Recipe
from colreduce.rpc import codec, limits
from colreduce.rpc.ledger import to_ledger
from colreduce.rpc.v1 import admin_pb2
from colreduce_service.call import Call
from colreduce_service.collection import Collection
from colreduce_service.open_indexes import OpenIndexes

DEFAULT_RECIPE = "balanced"


class AdminServicer:
    """Says what the server holds; makes, maintains and removes collections."""

    def __init__(self, indexes: OpenIndexes, snapshots: Path | None = None, seed: int = 0) -> None:
        """``snapshots`` is the folder in which copies are written."""
        self._indexes = indexes
        self._seed = seed
        self._snapshots = snapshots

    def ListCollections(
        self, request: admin_pb2.ListCollectionsRequest, call: Call
    ) -> admin_pb2.ListCollectionsResponse:
        """Return the collections, those that cannot be opened included."""
        entries = [self._entry(one) for one in self._indexes.all()]
        encoders = [_encoder(one.identity) for one in self._indexes.encoders.all()]
        return admin_pb2.ListCollectionsResponse(entries=entries, encoders=encoders)

    def Describe(
        self, request: admin_pb2.DescribeRequest, call: Call
    ) -> admin_pb2.DescribeResponse:
        """Return everything there is to know about one collection."""
        collection = self._indexes.asked(request.collection, call)
        facts = collection.describe()
        same = ("generation", "documents", "segments", "recipe", "dim", "seed", "versions")
        figures = ("tokens_per_doc", "vectors_per_doc", "raw_bytes_per_doc", "bytes")
        say = self._indexes.say
        return admin_pb2.DescribeResponse(
            name=collection.name,
            encoder=_encoder(facts["encoder"]) if facts["encoder"] else None,
            text_queries=collection.text_problem is None,
            text_queries_problem=say(collection.text_problem),
            writable=collection.write_problem is None,
            write_problem=say(collection.write_problem),
            ledger=to_ledger(facts.get("ledger")),
            notes_json=codec.to_json(facts["notes"]),
            **{name: facts[name] for name in (*same, *figures)},
        )

    def CreateCollection(
        self, request: admin_pb2.CreateCollectionRequest, call: Call
    ) -> admin_pb2.CreateCollectionResponse:
        """Make an empty collection."""
        if bool(request.encoder) == bool(request.dim):
            raise BadInput("wanted either an encoder or a dim", field="encoder")
        if request.dim:
            limits.check_count(request.dim, limits.DIM, "dim", "the width")
        encoders = self._indexes.encoders
        made = self._indexes.create(
            request.name,
            _recipe(request.recipe or DEFAULT_RECIPE),
            encoder=encoders.find(request.encoder) if request.encoder else None,
            dim=request.dim or None,
            seed=request.seed or self._seed,
            store_texts=not request.omit_texts,
            store_assignment=(
                request.store_assignment if request.HasField("store_assignment") else None
            ),
        )
        call.collection = made.name  # a name that was refused becomes no label of a metric
        return admin_pb2.CreateCollectionResponse(
            recipe=str(made.index.recipe), generation=made.index.generation
        )

    def Compact(self, request: admin_pb2.CompactRequest, call: Call) -> admin_pb2.CompactResponse:
        """Move all documents of a collection into one segment."""
        collection = self._indexes.asked(request.collection, call)
        generation, segments = collection.compact(purge=request.purge)
        return admin_pb2.CompactResponse(generation=generation, segments=segments)

    def Snapshot(
        self, request: admin_pb2.SnapshotRequest, call: Call
    ) -> admin_pb2.SnapshotResponse:
        """Write a complete copy of a collection into the server's folder."""
        collection = self._indexes.asked(request.collection, call)
        if self._snapshots is None:
            raise ReadOnly("this server has no folder for snapshots: start it with --snapshots DIR")
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        target = self._snapshots / f"{collection.name}-{stamp}-{secrets.token_hex(4)}.tar"
        generation = collection.snapshot(target)
        size = target.stat().st_size
        return admin_pb2.SnapshotResponse(name=target.name, generation=generation, bytes=size)

    def DropCollection(
        self, request: admin_pb2.DropCollectionRequest, call: Call
    ) -> admin_pb2.DropCollectionResponse:
        """Remove a collection with everything in it."""
        documents = self._indexes.drop(request.name)
        call.collection = request.name  # only now it is known to be one
        return admin_pb2.DropCollectionResponse(documents=documents)

    def _entry(self, one: Collection) -> admin_pb2.Collection:
        index = one.index if one.ready else None
        return admin_pb2.Collection(
            name=one.name,
            ready=one.ready,
            problem=self._indexes.say(one.problem),
            generation=one.generation if index is not None else 0,
            documents=one.documents if index is not None else 0,
            writable=one.write_problem is None,
            write_problem=self._indexes.say(one.write_problem),
        )


def _recipe(line: str) -> Recipe:
    """Read a recipe that somebody sent: nothing in it may name a file or a model."""
    limits.check_size(line, limits.RECIPE_BYTES, "recipe", "a recipe")
    if line.strip().endswith(".toml"):
        raise BadRecipe("a server reads no recipe files: send it as one line", field="recipe")
    try:
        recipe = Recipe.parse(line)
    except BadInput as error:
        error.field = "recipe"
        raise
    for _, method in recipe.methods:
        if "model" in method.parameters():
            raise BadRecipe(
                f"{method.name} loads a model by its name, which is not taken over the wire",
                field="recipe",
            )
    return recipe


def _encoder(identity: Mapping[str, Any]) -> admin_pb2.Encoder:
    return admin_pb2.Encoder(
        name=str(identity.get("name", "")),
        dim=int(identity.get("dim", 0)),
        sha256=str(identity.get("sha256", "")),
        identity_json=codec.to_json(identity),
    )
