"""Drop the token whose loss the queries would notice least, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.errors import BadParameter
from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Selector
from colreduce.reduce.buckets import Bucket, buckets, device_room, scatter
from colreduce.reduce.products import products

# Similarities held at a time on a CPU.
CPU_ROOM = 1 << 24
SAME = 1e-6  # costs that differ by less are equal
SAMPLE = 256  # documents whose deletions decide about the threshold


@dataclass(frozen=True, kw_only=True)
class Voronoi(Selector):
    """Drop, one after the other, the token that sampled queries would miss least.

    A query vector loses the difference between its best and its second-best token when the best
    one goes. The mean of that over many query vectors is the MaxSim that a document is expected to
    lose. The query vectors are tokens of the corpus, or (``queries="sphere"``) drawn from all
    directions alike. With ``ranking="corpus"`` one threshold holds for all documents, found on a
    sample so that the budget is met on average: documents that repeat themselves shrink more.
    """

    name = "voronoi"
    paper = "Voronoi pruning, arXiv 2603.09933"
    when = "To let one threshold rule a whole corpus; coverage is faster and keeps more."
    queries: str = parameter(
        "tokens", "tokens of the corpus, or sphere", choices=("tokens", "sphere")
    )
    samples: int = parameter(2048, "query vectors", low=1)
    ranking: str = parameter(
        "document",
        "document: the budget holds for each; corpus: on average",
        choices=("document", "corpus"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ranking == "corpus" and (self.error is not None or self.average is not None):
            raise BadParameter(
                f"{self.name}(ranking=corpus) spreads factor, keep or size over the corpus by "
                "itself; error and average cannot be added."
            )

    def learn(self, sample: Ragged, *, seed: int, vocabulary: Mapping[str, int] | None) -> State:
        """Draw the query vectors, and find the threshold if there is one for all documents."""
        generator = torch.Generator().manual_seed(seed)
        if self.queries == "tokens":
            rows = torch.randperm(len(sample.tokens), generator=generator)[: self.samples]
            drawn = sample.tokens[rows.to(sample.device)].float()
        else:
            drawn = torch.randn(self.samples, sample.dim, generator=generator)
        state = {"queries": torch.nn.functional.normalize(drawn, dim=1)}
        if self.ranking == "corpus":
            some = torch.randperm(len(sample), generator=generator)[:SAMPLE].sort().values
            state["threshold"] = self._threshold(sample.take(some.to(sample.device)), state)
        return state

    def wanted(self, batch: Ragged, state: State) -> Tensor:
        """Return the budget; with a threshold, the least that may be left."""
        if self.ranking == "document":
            return super().wanted(batch, state)
        return torch.minimum(batch.lengths, torch.full_like(batch.lengths, self.protect + 1))

    def pick(self, batch: Ragged, sizes: Tensor, state: State) -> Tensor:
        """Mark what is left when enough was dropped, or when the next drop would cost too much."""
        kept = torch.ones(len(batch.tokens), dtype=torch.bool, device=batch.device)
        limit = float(state["threshold"]) if self.ranking == "corpus" else float("inf")
        for bucket, drops, _ in self._deletions(batch, sizes, state, limit):
            scatter(bucket, ~drops, kept)
        return kept

    def _threshold(self, sample: Ragged, state: State) -> Tensor:
        """Return the cost of a drop at which the sample as a whole comes down to its budget."""
        inner = sample.keep(sample.positions >= self.protect)
        some = inner.lengths > 0
        if not bool(some.any()):
            return torch.zeros(1)
        inner = Ragged(inner.tokens, inner.lengths[some])
        ones = torch.ones_like(inner.lengths)
        costs = torch.cat(
            [paid for _, _, paid in self._deletions(inner, ones, state, float("inf"))]
        )
        drops = int((sample.lengths - self.sizes(sample.lengths)).sum())
        if not drops:
            return torch.full((1,), -1.0)
        return costs.sort().values[min(drops, len(costs)) - 1 :][:1].cpu()

    def _deletions(
        self, batch: Ragged, sizes: Tensor, state: State, limit: float
    ) -> Iterator[tuple[Bucket, Tensor, Tensor]]:
        """Yield each bucket with the tokens to drop [b, l] and the highest cost up to each drop."""
        queries = state["queries"].to(batch.device)
        for whole in buckets(batch, sizes):
            room = CPU_ROOM if batch.device.type == "cpu" else device_room(batch.device)
            count = max(1, room // (len(queries) * whole.tokens.shape[1]))
            for start in range(0, len(whole.sizes), count):
                some = slice(start, start + count)
                bucket = Bucket(
                    whole.tokens[some],
                    whole.mask[some],
                    whole.rows[some],
                    whole.sizes[some],
                    whole.most,
                )
                # The vectors as they are, not scaled: a short vector costs less to lose.
                tokens = batch.tokens[bucket.rows].float()
                table = products(queries[None].expand(len(tokens), -1, -1), tokens)
                yield bucket, *_delete(table, bucket.mask, bucket.sizes, limit)


def _delete(table: Tensor, mask: Tensor, sizes: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Drop the cheapest token of each document until ``sizes`` are left or the cost is too high.

    Tokens that are no query's best cost nothing and go first, at once: none of them becomes a
    best by it.

    table [b, q, l]  similarities of query vectors and tokens
    Returns the tokens dropped [b, l], and the highest cost up to each drop.
    """
    alive = mask.clone()
    paid: list[Tensor] = []
    first, second, margin = _two_best(table, alive[:, None])
    costs = torch.zeros(mask.shape, dtype=torch.float64, device=table.device)
    costs.scatter_add_(1, first, margin)
    wins = torch.zeros_like(mask, dtype=torch.int64)
    wins.scatter_add_(1, first, torch.ones_like(first))
    dearest = torch.zeros(len(table), dtype=torch.float64, device=table.device)
    while True:
        goes, cost = _next_drops(alive, sizes, costs / table.shape[1], wins)
        goes &= (cost <= limit)[:, None]
        if not bool(goes.any()):
            return mask & ~alive, torch.cat(paid) if paid else dearest[:0]
        count = goes.sum(1)
        dearest = torch.where(count > 0, torch.maximum(dearest, cost), dearest)
        paid.append(dearest.repeat_interleave(count))
        alive &= ~goes
        hit = goes.gather(1, first) | goes.gather(1, second)
        document, query = torch.nonzero(hit, as_tuple=True)
        before = first[document, query]
        found = _two_best(table[document, query], alive[document])
        costs.index_put_((document, before), -margin[document, query], accumulate=True)
        costs.index_put_((document, found[0]), found[2], accumulate=True)
        ones = torch.ones_like(before)
        wins.index_put_((document, before), -ones, accumulate=True)
        wins.index_put_((document, found[0]), ones, accumulate=True)
        for old, new in zip((first, second, margin), found, strict=True):
            old[document, query] = new


def _next_drops(alive: Tensor, sizes: Tensor, costs: Tensor, wins: Tensor) -> tuple[Tensor, Tensor]:
    """Return what each document drops next [b, l], if it is too large, and at what cost [b]."""
    excess = (alive.sum(1) - sizes)[:, None]
    idle = alive & (wins == 0)
    some = idle.any(1)
    # Two tokens often cost the same but for rounding: each is the other's second best.
    whole = (costs / SAME).round().masked_fill_(~alive, torch.inf)
    cheapest = whole.argmin(1, keepdim=True)
    one = torch.zeros_like(alive).scatter_(1, cheapest, True)
    goes = torch.where(some[:, None], idle & (idle.cumsum(1) <= excess), one & (excess > 0))
    return goes, torch.where(some, 0.0, costs.gather(1, cheapest)[:, 0])


def _two_best(table: Tensor, alive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return where the largest and second largest living numbers of the last axis are, and how
    far apart they are: 0 where only one is left.
    """
    living = table.masked_fill(~alive, -torch.inf)
    best, first = living.max(-1)
    next_best, second = living.scatter_(-1, first[..., None], -torch.inf).max(-1)
    return first, second, (best - next_best).double().nan_to_num_(posinf=0.0)
