"""Runs that other systems made, read from TREC run files and measured beside our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from colreduce.errors import BadData, BadInput, UnknownName
from colreduce.evaluate.judged import Judged
from colreduce.evaluate.metrics import Run, agreement, ranked, read_runs, relative
from colreduce.evaluate.statistics import Interval, bootstrap_columns, bootstrap_ratio
from colreduce.evaluate.systems import Contest


@dataclass(frozen=True, slots=True)
class External:
    """A run of one system on one collection, under its tag."""

    dataset: str
    name: str
    file: str
    run: Run


@dataclass(frozen=True, slots=True)
class RunRow:
    """What a run is worth.

    unanswered  judged queries that are not in the run; they count as 0
    relative, agreement  against exact search, where an encoder was given
    """

    dataset: str
    split: str
    run: str
    file: str
    queries: int
    unanswered: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]
    relative: Mapping[str, float]
    relative_intervals: Mapping[str, Interval]
    agreement: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``evaluate --json`` writes them."""
        return asdict(self)


def read_external(given: Sequence[str | Path], judged: Sequence[Judged]) -> list[External]:
    """Read run files: ``FILE``, or ``DATASET=FILE`` where there are several collections."""
    found: list[External] = []
    for one in given:
        collection, path = _assigned(str(one), judged)
        for tag, run in read_runs(path).items():
            answered = {query: hits for query, hits in run.items() if query in collection.qrels}
            if not answered:
                raise BadData(
                    f"{path}: the run {tag!r} answers none of the {len(collection.qrels)} judged "
                    f"queries of {collection.name}; is it a run of another collection?"
                )
            hits = {query: ranked(query, hits) for query, hits in answered.items()}
            found.append(External(collection.name, tag, str(path), hits))
    return _apart(found)


def _assigned(given: str, judged: Sequence[Judged]) -> tuple[Judged, Path]:
    names = {one.name: one for one in judged}
    name, equals, rest = given.partition("=")
    if equals and not Path(given).exists():
        if name not in names:
            raise UnknownName(
                f"--run-in {given}: there is no data set {name!r}; there are {', '.join(names)}"
            )
        return names[name], Path(rest)
    if len(judged) > 1:
        raise BadInput(
            f"--run-in {given}: with several data sets, say which one the run is of, as in "
            f"{judged[0].name}={given}",
            field="run_in",
        )
    return judged[0], Path(given)


def _apart(runs: Sequence[External]) -> list[External]:
    """Name runs of the same tag after their files, too."""
    keys = [(one.dataset, one.name) for one in runs]
    return [
        External(one.dataset, f"{one.name} ({Path(one.file).name})", one.file, one.run)
        if keys.count((one.dataset, one.name)) > 1
        else one
        for one in runs
    ]


def run_row(one: External, contest: Contest, exact: bool, seed: int) -> RunRow:
    """Measure a run; ``exact`` says whether the baseline of the contest is exact search."""
    system = next(each for each in contest.systems if each.name == one.name)
    names, base = list(system.means), contest.baseline
    table = [system.values(name) for name in names]
    intervals = bootstrap_columns(_columns(table), seed)
    shares = {
        name: bootstrap_ratio(system.values(name), base.values(name), seed)
        for name in (names if exact else [])
    }
    return RunRow(
        dataset=one.dataset,
        split=contest.judged.split,
        run=one.name,
        file=one.file,
        queries=len(contest.judged.qrels),
        unanswered=len(contest.judged.qrels.keys() - one.run.keys()),
        metrics=system.means,
        intervals=dict(zip(names, intervals, strict=True)),
        relative=relative(system.means, base.means) if exact else {},
        relative_intervals=shares,
        agreement=agreement(one.run, base.run) if exact else None,
    )


def _columns(table: Sequence[Any]) -> Any:
    import numpy as np

    return np.stack(table, axis=1)
