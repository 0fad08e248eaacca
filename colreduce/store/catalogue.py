"""The catalogue: the live documents as SQLite tables, for people and for filters.

It is derived. The manifest and its segments are the truth, the catalogue is written after them and
made again whenever it does not fit. It is a witness, too: a catalogue that is ahead of the newest
manifest can only mean that a manifest was lost.

It says nothing of where a document lies, so compaction need not touch its rows. And it never waits
for the disk: what a power loss makes of it is noticed at the next open like any other damage.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from sqlite_utils import Database

from colreduce.errors import Damaged
from colreduce.store import fs, layout
from colreduce.store.segment import Segment
from colreduce.store.snapshot import Snapshot

log = logging.getLogger(__name__)
_VERSION = 2
_SCHEMA = """
CREATE TABLE meta (
    gen INTEGER NOT NULL, digest TEXT NOT NULL, format INTEGER NOT NULL, seal TEXT NOT NULL);
CREATE TABLE segments (
    name TEXT PRIMARY KEY, rows INTEGER, live INTEGER, info TEXT) WITHOUT ROWID;
CREATE TABLE docs (
    id TEXT PRIMARY KEY, seq INTEGER NOT NULL, n_tokens INTEGER, n_reduced INTEGER, meta TEXT)
    WITHOUT ROWID;
