"""Models of their own that some first stages encode texts with."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from colreduce.errors import BadInput, MissingDependency


@lru_cache(maxsize=4)
def load_model(kind: str, source: str) -> Any:
    """Load a sentence-transformers model once; ``kind`` is the class it is loaded with."""
    try:
        import sentence_transformers
    except ImportError as error:
        raise MissingDependency(
            "this first stage needs sentence-transformers. Run: pip install sentence-transformers"
        ) from error
    try:
        return getattr(sentence_transformers, kind)(source)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{source!r} cannot be loaded as a {kind}: {error}. "
            "Wanted a model folder or a hub id that can be reached.",
            field="model",
        ) from error
