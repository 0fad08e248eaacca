"""The loss of training: what the objectives of a line ask for, of one encoding of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers.base.losses.merged_forward import embed_columns_padded
from sentence_transformers.util import stack_padded_token_embeddings
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from colreduce.train.objectives import About, Encoded, Objective
from colreduce.train.objectives.scoring import ColBert


class Lesson(nn.Module):
    """Tell each query's document from all others of the batch, and whatever else is asked.

    With ``colbert`` alone it is sentence-transformers' `MultiVectorMultipleNegativesRankingLoss`.
    Views of the batch are taught alike: the loss is the mean over them.

    model       a `MultiVectorEncoder`
    objectives  what is asked; the last one that says how to score counts
    about       the model that training starts from
    """

    def __init__(self, model: Any, objectives: Sequence[Objective], about: About) -> None:
        super().__init__()
        self.model = model
        self.objectives = list(objectives)
        given = [one.scoring() for one in objectives]
        self.score = next((one for one in reversed(given) if one), ColBert().scoring())
        self.terms = [term for one in objectives if (term := one.term(about)) is not None]

    def forward(
        self, sentence_features: Sequence[dict[str, Any]], labels: Tensor | None = None
    ) -> Tensor:
        """Return the loss of a batch: queries, their documents, and other documents."""
        whole = encoded(self.model, sentence_features)
        views = [whole, *(view for one in self.objectives for view in one.views(whole))]
        scores = [self.score(view) for view in views]
        count, others = whole.documents.shape[:2]
        right = torch.arange(count, device=scores[0].device) * others
        loss = torch.stack([cross_entropy(one, right) for one in scores]).mean()
        for term in self.terms:
            loss = loss + term(scores[0], sentence_features, self.model)
        return loss

    def get_config_dict(self) -> dict[str, str]:
        """Return what a model card says of the loss."""
        return {"objective": " | ".join(map(str, self.objectives))}


def encoded(model: Any, features: Sequence[dict[str, Any]]) -> Encoded:
    """Return the vectors of a batch: its first column holds queries, the others documents."""
    columns = [dict(column) for column in features]
    queries = model(columns[0], task=columns[0].get("task", "query"))
    documents = embed_columns_padded(model, columns[1:], task_default="document")
    stacked, mask = stack_padded_token_embeddings(*documents)
    return Encoded(queries["token_embeddings"], queries["attention_mask"].bool(), stacked, mask)
