"""Reducers: a ragged batch in, a smaller ragged batch out."""

from __future__ import annotations

from colreduce.reduce.base import Reducer
from colreduce.reduce.ward import Ward
from colreduce.reduce.window import Window

REDUCERS: dict[str, type[Reducer]] = {
    "ward": Ward,
    "window": Window,
}
