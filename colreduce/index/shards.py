"""One index split into several, each an ordinary index with what the methods learned of the whole.

The documents of every shard are moved as compaction moves them: nothing is encoded again, and every
shard scores a document as the whole index did.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from colreduce.errors import AlreadyExists, BadInput
from colreduce.index.index import Index
from colreduce.index.loading import learned
from colreduce.index.maintain import merge
from colreduce.index.search import View
from colreduce.store import Segment, Store, fs, sharding
from colreduce.store.creation import make_folders
from colreduce.store.recovery import remove
from colreduce.store.sharding import Sharding, shard_of

Told = Callable[[int], None]


def split(source: Path, target: Path, shards: int, told: Told = lambda shard: None) -> Sharding:
    """Split an index into shards in a folder; return the record that now shows them.

    Where the folder holds shards already, the new ones take their place: servers that run take them
    over, and the old ones stay until somebody removes them. ``told`` hears of every finished shard.
    """
    sharding.require_shards(shards)
    base = _base(target)
    make_folders(target)
    number = sharding.next_number(target)
    names = [sharding.folder_name(number, shard) for shard in range(shards)]
    with Index.open(source) as index:
        if not len(index):
            raise BadInput(f"{source} holds no documents that could be split", field="source")
        try:
            for shard, name in enumerate(names):
                _make(index.view, index.path, target / name, shard, shards)
                told(shard)
        except BaseException:
            for name in names:
                remove(target / name)
            raise
    return sharding.publish(target, names, number=number, base=base)


def total_generation(target: Path, known: Sharding) -> int:
    """Return one generation for all shards: it grows with every change of one and of the record."""
    found = 0
    for name in known.folders:
        with Index.open(target / name, verify="sizes") as index:
            found += index.generation
    return known.base + found


def _base(target: Path) -> int:
    """Return what the generations of the shards that are there come to."""
    if sharding.is_sharded(target):
        return total_generation(target, sharding.newest(target))
    if target.exists() and (not target.is_dir() or fs.list_entries(target)):
        raise AlreadyExists(f"{target} is not empty and holds no shards. Choose another folder.")
    return 0


def _make(view: View, source: Path, target: Path, shard: int, shards: int) -> None:
    """Make one shard of the documents whose ids belong there."""
    pieces = []
    for segment in view.snapshot.segments:
        mine = np.array([shard_of(one, shards) == shard for one in segment.ids], dtype=np.bool_)
        pieces.append(Segment(segment.data, segment.live & mine))
    config = {**view.snapshot.config, "shard": {"number": shard, "of": shards}}
    models = learned(view.pipeline)
    remove(target)
    with Store.prepare(target, config, models) as store:
        filled = [piece for piece in pieces if piece.count]
        if not filled:
            raise BadInput(
                f"shard {shard} of {shards} would hold no documents: make fewer shards",
                field="shards",
            )
        writer = store.gathered(filled, partial(merge, view))
        store.commit([writer], models=models)
