"""Why a recipe lost a relevant document: what each token of the query met in it, before and now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from colreduce.errors import ColreduceError
from colreduce.evaluate.beir import Qrels
from colreduce.evaluate.metrics import Run, measures, scored
from colreduce.evaluate.significance import SAME
from colreduce.pages.explanation import said
from colreduce.results import Match

if TYPE_CHECKING:
    from colreduce.index import Index

# How many ranks are looked at for metrics that have no cutoff.
USUAL_CUTOFF = 10

# Of how many queries the loss is explained, and by how many of their tokens.
QUERIES, TOKENS = 5, 4


@dataclass(frozen=True, slots=True)
class Share:
    """What a token of the query added to a document's score.

    token    its words
    met      the document's tokens that were merged into the vector that it met
    before   its share if nothing had been reduced; None when that is not known
    now      its share as the document is stored
    """

    token: str
    met: str
    before: float | None
    now: float


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a document scores less: the tokens whose shares fell most; ``note`` says why none."""

    id: str
    shares: Sequence[Share] = field(default_factory=list)
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Explained:
        """Make it again from what `to_dict` returned."""
        return cls(plain["id"], [Share(**one) for one in plain["shares"]], plain["note"])


def explain_worst(
    index: Index, qrels: Qrels, queries: Mapping[str, str | None], exact: Run, run: Run, metric: str
) -> dict[str, Explained]:
    """Explain the first document that was lost by each of the queries that lost most."""
    (_, before), (_, after) = (scored([metric], qrels, one) for one in (exact, run))
    found = {}
    for query in worse(before[metric], after[metric], QUERIES):
        text = queries[query]
        places = ranks(exact, query), ranks(run, query)
        lost = fallen(*places, qrels[query], cutoff_of(metric))
        if text is not None and lost:
            found[query] = _explained(index, text, lost[0])
    return found


def _explained(index: Index, text: str, one: str) -> Explained:
    try:
        told = index.explain(text, one)
    except ColreduceError as problem:
        return Explained(one, note=str(problem))
    shares = [
        Share(
            said(told, match.query_tokens, query=True),
            said(told, match.tokens) if match.tokens else f"vector {match.vector}",
            match.unreduced,
            match.share,
        )
        for match in sorted(told.matches, key=_fall, reverse=True)[:TOKENS]
    ]
    return Explained(one, shares)


def _fall(match: Match) -> float:
    """Return how much less a token adds now; where that is not known, how little it adds."""
    return -match.share if match.unreduced is None else match.unreduced - match.share


def worse(before: Mapping[str, float], after: Mapping[str, float], count: int) -> list[str]:
    """Return the queries that lost most, of equal losses the first by id."""
    gaps = sorted((after[query] - before[query], query) for query in before)
    return [query for gap, query in gaps[:count] if gap < -SAME]


def cutoff_of(metric: str) -> int:
    """Return how many ranks a metric looks at."""
    return int(measures([metric])[0].params.get("cutoff") or USUAL_CUTOFF)


def ranks(run: Run, query: str) -> dict[str, int]:
    """Return the rank of every document that was found for a query."""
    return {name: rank for rank, (name, _) in enumerate(run.get(query, []), start=1)}


def fallen(
    old: Mapping[str, int], new: Mapping[str, int], grades: Mapping[str, int], cutoff: int
) -> list[str]:
    """Return the relevant documents that were among the first and stand lower now."""
    return [
        name
        for name, rank in old.items()
        if rank <= cutoff and grades.get(name, 0) > 0 and not 0 < new.get(name, 0) <= rank
    ]
