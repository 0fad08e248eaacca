"""The indexes that a server keeps open, by name: found in a folder, made and removed on request."""

from __future__ import annotations

import copy
import logging
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

from colreduce.choose import hint
from colreduce.embed import Encoder
from colreduce.errors import AlreadyExists, BadInput, Locked, NotAnIndex, NotFound, ReadOnly
from colreduce.index import Collections
from colreduce.index.collections import is_index
from colreduce.recipe import Recipe
from colreduce.rpc import limits
from colreduce.rpc.limits import NAME
from colreduce.store.sharding import is_sharded
from colreduce_service.call import Call
from colreduce_service.collection import Collection
from colreduce_service.cores import cores
from colreduce_service.encoders import Encoders
from colreduce_service.shards.collection import ShardedCollection
from colreduce_service.shards.reach import Reach

log = logging.getLogger(__name__)

# Seconds between two looks at the disk for newer generations.
LOOK_SECONDS = 1.0


class OpenIndexes:
    """One index, or every index in a folder, kept open and followed as they change."""

    def __init__(
        self,
        root: Path,
        encoders: Encoders | None = None,
        *,
        write: bool = True,
        reach: Reach | None = None,
    ) -> None:
        """With ``write`` this process is the writer of every index, where no other process is.

        reach  how the replicas of collections in shards are reached
        """
        if not root.is_dir():
            raise NotAnIndex(f"there is no folder {root}")
        self.root = root.resolve()
        self.encoders = encoders or Encoders()
        self._write = write
        self._reach = reach or Reach("", 1, cores())
        self._collections: dict[str, Collection] = {}
        self._folder: Collections | None = None  # None where the root is an index itself
        self._misnamed: list[str] = []  # folders whose name keeps them from being served
        self._missing: set[str] = set()  # collections whose folder was not there at the last look
        self._changing = threading.RLock()  # held while collections come and go
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._changed: Callable[[], None] = lambda: None

    def open(self) -> None:
        """Open what is there; raise when there is nothing that can be served.

        An empty folder is served by a server that writes: collections are made in it on request.
        """
        self.encoders.load()
        if is_index(self.root) or is_sharded(self.root):
            name = _proper_name(self.root.name)
            if name != self.root.name:
                log.info("%s is served under the name %s", self.root.name, name)
            self._collections = {name: self._opened(name, self.root)}
        else:
            self._folder = Collections(self.root)
            if self._write:
                self._folder.sweep()
            self._look_for_more(self._folder)
        if not self._collections and not (self._write and not any(self.root.iterdir())):
            named = f"; {self._misnamed[0]} would have to be renamed" if self._misnamed else ""
            raise NotAnIndex(f"{self.root} is no index, no folder of indexes, and not empty{named}")
        if self._collections and not any(one.ready for one in self.all()):
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

    def asked(self, name: str, call: Call) -> Collection:
        """Return the collection that a request is about, and note its name."""
        collection = self.get(name)
        call.collection = collection.name
        return collection

    def create(
        self,
        name: str,
        recipe: Recipe,
        *,
        encoder: Encoder | None,
        dim: int | None,
        seed: int,
        store_texts: bool,
        store_assignment: bool | None,
    ) -> Collection:
        """Make an empty collection."""
        limits.check_name(name, "name")
        folder = self._require_folder()
        with self._changing:
            if name in self._collections:
                raise AlreadyExists(f"there is a collection {name!r} already")
            folder.create(
                name,
                recipe=recipe,
                encoder=encoder,
                dim=dim,
                seed=seed,
                store_texts=store_texts,
                store_assignment=store_assignment,
            ).close()
            made = self._opened(name, self.root / name)
            self._collections = {**self._collections, name: made}
        self._changed()
        return made

    def drop(self, name: str) -> int:
        """Remove a collection with all it holds; return how many documents that were.

        One that another process writes to is kept: `Locked`.
        """
        limits.check_name(name, "name")
        folder = self._require_folder()
        with self._changing:
            collection = self.get(name)
            if collection.path.is_symlink():
                raise ReadOnly(f"{name} is a link to an index elsewhere: remove it by hand")
            if isinstance(collection, ShardedCollection):
                raise ReadOnly(f"{name} lies in shards: remove its folder by hand")
            if isinstance(collection.write_problem, Locked):
                raise copy.copy(collection.write_problem)
            documents = len(collection.index) if collection.ready else 0
            self._collections = {key: one for key, one in self._collections.items() if key != name}
            collection.close()
            try:
                folder.set_aside(name)
            except BaseException:
                self._look_for_more(folder)
                raise
        self._changed()
        folder.sweep()
        log.info("%s was dropped with %d documents", name, documents)
        return documents

    def watch(self, changed: Callable[[], None] = lambda: None) -> None:
        """Look for changes on disk every second in a thread of its own.

        ``changed`` is called when what can be read or written may have changed.
        """
        self._changed = changed
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
        if self._folder is not None:
            with self._changing:
                self._let_go()
            self._look_for_more(self._folder)

    def close(self) -> None:
        """Stop watching, write what waits, and let go of the files."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        for collection in self.all():
            collection.close()
        self._reach.close()
        self.encoders.close()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
                self._changed()
            except Exception:  # the next look may succeed; without this thread nothing would
                log.exception("looking for changes failed")

    def _opened(self, name: str, path: Path) -> Collection:
        def changed() -> None:
            self._changed()

        if is_sharded(path):
            reach = self._reach
            return ShardedCollection(
                name, path, self.encoders.lend, reach, remote=reach.remote, changed=changed
            )
        return Collection(name, path, self.encoders.lend, write=self._write, changed=changed)

    def _let_go(self) -> None:
        """Close collections that others have dropped: those that two looks in a row did not find.

        One look may fall between the moment when an index is taken away and the moment when another
        is put in its place.
        """
        missing = {one.name for one in self.all() if not os.path.lexists(one.path)}
        for name in missing & self._missing:
            collection = self._collections[name]
            self._collections = {key: one for key, one in self._collections.items() if key != name}
            collection.close()
            log.info("%s is gone: another process has dropped it", name)
        self._missing = missing

    def _look_for_more(self, folder: Collections) -> None:
        """Open what others have made. It may have to load a model, and nobody waits for that."""
        with self._changing:
            names = {*folder.names(), *_in_shards(self.root)} - set(self._collections)
            self._report_misnamed()
        for name in sorted(names):
            found = self._opened(name, self.root / name)
            with self._changing:
                known = name in self._collections
                if not known:
                    self._collections = {**self._collections, name: found}
            if known:
                found.close()

    def _report_misnamed(self) -> None:
        """Log once which indexes cannot be served, because no request could name them."""
        for path in sorted(self.root.iterdir()):
            served = NAME.fullmatch(path.name) or path.name.startswith(".")
            if served or path.name in self._misnamed or not (is_index(path) or is_sharded(path)):
                continue
            self._misnamed.append(path.name)
            log.warning(
                "%r is not served: a collection's name has small letters, digits, '_' and '-' "
                "only. Rename the folder, such as to %s.",
                path.name,
                _proper_name(path.name),
            )

    def _require_folder(self) -> Collections:
        if not self._write:
            raise ReadOnly("this server was started with --read-only")
        if self._folder is None:
            raise ReadOnly(
                "this server serves one index; one that is started on a folder of indexes makes "
                "and drops collections"
            )
        return self._folder


def _in_shards(root: Path) -> list[str]:
    """Return the names of the collections in a folder that lie in shards."""
    return [
        path.name
        for path in sorted(root.iterdir())
        if NAME.fullmatch(path.name) and is_sharded(path)
    ]


def _proper_name(name: str) -> str:
    """Make a folder's name into a collection's."""
    proper = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:64]
    return proper or "index"
