"""Recipes and runs side by side on one or more judged collections.

Every recipe is built as a real index and measured (`colreduce.evaluate.measure`), or found among
the outcomes that are kept. Nothing heavy is imported before something has to be measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colreduce.errors import BadInput
from colreduce.evaluate.averages import averages
from colreduce.evaluate.differences import QueryDifference, worst_queries
from colreduce.evaluate.encoders import RememberedEncoder
from colreduce.evaluate.evaluation import Evaluation
from colreduce.evaluate.external import External, read_external, run_row
from colreduce.evaluate.hub import fetched, is_name
from colreduce.evaluate.judged import Judged, parts_of, read_judged, read_judged_vectors
from colreduce.evaluate.machine import machine
from colreduce.evaluate.metrics import METRICS, Run, measures, write_run
from colreduce.evaluate.outcomes import Outcome, OutcomeCache, outcome_key
from colreduce.evaluate.progress import Progress, cache_folder, silent
from colreduce.evaluate.rows import EXACT
from colreduce.evaluate.significance import compare
from colreduce.evaluate.systems import Contest, contest
from colreduce.recipe import PRESETS, Recipe

if TYPE_CHECKING:
    from colreduce.embed import Encoder

# Queries that are shown of each system, those that lost most.
WORST = 5


def evaluate(
    sources: str | Path | Sequence[str | Path],
    encoder: Any = None,
    recipes: Sequence[Recipe | str | Path] = (),
    *,
    split: str = "test",
    metrics: Sequence[str] = METRICS,
    vectors: str | Path | None = None,
    topics: str | Path | None = None,
    judgements: str | Path | None = None,
    runs_in: Sequence[str | Path] = (),
    run_out: str | Path | None = None,
    worst: int = WORST,
    seed: int = 0,
    device: str = "auto",
    batch_size: int = 32,
    cache: bool = True,
    progress: Progress = silent,
) -> Evaluation:
    """Measure recipes, and runs of other systems, on one or more collections.

    sources     folders in BEIR's layout or with TREC's files, or files of vectors with judgements
    encoder     a model folder, a hub id, a `MultiVectorEncoder` or a loaded encoder; None with
                vectors, or when only runs are measured
    vectors     a file of vectors for the folder's documents and queries, in place of an encoder
    topics, judgements   files of queries and of judgements, where they are not in the folder
    runs_in     TREC run files, ``FILE`` or ``DATASET=FILE``
    run_out     a file that takes the rankings in TREC's format, one tag per recipe; with several
                collections one file each, with the collection's name before the ending
    worst       how many of the queries that lost most are kept for each system
    cache       keep embeddings and outcomes in the cache folder, and use those that are there
    """
    names = tuple(dict.fromkeys(metrics))
    measures(names)
    kept = OutcomeCache(cache_folder() / "outcomes" if cache else None)
    known = _encoder(encoder, device, kept)
    judged = _read(sources, split, vectors, topics, judgements)
    external = read_external(runs_in, judged)
    bench = _Bench(known, names, seed, device, batch_size, cache, kept, progress)
    outcomes = [list(bench.outcomes(one, recipes)) for one in judged]
    contests = [
        contest(one, names, _runs(some, external, one.name))
        for one, some in zip(judged, outcomes, strict=True)
    ]
    if run_out is not None:
        _write_runs(Path(run_out), judged, outcomes)
    rows = [outcome.row for some in outcomes for outcome in some]
    by_name = {one.judged.name: one for one in contests}
    machines = [outcome.machine for some in outcomes for outcome in some]
    return Evaluation(
        metrics=names,
        seed=seed,
        rows=rows,
        runs=[run_row(one, by_name[one.dataset], bool(recipes), seed) for one in external],
        averages=averages(contests, rows, names, seed),
        comparisons=compare(contests, names, seed),
        worst=_worst(contests, outcomes, names[0], worst),
        machine=machines[0] if machines else machine(),
        contests=contests,
    )


def _worst(
    contests: Sequence[Contest], outcomes: Sequence[Sequence[Outcome]], metric: str, count: int
) -> list[QueryDifference]:
    """Return the queries that lost most, with why, collection by collection."""
    found: list[QueryDifference] = []
    for each, some in zip(contests, outcomes, strict=True):
        explained = {one.row.system: one.explained for one in some}
        found += worst_queries(each, metric, count, explained)
    return found


def _encoder(given: Any, device: str, kept: OutcomeCache) -> Encoder | None:
    """Return what encodes: a folder or hub id is loaded only when something must be encoded."""
    if isinstance(given, (str, Path)):
        return RememberedEncoder(given, device, kept)
    if given is None:
        return None
    from colreduce.embed import load_encoder

    return load_encoder(given, device=device)


def _read(
    sources: str | Path | Sequence[str | Path],
    split: str,
    vectors: str | Path | None,
    topics: str | Path | None,
    judgements: str | Path | None,
) -> list[Judged]:
    given = [Path(one) for one in ([sources] if isinstance(sources, (str, Path)) else sources)]
    files = {"topics": _path(topics), "judged": _path(judgements)}
    found: list[Judged] = []
    for source in (fetched(one) if is_name(one) else one for one in given):
        if source.suffix in (".npz", ".safetensors") and source.is_file():
            found.append(read_judged_vectors(source))
            continue
        for folder, group in parts_of(source, **files):
            found.append(read_judged(folder, split, vectors=_path(vectors), group=group))
    if len(found) > 1 and any(one is not None for one in (vectors, topics, judgements)):
        raise BadInput("files of vectors, topics and judgements go with one data set only")
    return _named_apart(found)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _named_apart(found: list[Judged]) -> list[Judged]:
    """Give collections of the same name their parents' names, too."""
    names = [one.name for one in found]
    paths = [one.path.resolve() for one in found]
    for path in paths:
        if paths.count(path) > 1:
            raise BadInput(f"{path} is named twice among the data sets", field="source")
    return [
        replace(one, name=f"{path.parent.name}/{one.name}") if names.count(one.name) > 1 else one
        for one, path in zip(found, paths, strict=True)
    ]


