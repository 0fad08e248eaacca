"""The mean of a document's vectors as a first stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from colreduce.candidates.base import Documents, Query
from colreduce.candidates.single import SingleVector
from colreduce.errors import ShapeMismatch
from colreduce.method import State, parameter
from colreduce.ragged import Ragged

# Lengths below this are those of vectors that cancel out.
LEAST = 1e-12


@dataclass(frozen=True, kw_only=True)
class Mean(SingleVector):
    """Compare the mean of a document's vectors with the mean of the query's.

    The smallest first stage there is: one vector as wide as a token. Merged vectors weigh as
    much as the tokens they stand for.
    """

    name = "mean"
    when = "The first to try; often as good as far larger encodings with models made for sentences."
    on_device = True
    on: str = parameter(
        "tokens",
        "which vectors are averaged: all tokens or the reduced",
        choices=("tokens", "reduced"),
    )

    def fit_vectors(self, sample: Documents, *, seed: int) -> State:
        """Remember the width, so that other vectors are refused."""
        batch = sample.tokens if self.on == "tokens" else sample.reduced
        return {"dim": torch.tensor([batch.dim])}

    def documents(self, documents: Documents, state: State) -> Iterator[Tensor]:
        """Yield the means in one block: it is no wider than a token."""
        yield _means(documents.tokens if self.on == "tokens" else documents.reduced, state)

    def queries(self, queries: Sequence[Query], state: State) -> Tensor:
        """Return the queries' means."""
        # By numpy: in torch, getting into such small steps costs as much as they do.
        sums = np.stack([query.vectors.numpy().sum(axis=0) for query in queries])
        _require_width(sums.shape[1], state)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        return torch.from_numpy(sums / np.maximum(norms, LEAST))


def _means(batch: Ragged, state: State) -> Tensor:
    """Return the direction of each item's mean: [n, d]; 0 when its vectors cancel out."""
    tokens = batch.tokens.float()
    if batch.weights is not None:
        tokens = tokens * batch.weights.float()[:, None]
    starts = batch.lengths.cumsum(0) - batch.lengths
    every = torch.arange(len(tokens), device=tokens.device)
    sums = torch.nn.functional.embedding_bag(every, tokens, starts, mode="sum")
    _require_width(batch.dim, state)
    return torch.nn.functional.normalize(sums, dim=1, eps=LEAST)


def _require_width(dim: int, state: State) -> None:
    wanted = int(state["dim"])
    if dim != wanted:
        raise ShapeMismatch(f"these vectors are {dim} wide; the first stage takes {wanted}")
