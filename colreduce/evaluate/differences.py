"""Which queries got worse, and which documents they lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from colreduce.evaluate.explained import Explained, cutoff_of, fallen, ranks, worse
from colreduce.evaluate.judged import Judged
from colreduce.evaluate.systems import Contest, System

# Characters of a text that are shown.
SHOWN = 400


@dataclass(frozen=True, slots=True)
class Moved:
    """A document with its places before and after; None where it was not among the hits."""

    id: str
    grade: int | None
    before: int | None
    after: int | None
    text: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class QueryDifference:
    """One query on which a system is worse than the baseline.

    lost     documents judged relevant that stand lower now, or no longer among the hits
    instead  documents that came into the first places and were not there before
    why      what the query's tokens met in the first of the lost documents; None where that was
             not found out, as for other systems' runs
    """

    dataset: str
    metric: str
    system: str
    baseline: str
    query: str
    text: str | None
    before: float
    after: float
    lost: Sequence[Moved] = field(default_factory=list)
    instead: Sequence[Moved] = field(default_factory=list)
    why: Explained | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {
            **values,
            "lost": [one.to_dict() for one in self.lost],
            "instead": [one.to_dict() for one in self.instead],
            "why": None if self.why is None else self.why.to_dict(),
        }


def worst_queries(
    contest: Contest,
    metric: str,
    count: int,
    explained: Mapping[str, Mapping[str, Explained]] | None = None,
) -> list[QueryDifference]:
    """Return, system by system, the queries that lost most of a metric against the baseline.

    Of queries that lost as much, the first by id is first.

    explained  for some systems, and some of their queries, why they lost a document
    """
    found = []
    for system in contest.systems[1:]:
        whys = (explained or {}).get(system.name, {})
        for query in worse(contest.baseline.scores[metric], system.scores[metric], count):
            one = _difference(contest, system, metric, query)
            why = whys.get(query)
            same = why is not None and bool(one.lost) and one.lost[0].id == why.id
            found.append(replace(one, why=why if same else None))
    return _with_texts(contest.judged, found)


def _difference(contest: Contest, system: System, metric: str, query: str) -> QueryDifference:
    baseline, judged = contest.baseline, contest.judged
    cutoff = cutoff_of(metric)
    old, new = ranks(baseline.run, query), ranks(system.run, query)
    grades = judged.qrels[query]

    def moved(name: str) -> Moved:
        return Moved(name, grades.get(name), old.get(name), new.get(name))

    far = len(judged.documents) + 1  # behind every rank
    lost = [moved(name) for name in fallen(old, new, grades, cutoff)]
    came = [name for name, rank in new.items() if rank <= cutoff and old.get(name, far) > cutoff]
    return QueryDifference(
        dataset=judged.name,
        metric=metric,
        system=system.name,
        baseline=baseline.name,
        query=query,
        text=judged.queries[query],
        before=baseline.scores[metric][query],
        after=system.scores[metric][query],
        lost=lost,
        instead=[moved(name) for name in came[:3]],
    )


def _with_texts(judged: Judged, found: Sequence[QueryDifference]) -> list[QueryDifference]:
    """Put in the beginnings of the documents' texts, which are read all at once."""
    texts = judged.texts(one.id for each in found for one in (*each.lost, *each.instead))

    def told(moves: Iterable[Moved]) -> list[Moved]:
        return [replace(one, text=texts.get(one.id, "")[:SHOWN]) for one in moves]

    return [replace(one, lost=told(one.lost), instead=told(one.instead)) for one in found]
