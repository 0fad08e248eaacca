"""Taking the corpus' mean out of every vector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.transform.base import Transform

# Shorter than this, the difference from the mean is rounding and points nowhere.
POINTLESS = 1e-6


@dataclass(frozen=True, kw_only=True)
class Center(Transform):
    """Subtract the mean of the corpus' tokens from every vector of documents and queries.

    Token vectors of many models crowd into a narrow cone; without the mean they use the whole
    sphere, which helps hashing and coarse codecs. Products change: the scores are those of the
    centred vectors, so the order of documents can differ from the model's own. A vector equal to
    the mean is left as it is.
    """

    name = "center"
    paper = "Mu and Viswanath 2018, arXiv 1702.01417 (its first step)"
    when = "Before hashing (fde), when the mean cosine of two random tokens is high; compare first."
    renormalise: bool = parameter(True, "scale the differences back to unit length")

    def fit(self, sample: Ragged, *, seed: int) -> State:
        """Average the sample's tokens."""
        return {"mean": sample.tokens.double().mean(0).float()}

    def apply(self, tokens: Tensor, state: State) -> Tensor:
        """Subtract the mean: [t, d] -> [t, d]."""
        tokens = tokens.float()
        centred = tokens - state["mean"].to(tokens.device)
        lengths = centred.norm(dim=1, keepdim=True)
        if self.renormalise:
            centred = torch.nn.functional.normalize(centred, dim=1, eps=1e-12)
        return torch.where(lengths > POINTLESS, centred, tokens)
