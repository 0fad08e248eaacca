"""One batch build: check the source, fit the recipe on a sample, add everything, publish.

The index appears with all documents or not at all: they are one commit of the store, and a build
that fails leaves no folder behind.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from colreduce.embed import Encoder
from colreduce.errors import AlreadyExists
from colreduce.evaluate.fidelity import LedgerMaker
from colreduce.evaluate.held_out import draw
from colreduce.index import Index
from colreduce.recipe import Recipe
from colreduce_indexer.sources import Checked, Chunk, Source

# The ledger ranks every document after every stage, which takes long where there are many.
MEASURED = 100_000

# What is being done, how much of it is done, and how much there is (0 when nobody knows yet).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Built:
    """What a build made, and the seconds that each stage took."""

    description: dict[str, Any]
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"format": 1, "index_seconds": self.seconds, **self.description}


def build(
    source: Source,
    out: Path,
    recipe: Recipe,
    *,
    encoder: Encoder | None,
    seed: int,
    store_texts: bool,
    store_assignment: bool | None = None,
    ledger: bool | None = None,
    progress: Progress,
) -> Built:
    """Build an index of a source in a new folder.

    ledger  measure what every stage loses; left out, where there are not too many documents
    """
    refuse_existing(out)
    started = perf_counter()
    checked = source.check(seed, lambda done: progress("read", done, 0))
    progress("read", checked.documents, checked.documents)
    taken = {"check": perf_counter() - started}
    made: dict[str, Any] = {"dim": checked.sample.dim} if encoder is None else {"encoder": encoder}
    existed = out.is_dir()
    try:
        index = Index.create(
            out,
            recipe=recipe,
            seed=seed,
            store_texts=store_texts,
            store_assignment=store_assignment,
            **made,
        )
        with index:
            started = perf_counter()
            index.fit(checked.sample, checked.texts)
            taken["fit"] = perf_counter() - started
            wanted = checked.documents <= MEASURED if ledger is None else ledger
            maker = _ledger_maker(index, checked, encoder, seed) if wanted else None
            taken |= _add_all(index, source, checked.documents, progress, maker)
            if maker is not None:
                taken["ledger"] = float(maker.finish(seed)["seconds"])
            described = index.describe()
    except BaseException:
        _remove(out, existed)
        raise
    return Built(described, taken)


def add_all(index: Index, source: Source, seed: int, progress: Progress) -> dict[str, float]:
    """Check a source, then add all of it to an index in one commit."""
    checked = source.check(seed, lambda done: progress("read", done, 0))
    return _add_all(index, source, checked.documents, progress)


def refuse_existing(out: Path) -> None:
    """Say so when something stands where the index should go."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise AlreadyExists(
            f"{out} is there already. Choose another --out, or remove it if it is not needed."
        )


def _ledger_maker(
    index: Index, checked: Checked, encoder: Encoder | None, seed: int
) -> LedgerMaker:
    """Draw queries from the sample; what watches the build measures on them."""
    return LedgerMaker(index, draw(checked.ids, checked.sample, checked.texts, encoder, seed))


def _add_all(
    index: Index,
    source: Source,
    documents: int,
    progress: Progress,
    maker: LedgerMaker | None = None,
) -> dict[str, float]:
    """Add every document in one commit; return the seconds by stage."""
    encoding = 0.0
    done = 0
    progress("index", 0, documents)
    watch = None if maker is None else maker.follow()
    with index.batch(watch) as batch:
        for chunk, took in _timed(source.chunks()):
            encoding += took
            batch.add(
                chunk.ids,
                chunk.texts,
                embeddings=chunk.vectors,
                metadata=chunk.metadata,
            )
            done += len(chunk.ids)
            progress("index", done, documents)
        started = perf_counter()
    if maker is not None and watch is not None:
        maker.take(watch.finish(), documents, watch.seconds)
    return {"encode": encoding, **batch.seconds, "publish": perf_counter() - started}


def _timed(chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, float]]:
    """Yield chunks with the seconds that reading and encoding them took."""
    while True:
        started = perf_counter()
        chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk, perf_counter() - started


def _remove(out: Path, existed: bool) -> None:
    """Remove what a failed build left; an empty folder that was there before stays."""
    if existed:
        for inside in out.iterdir():
            shutil.rmtree(inside) if inside.is_dir() else inside.unlink()
    elif out.exists():
        shutil.rmtree(out)
