"""Vectors stored as the nearest centroid and a coarse difference from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from colreduce.codec.base import Codec, Codes
from colreduce.codec.bits import pack, packed_width, spread
from colreduce.codec.kmeans import kmeans, nearest
from colreduce.codec.scales import all_unit, radii, radius_bound
from colreduce.method import State, parameter
from colreduce.ragged import Ragged

# Centroid numbers are stored in two bytes.
MOST_CENTROIDS = 1 << 15


@dataclass(frozen=True, kw_only=True)
class Residual(Codec):
    """Store the number of the nearest centroid and 1, 2 or 4 bits per number for the rest.

    Centroids come from the corpus by k-means. What remains of each number is sorted into buckets
    that hold equally many numbers of a held-out sample. Decoded vectors are scaled to unit length
    when the corpus' vectors have it.
    """

    name = "residual"
    paper = "Santhanam et al. 2021, arXiv 2112.01488 (ColBERTv2)"
    when = "As ColBERTv2 indexes do it; put rotate before it, and compare with pq at equal bytes."
    bits: int = parameter(2, "bits per number", choices=(1, 2, 4), shown=True)
    centroids: int | None = parameter(
        None, "number of centroids; grows with the sample's square root", low=1, high=MOST_CENTROIDS
    )
    rounds: int = parameter(4, "rounds of k-means", low=0, high=100)

    def fit(self, sample: Ragged, *, seed: int) -> State:
        """Find the centroids, and the buckets on a twentieth of the tokens that they never saw."""
        tokens = sample.tokens.float()
        unit = all_unit(tokens)
        order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))
        held = tokens[order[: len(tokens) // 20].to(tokens.device)]
        seen = tokens[order[len(tokens) // 20 :].to(tokens.device)]
        count = self.centroids or 2 ** int(math.log2(16 * math.sqrt(len(tokens))))
        count = min(count, MOST_CENTROIDS, len(seen))
        centroids = kmeans(seen, count, seed=seed, rounds=self.rounds, spherical=unit)
        held = held if len(held) else tokens
        rest = (held - centroids[nearest(held, centroids)]).flatten().sort().values
        shares = torch.arange(2 * 2**self.bits + 1, dtype=torch.float64) / (2 * 2**self.bits)
        quantiles = rest[(shares[1:-1] * (len(rest) - 1)).round().long().to(rest.device)]
        return {
            "centroids": centroids.contiguous(),
            "cutoffs": quantiles[1::2].contiguous(),
            "weights": quantiles[0::2].contiguous(),
            "unit": torch.tensor(unit),
        }

    def encode(self, tokens: Tensor, state: State) -> Codes:
        """Look up the centroid, sort the differences into buckets, pack."""
        tokens = tokens.float()
        centroids = state["centroids"].to(tokens.device)
        owner = nearest(tokens, centroids)
        buckets = torch.bucketize(tokens - centroids[owner], state["cutoffs"].to(tokens.device))
        codes = {"centroids": owner.to(torch.int16), "tokens": pack(buckets, self.bits)}
        return {**codes, "errors": radii(tokens, self.decode(codes, state))}

    def decode(self, codes: Codes, state: State) -> Tensor:
        """Add each bucket's middle to the centroid; unit length again where it was."""
        stored = codes["tokens"]
        room = torch.empty(len(stored), state["centroids"].shape[1], device=stored.device)
        tokens = self._sums(codes, state, room)
        return normalize(tokens, dim=1, eps=1e-12) if bool(state["unit"]) else tokens

    def _multiply(
        self, codes: Codes, columns: Tensor, state: State, out: Tensor, room: Tensor
    ) -> None:
        """Scale the products, of which there are fewer than numbers."""
        tokens = self._sums(codes, state, room)
        torch.mm(tokens, columns, out=out)
        if bool(state["unit"]):
            out.div_(torch.linalg.vector_norm(tokens, dim=1, keepdim=True).clamp_min(1e-12))

    def _sums(self, codes: Codes, state: State, out: Tensor) -> Tensor:
        """Write the centroids and what is added to them into ``out`` [t, d] and return it."""
        centroids = state["centroids"].to(out.device)
        torch.index_select(centroids, 0, codes["centroids"].int(), out=out)
        weights = state["weights"].to(out.device)
        return out.add_(spread(codes["tokens"], self.bits, weights, out.shape[1]))

    def bytes_per_vector(self, dim: int) -> float:
        """Return 2 for the centroid, ``bits`` per number, and 1 for the error bound."""
        return 2.0 + packed_width(dim, self.bits) + 1.0

    def error_bound(self, query: Tensor, codes: Codes, state: State) -> float:
        """The distance of the worst vector from its original, stored with it."""
        return radius_bound(query, codes["errors"])
