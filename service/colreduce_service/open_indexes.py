"""The indexes that a server keeps open, by name, and the encoders that they share."""

from __future__ import annotations

import logging
import re
import threading
from pathlib import Path
from typing import Any

from colreduce.choose import hint
from colreduce.embed import Encoder, load_encoder
from colreduce.errors import BadInput, MissingDependency, ModelMismatch, NotAnIndex, NotFound
from colreduce.index import Index
from colreduce.rpc import limits
from colreduce_service.collection import Collection

log = logging.getLogger(__name__)

# Seconds between two looks at the disk for newer generations.
LOOK_SECONDS = 1.0

NO_ENCODER = "none"


class Encoders:
    """Models loaded once and lent to every index that was built with them."""

    def __init__(self, given: str | None) -> None:
        """``given`` is a model for all indexes, ``none``, or nothing: each index' own."""
        self._given = given
        self._loaded: dict[str, Encoder] = {}
        self._guard = threading.Lock()

    @property
    def names(self) -> list[str]:
        """Return the models that are loaded, each in one line."""
        return [encoder.describe() for encoder in self._loaded.values()]

    def load(self) -> None:
        """Load the model that was given, so that a wrong name is known at once."""
        if self._given not in (None, NO_ENCODER):
            self._keep(load_encoder(self._given))

    def lend(self, index: Index) -> None:
        """Give an index the model it was built with, loading it if need be, or raise why not."""
        if self._given == NO_ENCODER:
            raise BadInput("this server encodes no text: give vectors instead", field="query.text")
        wanted = index.describe()["encoder"]
        with self._guard:
            if self._given is not None:
                self._lend_given(index, wanted)
            elif wanted is None:
                raise BadInput(
                    "this collection was built from vectors, so it cannot encode text: "
                    "give vectors instead",
                    field="query.text",
                )
            elif wanted["sha256"] in self._loaded:
                index.use_encoder(self._loaded[wanted["sha256"]])
            else:
                self._keep(_own_encoder(index))

    def _keep(self, encoder: Encoder) -> None:
        encoder.queries(["The first text takes longer than others. This is the first text."])
        self._loaded[str(encoder.identity["sha256"])] = encoder

    def _lend_given(self, index: Index, wanted: dict[str, Any] | None) -> None:
        [encoder] = self._loaded.values()
        if wanted is None and encoder.dim != index.dim:
            raise ModelMismatch(
                f"the index holds vectors for {index.dim}-wide queries, and {encoder.describe()} "
                f"makes {encoder.dim}-wide ones"
            )
        index.use_encoder(encoder)


class OpenIndexes:
    """One index, or every index in a folder, kept open and followed as they change."""

    def __init__(self, root: Path, encoder: str | None = None) -> None:
        self.root = root.resolve()
        self.encoders = Encoders(encoder)
        self._collections: dict[str, Collection] = {}
        self._single = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Open what is there; raise when there is nothing that can be served."""
        if not self.root.is_dir():
            raise NotAnIndex(f"there is no folder {self.root}")
        self.encoders.load()
        self._single = _is_index(self.root)
        if self._single:
            name = _proper_name(self.root.name)
            self._collections = {name: Collection(name, self.root, self.encoders.lend)}
        else:
            self._look_for_more()
        if not self._collections:
            raise NotAnIndex(f"{self.root} is no index and no folder of indexes")
        if not any(one.ready for one in self.all()):
            raise self.all()[0].problem or NotAnIndex(str(self.root))

    def all(self) -> list[Collection]:
        """Return the collections in the order of their names."""
        found = self._collections
        return [found[name] for name in sorted(found)]

    def get(self, name: str) -> Collection:
        """Return a collection; with no name, the only one there is."""
        found = self._collections
        if not name:
            if len(found) == 1:
                return next(iter(found.values()))
            raise BadInput(
                f"this server has {len(found)} collections: name one.{hint('', found)}",
                field="collection",
            )
        if name in found:
            return found[name]
        limits.check_name(name)
        raise NotFound(f"there is no collection {name!r}.{hint(name, found)}")

    def watch(self) -> None:
        """Look for changes on disk every second, in a thread of its own."""
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def say(self, error: Exception | None) -> str:
        """Write an error the way that callers may read it: without where the indexes lie."""
        if error is None:
            return ""
        return str(error).replace(f"{self.root}/", "").replace(str(self.root), "the index")

    def look(self) -> None:
        """Look for changes on disk now."""
        for collection in self.all():
            collection.follow()
        if not self._single:
            self._look_for_more()

    def close(self) -> None:
        """Stop watching and let go of the files."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        for collection in self.all():
            collection.close()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception:  # the next look may succeed; without this thread nothing would
                log.exception("looking for changes failed")

    def _look_for_more(self) -> None:
        found = dict(self._collections)
        for path in sorted(self.root.iterdir()):
            if path.name in found or not _is_index(path):
                continue
            if limits.NAME.fullmatch(path.name) is None:
                log.debug("%s is an index, but its name cannot be a collection's", path)
                continue
            found[path.name] = Collection(path.name, path, self.encoders.lend)
        self._collections = found


def _own_encoder(index: Index) -> Encoder:
    try:
        return index.encoder
    except BadInput as error:  # the server's setting is at fault, and not the caller's input
        raise MissingDependency(
            f"this server cannot load the encoder of this collection, so give vectors: {error}"
        ) from error


def _is_index(path: Path) -> bool:
    """Say whether a folder is meant to be an index, whole or damaged."""
    return path.is_dir() and any(path.glob("manifest-*.json"))


def _proper_name(name: str) -> str:
    """Make a folder's name into a collection's."""
    proper = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:64]
    return proper or "index"
