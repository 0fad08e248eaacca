"""Encoders: text or pages in, ragged batches of token vectors out."""

from __future__ import annotations

from typing import Any

from colreduce.embed.base import Encoder, PageEncoder, Piece, Reader, Reading, reads_pages

__all__ = [
    "Encoder",
    "PageEncoder",
    "Piece",
    "Reader",
    "Reading",
    "load_encoder",
    "reads_pages",
]


def load_encoder(model: Any, *, device: str = "auto", max_tokens: int | None = None) -> Encoder:
    """Load an encoder by folder or hub id, or wrap a loaded `MultiVectorEncoder`.

    Anything that has the functions of an `Encoder` is one, and is returned as it is.
    """
    if hasattr(model, "documents") and hasattr(model, "queries"):
        encoder: Encoder = model
        return encoder
    from colreduce.embed import sentence_transformer

    return sentence_transformer.load_encoder(model, device=device, max_tokens=max_tokens)
