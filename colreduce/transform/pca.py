"""Principal components of the token vectors."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.transform.base import Transform

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pca(Transform):
    """Keep the directions along which the corpus' tokens differ most, and drop the rest.

    Fitted without centring, so that products of vectors are approximated, not products of
    differences from a mean. Vectors that are no wider than ``dim`` pass unchanged, and so do all
    vectors of an index whose first documents have fewer than ``dim`` tokens to learn from.
    """

    name = "pca"
    paper = "Pearson 1901; the uncentred form is the truncated SVD of the token matrix"
    when = "First, whenever vectors are wider than 128: it is nearly free of loss."
    dim: int = parameter(128, "width to leave", low=1, shown=True)
    renormalise: bool = parameter(True, "scale the shortened vectors back to unit length")

    def fit(self, sample: Ragged, *, seed: int) -> State:
        """Find the leading right singular vectors of the sample."""
        if sample.dim <= self.dim:
            return {}
        if len(sample.tokens) < self.dim:
            logger.warning(
                "%s cannot be learned from %d tokens; vectors stay %d wide in this index. "
                "Build it from more documents at once to have them shortened.",
                self,
                len(sample.tokens),
                sample.dim,
            )
            return {}
        tokens = sample.tokens.double()
        _, vectors = torch.linalg.eigh(tokens.T @ tokens)
        axes = vectors.flip(1)[:, : self.dim]
        # An axis and its opposite are equally right: take the one whose largest entry is positive.
        signs = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
        return {"axes": (axes * signs).float().contiguous()}

    def apply(self, tokens: Tensor, state: State) -> Tensor:
        """Project onto the axes: [t, d] -> [t, dim]."""
        if "axes" not in state:
            return tokens.float()
        shorter = tokens.float() @ state["axes"].to(tokens.device)
        if not self.renormalise:
            return shorter
        return torch.nn.functional.normalize(shorter, dim=1, eps=1e-12)

    def width(self, dim: int) -> int:
        """Return ``dim`` or the width asked for, whichever is smaller."""
        return min(dim, self.dim)
