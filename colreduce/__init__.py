"""colreduce: a retrieval index for multi-vector embeddings that says what it lost.

Nothing heavy is imported until a name is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colreduce.embed import load_encoder as load_encoder
    from colreduce.errors import ColreduceError as ColreduceError
    from colreduce.index import Collections as Collections
    from colreduce.index import Index as Index
    from colreduce.pipeline import reduced as reduced
    from colreduce.pooling import token_pooling as token_pooling
    from colreduce.ragged import Ragged as Ragged
    from colreduce.recipe import Recipe as Recipe
    from colreduce.results import Hit as Hit
    from colreduce.rpc.aio import AsyncClient as AsyncClient
    from colreduce.rpc.client import Client as Client

_HOMES = {
    "AsyncClient": "colreduce.rpc.aio",
    "Client": "colreduce.rpc.client",
    "Collections": "colreduce.index",
    "ColreduceError": "colreduce.errors",
    "Hit": "colreduce.results",
    "Index": "colreduce.index",
    "Ragged": "colreduce.ragged",
    "Recipe": "colreduce.recipe",
    "load_encoder": "colreduce.embed",
    "reduced": "colreduce.pipeline",
    "token_pooling": "colreduce.pooling",
}

__all__ = [
    "AsyncClient",
    "Client",
    "Collections",
    "ColreduceError",
    "Hit",
    "Index",
    "Ragged",
    "Recipe",
    "load_encoder",
    "reduced",
    "token_pooling",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'colreduce' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
