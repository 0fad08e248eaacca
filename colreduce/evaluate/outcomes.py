"""Outcomes of evaluations, kept by the content of all that they depend on.

The key of an outcome is a sha256 of the texts, judgements and vectors, of the encoder's identity,
of the recipe, the seed and the metrics, of the machine and its libraries, and of the code of this
package itself. What has the same key was measured the same way; anything else is measured anew.

A file is one line of JSON with the sha256 of the rest, then the rest, packed. A file that is not
whole is as good as none.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from colreduce.evaluate.explained import Explained
from colreduce.evaluate.machine import code_digest, machine
from colreduce.evaluate.metrics import Run
from colreduce.evaluate.rows import Row

FORMAT = 1
ENDING = ".outcome"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One recipe on one collection: the row, the rankings behind it, and exact search's.

    explained  why some queries lost a document
    """

    row: Row
    run: Run
    exact: Run
    machine: Mapping[str, Any]
    explained: Mapping[str, Explained] = field(default_factory=dict)


def outcome_key(**depends: Any) -> str:
    """Return the sha256 of what an outcome depends on, of this machine and of this code."""
    known = {"format": FORMAT, "code": code_digest(), "machine": machine(), **depends}
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()


class OutcomeCache:
    """A folder of outcomes; None for one that keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def find(self, key: str) -> Outcome | None:
        """Return what was kept under a key; None if it is not there or not whole."""
        values = self.values(key)
        if values is None:
            return None
        try:
            row = replace(Row.from_dict(values["row"]), cached=True)
            told = {one: Explained.from_dict(why) for one, why in values["explained"].items()}
            runs = _run(values["run"]), _run(values["exact"])
            return Outcome(row, *runs, values["machine"], told)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def keep(self, key: str, outcome: Outcome) -> None:
        """Write an outcome under its key."""
        self.keep_values(
            key,
            {
                "row": outcome.row.to_dict(),
                "run": outcome.run,
                "exact": outcome.exact,
                "machine": dict(outcome.machine),
                "explained": {one: why.to_dict() for one, why in outcome.explained.items()},
            },
        )

    def values(self, key: str) -> dict[str, Any] | None:
        """Return the plain values kept under a key."""
        if self._folder is None:
            return None
        try:
            raw = (self._folder / f"{key}{ENDING}").read_bytes()
            head, _, body = raw.partition(b"\n")
            if json.loads(head) != _head(body):
                return None
            found: dict[str, Any] = json.loads(gzip.decompress(body))
        except (OSError, ValueError, EOFError, zlib.error):
            return None
        return found

    def keep_values(self, key: str, values: Mapping[str, Any]) -> None:
        """Write plain values under a key, whole or not at all."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        body = gzip.compress(json.dumps(values, allow_nan=False).encode(), 3, mtime=0)
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".tmp-", delete=False) as file:
            file.write(json.dumps(_head(body)).encode() + b"\n" + body)
        os.replace(file.name, self._folder / f"{key}{ENDING}")


def _head(body: bytes) -> dict[str, Any]:
    return {"format": FORMAT, "sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}


def _run(values: Mapping[str, Any]) -> Run:
    return {
        query: [(str(name), float(score)) for name, score in hits] for query, hits in values.items()
    }