CREATE TABLE jobs (name TEXT PRIMARY KEY, state TEXT) WITHOUT ROWID;
"""
# Arrays of whole numbers, one per document, that are shown as columns.
_COUNTS = {"n_tokens": "original_lengths", "n_reduced": "lengths"}
_FETCHED = 10_000  # rows compared at a time


class Catalogue:
    """The one writing connection to ``catalogue.sqlite3``."""

    def __init__(self, root: Path) -> None:
        self.path = root / layout.CATALOGUE
        self._db: Database | None = None

    def attach(self, snapshot: Snapshot) -> None:
        """Open the catalogue and make it fit the snapshot; raise Damaged if it is ahead."""
        fits = False
        try:
            if self.path.exists() and not self.path.is_symlink():
                self._connect()
                gen, digest, version = self._meta()
                if version == _VERSION and gen > snapshot.generation:
                    raise Damaged(
                        f"{self.path} was written for generation {gen}, but the newest manifest is "
                        f"that of {snapshot.generation}: a manifest was lost. "
                        "Restore the index from a snapshot."
                    )
                told = (gen, digest, version)
                wanted = (snapshot.generation, snapshot.sha256, _VERSION)
                fits = told == wanted and self._shows(snapshot)
        except (sqlite3.Error, ValueError, TypeError) as problem:
            log.warning("%s cannot be used and is made again: %s", self.path, problem)
        if not fits:
            self.rebuild(snapshot)

    def rebuild(self, snapshot: Snapshot) -> None:
        """Make the catalogue again from the truth."""
        self.close()
        fs.unlink(self.path)
        fs.unlink(self.path.with_name(self.path.name + "-journal"))
        conn = self._connect()
        conn.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            conn.execute(statement)
        self._add_documents(conn, snapshot.segments)
        self._describe(conn, snapshot, snapshot.segments)
        conn.execute("COMMIT")

    def update(self, snapshot: Snapshot, before: Snapshot, added: Sequence[Segment]) -> None:
        """Follow one commit in one transaction."""
        conn = self._connect()
        conn.execute("BEGIN IMMEDIATE")
        try:
            removed = {s.name for s in before.segments} - {s.name for s in snapshot.segments}
            if not removed:  # or documents have only moved
                for segment in added:
                    docs = segment.data.records
                    ids = ((docs.id_bytes(gone).decode(),) for gone in range(docs.rows, docs.count))
                    conn.executemany("DELETE FROM docs WHERE id = ?", ids)
                self._add_documents(conn, added)
            self._describe(conn, snapshot, added)
            conn.executemany("DELETE FROM segments WHERE name = ?", [(n,) for n in removed])
            changed = set(snapshot.segments) - set(before.segments)  # by identity
            counts = [(segment.count, segment.name) for segment in changed]
            conn.executemany("UPDATE segments SET live = ? WHERE name = ?", counts)
            conn.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                conn.execute("ROLLBACK")
            raise

    def purge(self) -> None:
        """Rewrite the file so that no byte of a deleted row is left in it."""
        self._connect().execute("VACUUM")

    def close(self) -> None:
        """Close the connection."""
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()

    @staticmethod
    def _add_documents(conn: sqlite3.Connection, segments: Sequence[Segment]) -> None:
        columns = "id, seq, n_tokens, n_reduced, meta"
        for segment in segments:
            live = segment.live.nonzero()[0].tolist()
            conn.executemany(
                f"INSERT OR REPLACE INTO docs ({columns}) VALUES (?, ?, ?, ?, ?)",
                map(_RowMaker(segment), live),
            )

    @staticmethod
    def _describe(
        conn: sqlite3.Connection, snapshot: Snapshot, segments: Sequence[Segment]
    ) -> None:
        conn.executemany("INSERT INTO segments VALUES (?, ?, ?, ?)", map(_segment_row, segments))
        conn.execute("DELETE FROM jobs")
        conn.executemany("INSERT INTO jobs VALUES (?, ?)", _job_rows(snapshot))
        conn.execute("DELETE FROM meta")
        meta = (snapshot.generation, snapshot.sha256, _VERSION)
        conn.execute("INSERT INTO meta VALUES (?, ?, ?, ?)", (*meta, _seal(*meta)))

    def _connect(self) -> sqlite3.Connection:
        if self._db is None:
            conn = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
            self._db = Database(conn)
            for setting in (
                "busy_timeout = 5000",
                "journal_mode = TRUNCATE",
                "synchronous = OFF",
                "secure_delete = ON",
            ):
                conn.execute(f"PRAGMA {setting}")
        connection: sqlite3.Connection = self._db.conn
        return connection

    def _meta(self) -> tuple[int, str, int]:
        """Return what the catalogue says of itself, once its own seal shows that it is unharmed."""
        rows = self._connect().execute("SELECT gen, digest, format, seal FROM meta").fetchall()
        if len(rows) != 1:
            raise ValueError(f"meta has {len(rows)} rows")
        gen, digest, version, seal = rows[0]
        if seal != _seal(gen, digest, version):
            raise ValueError("meta does not fit its seal")
        return int(gen), str(digest), int(version)

    def _shows(self, snapshot: Snapshot) -> bool:
        """Compare every row with the truth; a checksum would not tell which one is right."""
        conn = self._connect()
        if conn.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
            return False
        shown = conn.execute("SELECT name, rows, live, info FROM segments").fetchall()
        if sorted(shown) != sorted(_segment_row(segment) for segment in snapshot.segments):
            return False
        if sorted(conn.execute("SELECT name, state FROM jobs")) != sorted(_job_rows(snapshot)):
            return False
        cursor = conn.execute("SELECT id, seq, n_tokens, n_reduced, meta FROM docs")
        truth = _Truth(snapshot)
        seen = 0  # ids are unique here, so as many right rows as there are documents are all
        while rows := cursor.fetchmany(_FETCHED):
            if not truth.holds(rows):
                return False
            seen += len(rows)
        return seen == snapshot.count


def _seal(gen: Any, digest: Any, version: Any) -> str:
    """Tell a generation that was written from one that a damaged byte makes up."""
    return hashlib.sha256(f"{gen} {digest} {version}".encode()).hexdigest()


def _segment_row(segment: Segment) -> tuple[Any, ...]:
    info = layout.to_json(dict(segment.info)).decode()
    return segment.name, segment.rows, segment.count, info


def _job_rows(snapshot: Snapshot) -> list[tuple[str, str]]:
    jobs = snapshot.manifest.notes.get("jobs")
    if not isinstance(jobs, dict):
        return []
    return [(name, layout.to_json(state).decode()) for name, state in jobs.items()]


class _RowMaker:
    """Makes (id, seq, n_tokens, n_reduced, metadata) of one row of a segment."""

    def __init__(self, segment: Segment) -> None:
        self._docs = segment.data.records
        self._seqs = self._docs.seqs.tolist()
        self._ends = self._docs.id_ends.tolist()
        self._counts = [_count_column(segment, name) for name in _COUNTS.values()]

    def __call__(self, row: int) -> tuple[Any, ...]:
        identifier = self._docs.ids[self._ends[row] : self._ends[row + 1]].decode()
        first, second = (None if column is None else column[row] for column in self._counts)
        metadata = self._docs.metadata_bytes(row).decode() or None
        return identifier, self._seqs[row], first, second, metadata


class _Truth:
    """Finds what the catalogue must show of a document by its seq, which no other document has."""

    def __init__(self, snapshot: Snapshot) -> None:
        live = [segment.live.nonzero()[0] for segment in snapshot.segments]
        parts = zip(snapshot.segments, live, strict=True)
        seqs = [segment.seqs[rows] for segment, rows in parts]
        self._makers = [_RowMaker(segment) for segment in snapshot.segments]
        joined = np.concatenate([np.empty(0, np.int64), *seqs])
        self._order = np.argsort(joined, kind="stable")
        self._seqs = joined[self._order]
        self._rows = np.concatenate([np.empty(0, np.int64), *live])
        self._numbers = np.repeat(np.arange(len(live)), [len(rows) for rows in live])

    def holds(self, shown: Sequence[tuple[Any, ...]]) -> bool:
        """Say whether every one of these rows is right."""
        if any(type(row[1]) is not int or not 0 <= row[1] < 1 << 62 for row in shown):
            return False
        seqs = np.array([row[1] for row in shown], np.int64)
        found = np.minimum(np.searchsorted(self._seqs, seqs), len(self._seqs) - 1)
        if not len(self._seqs) or bool((self._seqs[found] != seqs).any()):
            return False
        places = self._order[found]
        wanted = zip(self._numbers[places].tolist(), self._rows[places].tolist(), strict=True)
        return all(
            self._makers[number](row) == told
            for (number, row), told in zip(wanted, shown, strict=True)
        )


def _count_column(segment: Segment, name: str) -> list[int] | None:
    array = segment.arrays.get(name)
    fits = array is not None and array.ndim == 1 and array.dtype.kind in "iu"
    if array is None or not fits or len(array) != segment.rows:
        return None
    column: list[int] = array.tolist()
    return column
