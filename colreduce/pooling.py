"""Reduction inside a sentence-transformers model: a recipe's reducers as a token pooling module.

The module stands at the end of a multi-vector model's modules, or is handed to one call of
``encode``. It is saved with the model as its recipe line and loaded by its class path. As for
every module from outside sentence-transformers, loading takes ``trust_remote_code=True``.

What this module does not do: methods that learn from a corpus, for a model has none to learn
from, and methods that need to know more of a token than its vector.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from sentence_transformers.multi_vector_encoder.modules import BaseTokenPooling
from torch import Tensor

from colreduce.errors import BadInput, BadRecipe
from colreduce.ragged import Ragged
from colreduce.recipe import DEFAULTS, Recipe
from colreduce.reduce.base import Reducer

# Features that hold one value for each token that came in. They say nothing of vectors that stand
# for several, and whoever finds them there would pair them with the wrong ones.
OF_TOKENS = ("input_ids", "token_type_ids")


def token_pooling(recipe: str, *, tasks: str | list[str] | None = None) -> RecipePooling:
    """Return a recipe's reducers as a module for a sentence-transformers model.

    Put it at the end of a `MultiVectorEncoder`'s modules, or hand it to one call as
    ``encode_document(..., token_pooling=...)``. ``tasks`` names the tasks whose vectors are
    reduced: documents if nothing is said.
    """
    return RecipePooling(recipe, tasks=tasks)


class RecipePooling(BaseTokenPooling):  # type: ignore[misc]
    """Reduce documents with the reducers of a recipe, a whole batch at a time.

    Args:
        recipe: One or several reducers, such as ``"ward(factor=4)"`` or
            ``"dedupe | cover(keep=0.25)"``.
        tasks: The tasks whose vectors are reduced; documents if not given.
    """

    config_keys: ClassVar[list[str]] = ["recipe", "tasks"]

    def __init__(self, recipe: str, *, tasks: str | list[str] | None = None) -> None:
        super().__init__(tasks=tasks)
        self.reducers = _reducers(recipe)
        self.recipe = " | ".join(str(method) for method in self.reducers)

    def forward(self, features: dict[str, Tensor], task: str | None = None) -> dict[str, Tensor]:
        """Reduce padded vectors, and shorten their mask."""
        vectors = features["token_embeddings"]
        if not self.applies_to(task) or len(vectors) == 0:
            return features
        mask = features["attention_mask"].bool()
        return replaced(features, *self._reduce(Ragged(vectors[mask], mask.sum(1))).pad())

    def pool(
        self,
        embeddings: list[Tensor] | Tensor,
        *,
        task: str | None = None,
        attention_mask: Tensor | None = None,
        padding_side: str = "right",
    ) -> list[Tensor] | Tensor:
        """Reduce vectors that are encoded already, all documents at once."""
        if not self.applies_to(task) or len(embeddings) == 0:
            return embeddings
        if isinstance(embeddings, list):
            return self._reduce(Ragged.pack(embeddings)).unpack()
        # Padded input: the parent knows the rules of masks and sides, and calls `pool_one`.
        pooled: Tensor = super().pool(
            embeddings, task=task, attention_mask=attention_mask, padding_side=padding_side
        )
        return pooled

    def pool_one(self, embedding: Tensor, **kwargs: Any) -> Tensor:
        """Reduce one document: [t, d] to [m, d]."""
        if len(embedding) == 0:
            return embedding
        lengths = torch.tensor([len(embedding)], device=embedding.device)
        return self._reduce(Ragged(embedding, lengths)).tokens

    def _reduce(self, batch: Ragged) -> Ragged:
        for method in self.reducers:
            batch = method.reduce(batch, method.fit(batch, seed=0)).batch
        return batch


def replaced(features: dict[str, Any], vectors: Tensor, mask: Tensor) -> dict[str, Any]:
    """Put vectors and their mask in place of a text's tokens, of which nothing else is left."""
    for name in OF_TOKENS:
        features.pop(name, None)
    features["token_embeddings"], features["attention_mask"] = vectors, mask
    return features


def _reducers(recipe: str) -> tuple[Reducer, ...]:
    """Return the reducers of a recipe, or say why one of its methods cannot run in a model."""
    parsed = Recipe.parse(recipe)
    for stage, method in parsed.methods:
        if stage != "reduce" and str(method) != DEFAULTS.get(stage):
            raise BadRecipe(
                f"{method} is no reducer. Token pooling reduces; the other stages of a recipe "
                "belong to an index."
            )
    if not parsed.reducers:
        raise BadRecipe(f"{recipe!r} names no reducer, such as ward(factor=4)")
    for method in parsed.reducers:
        if method.needs:
            raise BadRecipe(
                f"{method} needs {' and '.join(method.needs)}; token pooling knows vectors only"
            )
        if _learns(method):
            raise BadRecipe(
                f"{method} learns from a corpus, and a model has none. Use it in an index, or "
                "with colreduce.reduced(...)."
            )
    return tuple(parsed.reducers)


def _learns(method: Reducer) -> bool:
    """Tell whether what a method learns depends on the documents it is shown."""
    if getattr(method, "average", None) is not None:
        return True
    shown = [
        Ragged(torch.eye(4)[rows], torch.tensor([2, 2])) for rows in ([0, 1, 2, 3], [3, 3, 1, 1])
    ]
    try:
        one, other = (method.fit(sample, seed=0) for sample in shown)
    except BadInput:  # it wants to see more than vectors
        return True
    return any(not torch.equal(value, other[name]) for name, value in one.items())
