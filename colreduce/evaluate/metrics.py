"""Rankings, what they are worth, and TREC run files.

Metrics go by their ir-measures names (``nDCG@10``, ``R@100``, ``RR@10`` ...) and are computed by
ir-measures over graded judgements. Ties are settled here and not by the tool behind it: by score,
highest first, then by id. As in BEIR, a hit whose id is the query's own id does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from colreduce.errors import BadData, UnknownName
from colreduce.evaluate.beir import Qrels
from colreduce.evaluate.records import numbered_lines

METRICS = ("nDCG@10", "R@100", "RR@10")

# The hits of each query, best first.
Run: TypeAlias = dict[str, list[tuple[str, float]]]

# Values by metric and query.
Scores: TypeAlias = dict[str, dict[str, float]]


def measures(names: Sequence[str]) -> list[Any]:
    """Return the ir-measures objects of some names."""
    import ir_measures

    found = []
    for name in names:
        try:
            found.append(ir_measures.parse_measure(name))
        except (NameError, ValueError) as error:
            raise UnknownName(
                f"there is no metric {name!r}. Wanted a name of ir-measures, such as "
                f"{', '.join(METRICS)}, AP or P(rel=2)@5."
            ) from error
    return found


def ranked(query: str, hits: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Sort hits by score, then by id, and drop the query's own id."""
    kept = [(name, score) for name, score in hits if name != query]
    return sorted(kept, key=lambda hit: (-hit[1], hit[0]))


def scored(names: Sequence[str], qrels: Qrels, run: Run) -> tuple[dict[str, float], Scores]:
    """Return the mean of each metric over the judged queries, and its value for each of them.

    A judged query without hits counts as 0. The order of each list is taken as it is.
    """
    import ir_measures

    # Whole numbers that go down by one: the order that was settled here is the only one there is.
    places = {
        query: {name: float(len(hits) - place) for place, (name, _) in enumerate(hits)}
        for query, hits in run.items()
        if query in qrels
    }
    wanted = measures(names)
    found = ir_measures.calc(wanted, qrels, places)
    values = {one: dict.fromkeys(qrels, 0.0) for one in wanted}
    for one in found.per_query:
        values[one.measure][one.query_id] = float(one.value)
    named = list(zip(names, wanted, strict=True))
    means = {name: float(found.aggregated[one]) for name, one in named}
    return means, {name: values[one] for name, one in named}


def score_run(names: Sequence[str], qrels: Qrels, run: Run) -> dict[str, float]:
    """Return the mean of each metric over the judged queries."""
    return scored(names, qrels, run)[0]


def agreements(run: Run, exact: Run, k: int = 10) -> dict[str, float]:
    """Return the overlap of each query's top ``k`` with the top ``k`` of exact search.

    Queries to which exact search finds nothing are left out.
    """
    shares = {}
    for query, hits in exact.items():
        wanted = {name for name, _ in hits[:k]}
        if wanted:
            got = {name for name, _ in run.get(query, [])[:k]}
            shares[query] = len(wanted & got) / len(wanted)
    return shares


def agreement(run: Run, exact: Run, k: int = 10) -> float:
    """Return the mean overlap of the top ``k`` with the top ``k`` of exact search."""
    shares = agreements(run, exact, k)
    return sum(shares.values()) / len(shares) if shares else 1.0


def write_run(path: Path, runs: Sequence[tuple[str, Run]]) -> None:
    """Write rankings as a TREC run file, each under its tag.

    Columns are parted by tabs because ids may hold spaces. Tools of TREC's sort by score alone
    and break ties their own way; equal scores are therefore set apart by the smallest step of
    single precision.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for tag, run in runs:
            for query, hits in run.items():
                above = np.float32(np.inf)
                for place, (name, score) in enumerate(hits, start=1):
                    above = min(np.float32(score), np.nextafter(above, np.float32(-np.inf)))
                    file.write(f"{query}\tQ0\t{name}\t{place}\t{above:.9g}\t{tag}\n")


def read_runs(path: Path) -> dict[str, Run]:
    """Read a TREC run file: the rankings by tag.

    Columns stand between tabs, or between spaces in a line without tabs.
    """
    found: dict[str, Run] = {}
    for number, line in numbered_lines(path):
        columns = line.split("\t") if "\t" in line else line.split()
        if len(columns) != 6:
            raise BadData(f"{path} line {number}: wanted 6 columns, got {len(columns)}")
        try:
            score = float(columns[4])
        except ValueError as error:
            raise BadData(f"{path} line {number}: the score is not a number") from error
        run = found.setdefault(columns[5], {})
        run.setdefault(columns[0], []).append((columns[2], score))
    return {
        tag: {query: ranked("", hits) for query, hits in run.items()} for tag, run in found.items()
    }


def relative(values: Mapping[str, float], exact: Mapping[str, float]) -> dict[str, float]:
    """Return each value as a share of the exact one; 1 where both are 0."""
    shares = {}
    for name, value in values.items():
        base = exact[name]
        shares[name] = value / base if base else float(value == base)
    return shares
