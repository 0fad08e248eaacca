"""MUVERA's fixed dimensional encodings as a first stage."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.candidates.base import Documents, Query
from colreduce.candidates.single import SingleVector
from colreduce.fde import FdeConfig, document_blocks, draw, encode_queries
from colreduce.method import State, parameter
from colreduce.ragged import Ragged

log = logging.getLogger(__name__)

# Tokens that are more alike than this crowd into few blocks unless they are centred first.
CROWDED = 0.5


@dataclass(frozen=True, kw_only=True)
class Fde(SingleVector):
    """Turn each document into one long vector whose product with a query's approximates MaxSim.

    Space is cut into 2**bits blocks by random planes, several times over. A document's vector
    holds the mean of its tokens in each block, a query's the sum. ``final_dim`` narrows the
    whole. With ``center`` the corpus' mean is taken off before tokens are assigned to blocks;
    ``auto`` does so when the tokens of the sample point the same way.
    """

    name = "fde"
    paper = "MUVERA: Dhulipala et al. 2024, arXiv 2405.19504"
    when = "Large collections, when nothing may be trained. Measure its recall first."
    on_device = True
    bits: int = parameter(5, "planes per partition: 2**bits blocks", low=0, high=12)
    repetitions: int = parameter(20, "independent partitions", low=1, high=1000)
    inner_dim: int = parameter(16, "width left of each block's vector", low=1)
    projection: str = parameter(
        "dense", "how blocks are narrowed", choices=("dense", "sparse", "none")
    )
    fill: bool = parameter(True, "lend the nearest token to a document's empty blocks")
    final_dim: int | None = parameter(None, "width of the whole vector; none leaves it", low=1)
    final: str = parameter(
        "count_sketch", "how the whole is narrowed", choices=("count_sketch", "dense")
    )
    center: str = parameter(
        "auto", "take the mean off before hashing", choices=("auto", "on", "off")
    )
    on: str = parameter(
        "tokens",
        "which vectors are encoded: all tokens or the reduced",
        choices=("tokens", "reduced"),
    )

    def fit_vectors(self, sample: Documents, *, seed: int) -> State:
        """Draw the planes and projections, and find out whether tokens must be centred."""
        batch = self._of(sample)
        return draw(self._config(batch.dim), seed, self._centre(batch))

    def documents(self, documents: Documents, state: State) -> Iterator[Tensor]:
        """Encode the documents; merged vectors weigh as much as the tokens they stand for."""
        batch = self._of(documents)
        return document_blocks(batch, self._config(int(state["planes"].shape[2])), state)

    def queries(self, queries: Sequence[Query], state: State) -> Tensor:
        """Encode the queries."""
        batch = Ragged.pack([query.vectors for query in queries])
        return encode_queries(batch, self._config(int(state["planes"].shape[2])), state)

    def _of(self, documents: Documents) -> Ragged:
        return documents.tokens if self.on == "tokens" else documents.reduced

    def _config(self, dim: int) -> FdeConfig:
        return FdeConfig(
            dim=dim,
            repetitions=self.repetitions,
            bits=self.bits,
            inner_dim=self.inner_dim,
            projection=self.projection,
            fill=self.fill,
            final_dim=self.final_dim,
            final=self.final,
        )

    def _centre(self, batch: Ragged) -> Tensor | None:
        """Return the mean token if tokens are to be centred."""
        if self.center == "off":
            return None
        units = torch.nn.functional.normalize(batch.tokens.float(), dim=1, eps=1e-12)
        # The mean cosine of all pairs is the squared length of the mean direction.
        alike = float(units.mean(0).square().sum())
        if self.center == "auto" and alike <= CROWDED:
            return None
        log.info("the tokens' mean cosine is %.2f: they are centred before they are hashed", alike)
        return batch.tokens.float().mean(0)
