"""Matryoshka: the front part of what a model gives must be good by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn.functional import normalize

from colreduce.method import parameter
from colreduce.train.objectives.base import Encoded, Objective, numbers


@dataclass(frozen=True, kw_only=True)
class Matryoshka(Objective):
    """Ask the same of the first dimensions of every vector, so that they can be cut.

    A recipe cuts them with ``truncate(dim=...)``.
    """

    name = "matryoshka"
    paper = "Kusupati et al. 2022, arXiv 2205.13147"
    when = "The width is to be chosen when an index is made."
    widths: str = parameter("64,128", "how many dimensions must do, between commas")

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers(self.widths, f"{self.name}(widths={self.widths!r})")

    def views(self, encoded: Encoded) -> list[Encoded]:
        """Return the batch at each width that is smaller than its own."""
        wide = encoded.queries.shape[-1]
        return [
            replace(
                encoded, queries=_cut(encoded.queries, one), documents=_cut(encoded.documents, one)
            )
            for one in numbers(self.widths, self.name)
            if one < wide
        ]


@dataclass(frozen=True, kw_only=True)
class Nested(Objective):
    """Ask the same of the first vectors of every document, so that the others can be left out.

    Made for models that give vectors in an order, as ``constant`` and ``attention`` do. A recipe
    leaves the others out with ``first(size=...)``.
    """

    name = "nested"
    paper = "MetaEmbed, arXiv 2509.18095"
    when = "The number of vectors is to be chosen when an index is made."
    sizes: str = parameter("4,16", "how many vectors of a document must do, between commas")

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers(self.sizes, f"{self.name}(sizes={self.sizes!r})")

    def views(self, encoded: Encoded) -> list[Encoded]:
        """Return the batch with each number of vectors that is smaller than its own."""
        most = encoded.documents.shape[2]
        return [
            replace(
                encoded,
                documents=encoded.documents[:, :, :one],
                documents_mask=encoded.documents_mask[:, :, :one],
            )
            for one in numbers(self.sizes, self.name)
            if one < most
        ]


def _cut(vectors: Tensor, width: int) -> Tensor:
    return normalize(vectors[..., :width], dim=-1)
