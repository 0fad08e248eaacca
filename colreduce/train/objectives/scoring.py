"""How a query and a document are scored in training."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from colreduce.method import parameter
from colreduce.train.objectives.base import Encoded, Objective, Scoring

SAYS_SCALE = "one over the softmax's temperature; scores are means over a query's vectors"


@dataclass(frozen=True, kw_only=True)
class ColBert(Objective):
    """Teach plain late interaction: a query prefers its document to all others of the batch.

    The score is MaxSim divided by the number of the query's vectors, so that queries of all lengths
    pull alike.
    """

    name = "colbert"
    paper = "Khattab and Zaharia 2020, arXiv 2004.12832"
    when = "The baseline, and the start of every other objective."
    scale: float = parameter(20.0, SAYS_SCALE, above=0)

    def scoring(self) -> Scoring:
        """Return scaled MaxSim."""
        from sentence_transformers.multi_vector_encoder.scoring import mean_colbert_scores

        def scores(given: Encoded) -> Tensor:
            found: Tensor = mean_colbert_scores(
                given.queries, given.documents, given.queries_mask, given.documents_mask
            )
            return found * self.scale

        return scores


@dataclass(frozen=True, kw_only=True)
class Xtr(Objective):
    """Score by the tokens that token retrieval would find: the best of the whole batch.

    A document's token counts only where it is among the ``top`` nearest to a query's token, over
    all documents of the batch.
    """

    name = "xtr"
    paper = "Lee et al. 2023, arXiv 2304.01982"
    when = "A first stage that retrieves tokens, such as tokens or centroids, will search."
    top: int = parameter(256, "tokens of the batch that each query token retrieves", low=1)
    scale: float = parameter(20.0, SAYS_SCALE, above=0)

    def scoring(self) -> Scoring:
        """Return scaled XTR scores."""
        from sentence_transformers.multi_vector_encoder.scoring import xtr_scores

        def scores(given: Encoded) -> Tensor:
            found: Tensor = xtr_scores(
                given.queries,
                given.documents,
                given.queries_mask,
                given.documents_mask,
                top_k=self.top,
            )
            return found * self.scale

        return scores
