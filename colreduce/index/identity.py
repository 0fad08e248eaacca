"""Which model and which libraries an index was made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from colreduce.embed import Encoder, reads_pages
from colreduce.errors import ModelMismatch
from colreduce.libraries import installed
from colreduce.recipe import Recipe

LIBRARIES = ("colreduce", "torch", "numpy", "sentence-transformers", "faiss-cpu", "faiss-gpu")


def check_identity(wanted: Mapping[str, Any] | None, encoder: Encoder) -> None:
    """The model that encodes must be the one whose vectors are stored."""
    if wanted is None:
        return
    given = encoder.identity
    differing = [
        key
        for key in ("sha256", "dim", "max_tokens", "prompts")
        if given.get(key) != wanted.get(key)
    ]
    if differing:
        raise ModelMismatch(
            f"this index was built with {wanted.get('name')}; the encoder given, "
            f"{given.get('name')}, differs in {', '.join(differing)}. "
            "Vectors of two models cannot be compared."
        )


def founding(
    recipe: Recipe,
    encoder: Encoder | None,
    *,
    store_assignment: bool | None,
    keep_sample: bool | None,
    store_pictures: bool | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Return what is fixed when an index is created: ``settings``, and what made it.

    Assignments and a sample of vectors are kept, if nobody says, where texts cannot be encoded
    again to find them out. Pages cannot; they have pictures that are kept.
    """
    paged = encoder is not None and reads_pages(encoder)
    kept = paged if store_pictures is None else store_pictures
    forgets = encoder is None or paged or not settings["store_texts"]
    return {
        "recipe": recipe.to_dict(),
        "recipe_line": str(recipe),
        "encoder": None if encoder is None else dict(encoder.identity),
        "encoder_source": getattr(encoder, "source", None),
        "store_assignment": forgets if store_assignment is None else store_assignment,
        "keep_sample": forgets if keep_sample is None else keep_sample,
        "versions": installed(LIBRARIES),
        **({"store_pictures": True} if kept else {}),
        **settings,
    }
