"""Documents with everything that may be known of tokens, and every reducer to try on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from colreduce.method import State
from colreduce.ragged import Ragged
from colreduce.reduce import REDUCERS
from colreduce.reduce.base import Budgeted, Reducer

DIM = 16
VOCABULARY = {"the": 3, "of": 4, ",": 5, ".": 6, "wing": 7}

# These say how to read another parameter, or are tried wherever there are means.
NO_VARIANT = {"error_kind", "renormalise"}


def methods() -> Iterator[Reducer]:
    """Yield every row of the table as it is, and with each value of each parameter of choices."""
    for kind in REDUCERS.values():
        yield kind()
        for field in dataclasses.fields(kind):
            if field.name in NO_VARIANT:
                continue
            values = field.metadata.get("choices") or ()
            if isinstance(field.default, bool):
                values = (True, False)
            for value in values:
                if value != field.default:
                    yield kind.build({field.name: value})


METHODS = {str(method): method for method in methods()}
BUDGETED = {line: method for line, method in METHODS.items() if isinstance(method, Budgeted)}


def told(method: Reducer, **parameters: Any) -> Any:
    """Return the method with other parameters; those it does not have are left out."""
    known = {key: value for key, value in parameters.items() if hasattr(method, key)}
    return dataclasses.replace(method, **known)


def vectors(length: int, seed: int) -> Tensor:
    """Return unit vectors in clusters, all of them different."""
    draw = torch.Generator().manual_seed(97 * length + seed)
    centres = torch.randn(max(length // 5, 2), DIM, generator=draw)
    chosen = torch.randint(len(centres), (length,), generator=draw)
    near = centres[chosen] + 0.5 * torch.randn(length, DIM, generator=draw)
    return torch.nn.functional.normalize(near, dim=1)


def document(rows: Tensor, seed: int = 0, grid: tuple[int, int, int] = (0, 0, 0)) -> Ragged:
    """Return a document of these vectors with made-up metadata."""
    length = len(rows)
    draw = torch.Generator().manual_seed(31 * length + seed)
    breaks = torch.rand(length, generator=draw) < 0.6
    words = breaks.long().cumsum(0)
    words[0] = -1
    return Ragged(
        rows,
        torch.tensor([length]),
        token_ids=torch.randint(3, 20, (length,), generator=draw),
        word_ids=words,
        special=torch.arange(length) == 0,
        importance=torch.rand(length, generator=draw) + 0.01,
        grid=torch.tensor([grid]),
    )


def documents() -> Ragged:
    """Return documents of many lengths; one is a page, two repeat their tokens."""
    plain = [document(vectors(length, 1), 1) for length in (1, 2, 3, 8, 17, 65)]
    page = document(vectors(40, 2), 2, grid=(2, 6, 6))
    same = document(vectors(1, 3).expand(12, -1).clone(), 3)
    twice = document(vectors(20, 4).repeat(2, 1), 4)
    return Ragged.concat([*plain, page, same, twice])


def weighed(batch: Ragged) -> Ragged:
    """Return the documents as an earlier merge may have left them: vectors stand for 1 to 4."""
    draw = torch.Generator().manual_seed(8)
    weights = torch.randint(1, 5, (len(batch.tokens),), generator=draw).float()
    return dataclasses.replace(batch, weights=weights.to(batch.device))


def fitted(method: Reducer, batch: Ragged) -> State:
    """Return what the method learns from the documents."""
    return method.fit(batch, seed=0, vocabulary=VOCABULARY)


def shuffled(batch: Ragged, order: Tensor) -> Ragged:
    """Return one document with its tokens in another order, and what is known of them with it."""
    fields = {
        name: None if getattr(batch, name) is None else getattr(batch, name)[order]
        for name in ("token_ids", "word_ids", "special", "importance", "weights")
    }
    return Ragged(batch.tokens[order], torch.tensor([len(order)]), **fields)
