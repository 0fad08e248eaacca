"""What an index holds and what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np

from colreduce.index.build import (
    ASSIGNMENT,
    CODES,
    FIRST,
    GRID,
    LENGTHS,
    ORIGINAL,
    PICTURE_SIZES,
    PICTURES,
)
from colreduce.index.ledger import kept_ledger, ledger_bytes
from colreduce.index.sample import FILE as SAMPLE_FILE
from colreduce.index.search import View
from colreduce.index.stored import WHOLE
from colreduce.recipe import Recipe
from colreduce.store import Store


def describe(store: Store, view: View, recipe: Recipe) -> dict[str, Any]:
    """Return plain values that can be shown or sent."""
    snapshot = view.snapshot
    lengths = [np.asarray(segment.arrays[LENGTHS]) for segment in view.filled]
    original = [np.asarray(segment.arrays[ORIGINAL]) for segment in view.filled]
    rows = sum(len(part) for part in lengths)
    vectors = int(sum(part.sum() for part in lengths))
    tokens = int(sum(part.sum() for part in original))
    parts = bytes_by_part(store, view)
    config = dict(store.config)
    return {
        "path": str(store.path),
        "generation": snapshot.generation,
        "documents": snapshot.count,
        "segments": len(snapshot.segments),
        "recipe": str(recipe),
        "dim": config["dim"],
        "seed": config["seed"],
        "encoder": config["encoder"],
        "versions": config["versions"],
        "tokens_per_doc": tokens / rows if rows else 0.0,
        "vectors_per_doc": vectors / rows if rows else 0.0,
        "raw_bytes_per_doc": tokens * config["dim"] * 4 / rows if rows else 0.0,
        "bytes": parts,
        "bytes_per_doc": {name: size / rows if rows else 0.0 for name, size in parts.items()},
        "notes": dict(snapshot.notes),
        "ledger": kept_ledger(snapshot),
    }


def bytes_by_part(store: Store, view: View) -> dict[str, int]:
    """Add up the bytes on disk by what they are for.

    ``total`` is everything that a search needs. What is kept to be shown, or to measure quality
    again, is counted apart.
    """
    parts = dict.fromkeys(("vectors", "first_stage", "catalogue", "models"), 0)
    ledger = ledger_bytes(view.snapshot)
    apart = {"texts": 0, "assignment": 0, "pictures": 0, "sample": 0, "ledger": ledger}
    for segment in view.snapshot.segments:
        for name, size in segment.bytes.items():
            if name.startswith(FIRST):
                parts["first_stage"] += size
            elif name.startswith((ASSIGNMENT, GRID)):
                apart["assignment"] += size
            elif name.startswith((PICTURES, PICTURE_SIZES)):
                apart["pictures"] += size
            elif name == SAMPLE_FILE:
                apart["sample"] += size
            elif name.startswith((CODES, LENGTHS, WHOLE)):
                parts["vectors"] += size
            elif name.startswith("texts"):
                apart["texts"] += size
            else:
                parts["catalogue"] += size
    for file in store.path.glob("*"):
        if file.is_file() and file.name.startswith(("manifest", "catalogue")):
            parts["catalogue"] += file.stat().st_size
    for file in store.path.glob("models/**/*"):
        parts["models"] += file.stat().st_size if file.is_file() else 0
    parts["models"] -= ledger
    return {**parts, "total": sum(parts.values()), **apart}
