"""An index that is made piece by piece, and appears when all of it is there.

`Index.create` shows an empty index and then every commit. A long build has nothing to show before
its end, and much to lose on the way; so its pieces are kept one by one where nobody looks for an
index, whoever goes on with the build finds them, and one commit puts them together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from colreduce.device import CPU
from colreduce.embed import Encoder
from colreduce.index.build import Bench, SegmentBuilder, Watch
from colreduce.index.index import Index
from colreduce.index.loading import learned, places
from colreduce.index.maintain import merge
from colreduce.index.sample import Keeper
from colreduce.pipeline import Pipeline
from colreduce.store import Store, layout
from colreduce.store.manifest import generations
from colreduce.store.staging import Staging

# What the methods of the recipe learned stands among a build's arrays under this prefix.
LEARNED = "learned."


def piece_builder(
    bench: Bench, pipeline: Pipeline, config: Mapping[str, Any], first: int, watch: Watch | None
) -> SegmentBuilder:
    """Return what collects one piece; ``first`` is the number of its first document."""
    return SegmentBuilder(
        bench,
        pipeline,
        texts=config["store_texts"],
        assignment=config["store_assignment"],
        watch=watch,
        keeper=Keeper(first) if config.get("keep_sample") else None,
        pictures=bool(config.get("store_pictures")),
    )


class Making:
    """An index in the making, and the one process that makes it."""

    def __init__(self, store: Store, encoder: Encoder | None, device: str) -> None:
        """Use ``begin`` or ``resume``."""
        self._store = store
        self.index = Index(store, encoder, device)
        self.staging: Staging = store.staging

    @classmethod
    def begin(
        cls, path: Path, config: Mapping[str, Any], encoder: Encoder | None, device: str = CPU
    ) -> Making:
        """Begin in a new folder, or in one that holds an unfinished build and nothing else.

        Then the index is to be fitted, and `found` to be called.
        """
        return cls(Store.prepare(path, config), encoder, device)

    @classmethod
    def resume(
        cls, path: Path, record: Mapping[str, Any], encoder: Encoder | None, device: str = CPU
    ) -> Making:
        """Go on with a build whose record was written; its methods know what they learned.

        It may have shown its index already, and have been stopped before its end.
        """
        if generations(path):
            return cls(Store.open(path, write=True), encoder, device)
        names = [name for name in record["files"] if name.startswith(LEARNED)]
        staging = Staging(path, lambda: None)
        known = {name.removeprefix(LEARNED): staging.arrays(record, name) for name in names}
        return cls(Store.prepare(path, record["config"], known), encoder, device)

    def found(
        self, record: Mapping[str, Any], arrays: Mapping[str, Mapping[str, NDArray[Any]]]
    ) -> None:
        """Write down what is going to be built, once the methods have learned."""
        states = {LEARNED + key: state for key, state in learned(self.index.pipeline).items()}
        self.staging.found({**record, "config": self.config}, {**states, **arrays})

    @property
    def config(self) -> dict[str, Any]:
        """Return what is fixed in the index."""
        return dict(self._store.config)

    @property
    def bench(self) -> Bench:
        """Return where this process makes pieces."""
        return self._store

    @property
    def segments(self) -> Path:
        """Return the folder where other processes on this machine may make pieces."""
        return self._store.path / layout.SEGMENTS

    def publish(self, groups: Sequence[Sequence[int]], told: Callable[[int], None]) -> None:
        """Make one segment of each group of pieces, and show all of them at once."""
        writers = []
        done = 0
        try:
            for group in groups:
                pieces = [self.staging.open(number) for number in group]
                writers.append(self._store.gathered(pieces, partial(merge, self.index.view)))
                done += len(group)
                told(done)
        except BaseException:
            for writer in writers:
                writer.abort()
            raise
        pipeline = self.index.pipeline
        self._store.commit(writers, models=learned(pipeline), notes=places(pipeline))
        self.index.refresh()

    def close(self) -> None:
        """Let go of the folder; what was not founded leaves nothing behind."""
        if not self.index.generation:
            self._store.discard()
        self.index.close()

    def __enter__(self) -> Making:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        self.close()
