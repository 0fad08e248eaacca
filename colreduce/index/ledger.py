"""The loss ledger as an index keeps it: plain values and arrays in one sealed file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.store import Snapshot

# Its key among the files that all segments share, and that of its plain values inside.
LEDGER, PLAIN = "ledger", "plain"


def packed(
    ledger: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> dict[str, Mapping[str, NDArray[Any]]]:
    """Return what `Index.note` takes to keep a ledger."""
    text = json.dumps(ledger, separators=(",", ":"), allow_nan=False)
    return {LEDGER: {PLAIN: np.frombuffer(text.encode(), np.uint8), **arrays}}


def kept_ledger(snapshot: Snapshot) -> dict[str, Any] | None:
    """Return the ledger of an index as plain values; None where none was made."""
    model = snapshot.models.get(LEDGER)
    return None if model is None else json.loads(model[PLAIN].tobytes())


def kept_arrays(snapshot: Snapshot) -> dict[str, NDArray[Any]]:
    """Return what was kept beside the ledger's plain values."""
    model = snapshot.models.get(LEDGER, {})
    return {name: array for name, array in model.items() if name != PLAIN}


def ledger_bytes(snapshot: Snapshot) -> int:
    """Return the size of the file."""
    entry = snapshot.manifest.models.get(LEDGER)
    return 0 if entry is None else entry.bytes
