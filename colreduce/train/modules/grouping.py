"""Means that pass gradients: a reducer chooses which tokens go together, the mean is recomputed.

A reducer's choice has no useful gradient, the mean of a group does. So the choice is made on a copy
without one, by the same code as in an index, and the vectors are the means of the chosen groups of
the encoder's own vectors. What the model learns is to give tokens that are put together one
direction, and one that serves queries (CRISP).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from sentence_transformers.multi_vector_encoder.modules import BaseTokenPooling
from torch import Tensor

from colreduce.pooling import RecipePooling, replaced
from colreduce.ragged import Ragged
from colreduce.reduce.merging import Groups, merge


class GroupMeans(BaseTokenPooling):  # type: ignore[misc]
    """Replace the groups that reducers choose by their means, in training as in use.

    Args:
        documents: One or several reducers, such as ``"kmeans(size=32)"``; None leaves documents.
        queries: The same for queries.
        renormalise: Scale the means back to unit length.
    """

    config_keys: ClassVar[list[str]] = ["documents", "queries", "renormalise"]

    def __init__(
        self,
        documents: str | None = None,
        queries: str | None = None,
        *,
        renormalise: bool = True,
    ) -> None:
        given = {"document": documents, "query": queries}
        super().__init__(tasks=[task for task, line in given.items() if line])
        self._choosers = {task: RecipePooling(line) for task, line in given.items() if line}
        self.documents = self._choosers["document"].recipe if documents else None
        self.queries = self._choosers["query"].recipe if queries else None
        self.renormalise = renormalise

    def forward(self, features: dict[str, Tensor], task: str | None = None) -> dict[str, Tensor]:
        """Replace padded vectors by the means of their groups, and shorten their mask."""
        vectors = features["token_embeddings"]
        if not self.applies_to(task) or len(vectors) == 0:
            return features
        mask = features["attention_mask"].bool()
        # In mixed precision, too, groups are those that an index would make.
        with torch.autocast(vectors.device.type, enabled=False):
            means = self._means(Ragged(vectors[mask], mask.sum(1)), task)
        return replaced(features, *means.pad())

    def pool_one(self, embedding: Tensor, **kwargs: Any) -> Tensor:
        """Return the means of one document: [t, d] to [m, d]."""
        lengths = torch.tensor([len(embedding)], device=embedding.device)
        return self._means(Ragged(embedding, lengths), "document").tokens

    def _means(self, batch: Ragged, task: str | None) -> Ragged:
        """Let the reducers choose without gradients, and average with them."""
        pooling = self._choosers[task or "document"]
        for reducer in pooling.reducers:
            with torch.no_grad():
                plain = batch.with_tokens(batch.tokens.detach())
                chosen = reducer.reduce(plain, reducer.fit(plain, seed=0))
            groups = Groups(chosen.assignment)
            batch = merge(batch, groups, renormalise=self.renormalise).batch
        return batch
