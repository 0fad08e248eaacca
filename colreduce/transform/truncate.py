"""The leading numbers of vectors that were trained to be cut."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.transform.base import Transform


@dataclass(frozen=True, kw_only=True)
class Truncate(Transform):
    """Keep the leading numbers of every vector and drop the rest.

    Right for models trained so that their leading numbers stand for the whole (Matryoshka). For
    any other model ``pca`` keeps more at the same width. Vectors that are no wider than ``dim``
    pass unchanged.
    """

    name = "truncate"
    paper = "Kusupati et al. 2022, arXiv 2205.13147"
    when = "With a model whose card says that its vectors may be cut."
    dim: int = parameter(64, "width to leave", low=1, shown=True)
    renormalise: bool = parameter(True, "scale the shortened vectors back to unit length")

    def apply(self, tokens: Tensor, state: State) -> Tensor:
        """Cut: [t, d] -> [t, dim]."""
        if tokens.shape[1] <= self.dim:
            return tokens.float()
        shorter = tokens[:, : self.dim].float()
        if not self.renormalise:
            return shorter.contiguous()
        return torch.nn.functional.normalize(shorter, dim=1, eps=1e-12)

    def width(self, dim: int) -> int:
        """Return ``dim`` or the width asked for, whichever is smaller."""
        return min(dim, self.dim)
