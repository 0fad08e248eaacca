"""What the index accepts, checked once, where data enters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from colreduce.errors import BadInput, ShapeMismatch
from colreduce.ragged import Ragged

MAX_DIM = 4096
MAX_DOCUMENT_TOKENS = 8192
MAX_QUERY_TOKENS = 512
MAX_ID_BYTES = 256
MAX_K = 1000
MAX_CANDIDATES = 10_000
MAX_NORM = 1e4


def check_ids(ids: Sequence[str]) -> None:
    """Ids are 1 to 256 bytes of text without control characters, each given once."""
    for place, one in enumerate(ids):
        if not isinstance(one, str):
            raise BadInput(f"ids[{place}] is {one!r}; wanted a string", field=f"ids[{place}]")
        if not 1 <= len(one.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES:
            raise BadInput(
                f"ids[{place}] {one[:40]!r} has {len(one.encode('utf-8', 'surrogatepass'))} bytes; "
                f"wanted 1 to {MAX_ID_BYTES}",
                field=f"ids[{place}]",
            )
        if not one.isprintable():
            raise BadInput(
                f"ids[{place}] {one[:40]!r} holds a character that cannot be printed",
                field=f"ids[{place}]",
            )
    if len(set(ids)) < len(ids):
        twice = next(one for one, count in Counter(ids).items() if count > 1)
        raise BadInput(f"the id {twice!r} is given twice in one call", field="ids")


def check_documents(batch: Ragged, dim: int, ids: Sequence[str]) -> None:
    """Documents have the index' width, at most 8,192 vectors, and no vector of zero length."""
    if batch.dim != dim:
        raise ShapeMismatch(
            f"this index takes {dim}-wide vectors; these are {batch.dim} wide. "
            "Encode documents with the model the index was built for.",
            field="embeddings",
        )
    longest = int(batch.lengths.argmax())
    if int(batch.lengths[longest]) > MAX_DOCUMENT_TOKENS:
        raise BadInput(
            f"document {ids[longest]!r} has {int(batch.lengths[longest])} vectors; "
            f"at most {MAX_DOCUMENT_TOKENS} are taken",
            field="embeddings",
        )
    _check_norms(batch.tokens, lambda row: f"document {ids[int(batch.item_of[row])]!r}")


def check_query(vectors: Any, dim: int) -> Tensor:
    """Return a query's vectors [q, d] as float32, or say what is wrong with them."""
    query = torch.as_tensor(vectors)
    if query.ndim != 2 or not len(query) or query.shape[1] != dim:
        raise ShapeMismatch(
            f"wanted query vectors [tokens, {dim}], got {list(query.shape)}. "
            "Encode queries with the model the index was built for.",
            field="query",
        )
    if len(query) > MAX_QUERY_TOKENS:
        raise BadInput(
            f"the query has {len(query)} vectors; at most {MAX_QUERY_TOKENS} are taken",
            field="query",
        )
    if query.requires_grad or query.dtype != torch.float32 or query.device.type != "cpu":
        query = query.detach().float().cpu()
    numbers = query.numpy()
    # By numpy, since torch lets other threads in with every small step.
    squares = np.einsum("td,td->t", numbers, numbers)
    if not (squares.min() > 0 and squares.max() <= 0.99 * MAX_NORM**2):  # as with NaN
        if not bool(torch.isfinite(query).all()):
            raise BadInput("the query holds a value that is not finite", field="query")
        _check_norms(query, lambda row: f"query vector {row}")
    return query


def check_number(value: Any, name: str, most: int) -> int:
    """Return ``value`` if it is a whole number from 1 to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise BadInput(f"{name}={value!r}; wanted a whole number from 1 to {most}", field=name)
    return value


def check_metadata(metadata: Sequence[Mapping[str, Any]] | None, count: int) -> None:
    """Metadata is one mapping per document."""
    if metadata is None:
        return
    if len(metadata) != count:
        raise BadInput(f"{len(metadata)} metadata entries for {count} documents", field="metadata")
    for place, entry in enumerate(metadata):
        if not isinstance(entry, Mapping):
            raise BadInput(
                f"metadata[{place}] is {type(entry).__name__}; wanted a mapping",
                field=f"metadata[{place}]",
            )


def _check_norms(vectors: Tensor, who: Callable[[int], str]) -> None:
    norms = vectors.float().norm(dim=1)
    if not len(norms):
        return
    least, most = (float(end) for end in norms.aminmax())
    if least > 0 and most <= MAX_NORM:
        return
    row = int(torch.nonzero(~((norms > 0) & (norms <= MAX_NORM))).flatten()[0])  # or NaN
    raise BadInput(
        f"{who(row)} has a vector of length {float(norms[row]):g}; "
        f"wanted more than 0 and at most {MAX_NORM:g}",
        field="vectors",
    )
