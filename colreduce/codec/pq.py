"""Product quantisation: runs of numbers replaced by their nearest entry of a codebook."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding, normalize, pad

from colreduce.codec.base import Codec, Codes
from colreduce.codec.bits import (
    MANY_QUERIES,
    every_byte,
    pack,
    packed_width,
    table_products,
    unpack,
)
from colreduce.codec.kmeans import kmeans, nearest
from colreduce.codec.scales import all_unit, radii, radius_bound
from colreduce.errors import BadInput
from colreduce.method import State, parameter
from colreduce.ragged import Ragged

# Codebook entries are means of this many tokens; more do not make them better.
TOKENS_PER_ENTRY = 128


@dataclass(frozen=True, kw_only=True)
class Pq(Codec):
    """Cut every vector into parts and store for each part the nearest entry of a codebook.

    Codebooks come from the corpus by k-means, one for each part. A query is multiplied with the
    codebooks once; after that a product is one look-up per part. Decoded vectors are scaled to
    unit length when the corpus' vectors have it.
    """

    name = "pq"
    paper = "Jégou et al. 2011, doi 10.1109/TPAMI.2010.57"
    when = "For the fewest bytes: 16 or 32 a vector; behind pca, put rotate before it."
    parts: int = parameter(32, "parts of a vector", low=1, shown=True)
    bits: int = parameter(8, "bits per part", choices=(4, 8))
    rounds: int = parameter(10, "rounds of k-means", low=0, high=100)

    def fit(self, sample: Ragged, *, seed: int) -> State:
        """Learn one codebook for each part."""
        if self.parts > sample.dim:
            raise BadInput(
                f"{self} cuts vectors into {self.parts} parts, but they are {sample.dim} wide. "
                f"Set parts to {sample.dim} at most.",
                field="parts",
            )
        count = 2**self.bits
        order = torch.randperm(len(sample.tokens), generator=torch.Generator().manual_seed(seed))
        drawn = order[: count * TOKENS_PER_ENTRY].to(sample.device)
        parts = self._cut(sample.tokens[drawn].float())
        books = [
            kmeans(part.contiguous(), count, seed=seed + number, rounds=self.rounds)
            for number, part in enumerate(parts.unbind(1))
        ]
        return {
            # Entries that a small sample cannot fill are far out, where nothing is near them.
            "books": torch.stack(
                [pad(book, (0, 0, 0, count - len(book)), value=1e9) for book in books]
            ),
            "width": torch.tensor(sample.dim),
            "unit": torch.tensor(all_unit(sample.tokens)),
        }

    def encode(self, tokens: Tensor, state: State) -> Codes:
        """Look up the nearest entry for every part."""
        tokens = tokens.float()
        books = state["books"].to(tokens.device)
        pairs = zip(self._cut(tokens).unbind(1), books, strict=True)
        numbers = torch.stack([nearest(part, book) for part, book in pairs], 1)
        codes = {"tokens": pack(numbers, self.bits)}
        return {**codes, "errors": radii(tokens, self.decode(codes, state))}

    def decode(self, codes: Codes, state: State) -> Tensor:
        """Lay the entries side by side; unit length again where it was."""
        books = state["books"].to(codes["tokens"].device)
        numbers = unpack(codes["tokens"], self.bits, self.parts).int()
        first = torch.arange(self.parts, device=books.device, dtype=torch.int32) * books.shape[1]
        tokens = embedding(numbers + first, books.flatten(0, 1)).flatten(1)
        tokens = tokens[:, : int(state["width"])]
        return normalize(tokens, dim=1, eps=1e-12) if bool(state["unit"]) else tokens.contiguous()

    def similarities(self, query: Tensor, codes: Codes, state: State) -> Tensor:
        """Add up one table entry per byte: [q, t]."""
        if len(query) > MANY_QUERIES:
            return super().similarities(query, codes, state)
        books = state["books"].to(query.device)
        products = torch.einsum("qps,pes->peq", self._cut(query.float()), books)
        if not bool(state["unit"]):
            return table_products(codes["tokens"], self._by_byte(products)).T
        # One more column adds up the squares, so that the vector's length comes along.
        squares = books.square().sum(2, keepdim=True)
        tables = self._by_byte(torch.cat([products, squares], 2))
        sums = table_products(codes["tokens"], tables)
        return (sums[:, :-1] / sums[:, -1:].sqrt().clamp_min(1e-12)).T

    def bytes_per_vector(self, dim: int) -> float:
        """Return ``bits`` per part, and 1 for the error bound."""
        return packed_width(self.parts, self.bits) + 1.0

    def error_bound(self, query: Tensor, codes: Codes, state: State) -> float:
        """The distance of the worst vector from its original, stored with it."""
        return radius_bound(query, codes["errors"])

    def _cut(self, rows: Tensor) -> Tensor:
        """Cut rows into parts: [t, d] -> [t, parts, d / parts], 0 at the end."""
        wide = -(-rows.shape[1] // self.parts)
        return pad(rows, (0, wide * self.parts - rows.shape[1])).view(len(rows), self.parts, wide)

    def _by_byte(self, tables: Tensor) -> Tensor:
        """Join the tables of parts that share a byte: [parts, 2**bits, q] -> [bytes, 256, q]."""
        if self.bits == 8:
            return tables
        pairs = pad(tables, (0, 0, 0, 0, 0, self.parts % 2))
        low, high = unpack(every_byte(tables.device), 4, 2).long().unbind(1)
        return pairs[0::2][:, low] + pairs[1::2][:, high]