@dataclass(frozen=True)
class _Bench:
    """Finds outcomes among those that are kept, and measures the others."""

    encoder: Encoder | None
    metrics: tuple[str, ...]
    seed: int
    device: str
    batch_size: int
    cache: bool
    kept: OutcomeCache
    progress: Progress

    def outcomes(self, judged: Judged, recipes: Sequence[Recipe | str | Path]) -> Iterator[Outcome]:
        """Yield the outcome of every recipe on one collection, in their order."""
        if recipes and self.encoder is None and judged.vectors is None:
            raise BadInput("wanted an encoder, or a file of vectors in its place", field="encoder")
        keys = [self._key(judged, recipe) for recipe in recipes]
        found = [self.kept.find(key) for key in keys]
        missing = [one for one, there in zip(recipes, found, strict=True) if there is None]
        with ExitStack() as stack:
            made = self._measured(judged, [Recipe.parse(one) for one in missing], stack)
            for key, there in zip(keys, found, strict=True):
                if there is None:
                    there = next(made)
                    self.kept.keep(key, there)
                row = replace(there.row, dataset=judged.name, group=judged.group)
                yield replace(there, row=replace(row, split=judged.split))

    def _key(self, judged: Judged, recipe: Recipe | str | Path) -> str:
        line = str(recipe)
        if line.endswith(".toml"):
            line = str(Recipe.parse(recipe))
        return outcome_key(
            data=judged.digest,
            encoder=None if self.encoder is None else dict(self.encoder.identity),
            recipe=PRESETS.get(line.strip(), line.strip()),
            seed=self.seed,
            metrics=self.metrics,
            device=self.device,
        )

    def _measured(
        self, judged: Judged, recipes: Sequence[Recipe], stack: ExitStack
    ) -> Iterator[Outcome]:
        if not recipes:
            return iter(())
        from colreduce.evaluate.measure import embedding_store, measure

        return measure(
            judged,
            self.encoder,
            recipes,
            stack.enter_context(embedding_store(self.cache)),
            metrics=self.metrics,
            seed=self.seed,
            device=self.device,
            batch_size=self.batch_size,
            progress=self.progress,
        )


def _runs(
    outcomes: Sequence[Outcome], external: Sequence[External], dataset: str
) -> Iterator[tuple[str, Run]]:
    """Yield the rankings of one collection by name: exact search first, every name once."""
    seen = {EXACT}
    if outcomes:
        yield EXACT, outcomes[0].exact
    for outcome in outcomes:
        if outcome.row.system not in seen:
            seen.add(outcome.row.system)
            yield outcome.row.system, outcome.run
    for one in external:
        if one.dataset == dataset:
            yield one.name, one.run


def _write_runs(
    path: Path, judged: Sequence[Judged], outcomes: Sequence[Sequence[Outcome]]
) -> None:
    for one, some in zip(judged, outcomes, strict=True):
        name = f"{path.stem}.{one.name.replace('/', '-')}{path.suffix}"
        target = path if len(judged) == 1 else path.with_name(name)
        runs = [(f"colreduce-{number}", each.run) for number, each in enumerate(some, start=1)]
        write_run(target, runs)
