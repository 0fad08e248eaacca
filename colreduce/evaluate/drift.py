"""What every stage loses now, measured again on a sample of an index' documents.

The sampled documents are ranked against each other after every stage, for queries drawn from them;
what the first stage and the reranker lose is measured in the whole index, against a search through
everything that it stores. A build keeps these losses, so that a later measurement can be held
against it. Whether a rebuild would pay is tried out: the recipe learns anew from one half of the
sample and is compared with what the index has on the other half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from colreduce.errors import BadInput
from colreduce.evaluate.held_out import Asking, draw
from colreduce.evaluate.ledger import StageRanker
from colreduce.evaluate.levels import level_names
from colreduce.evaluate.rows import AGREEMENT
from colreduce.evaluate.scoring import overlaps
from colreduce.evaluate.statistics import LEVEL, Interval, bootstrap, bootstrap_change
from colreduce.index import Index
from colreduce.index.ledger import kept_arrays, kept_ledger
from colreduce.index.sample import Sample, encoded_sample, kept_sample, places_of
from colreduce.index.search import Asked
from colreduce.pipeline import Pipeline
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe

DEPTH = 10

# Fewer sampled documents than this say too little to be worth a number.
FEWEST = 3 * DEPTH

# Stored vectors that may be scored exactly, over all queries; the fewest queries for all that.
MOST_SCORED, FEWEST_SEARCHES = 300_000_000, 16

SEARCH = "search"


@dataclass(frozen=True, slots=True)
class Measured:
    """What each stage loses by itself, query by query.

    kind       what the queries are, as in `colreduce.evaluate.held_out`
    documents  how many sampled documents were ranked
    places     [queries]          of the hashes of the documents that the queries were drawn from
    stages     kind and name of each; the last one is what searching loses in the whole index
    lost       [queries, stages]  NaN where a query was not searched for
    """

    kind: str
    documents: int
    places: NDArray[np.float64]
    stages: list[tuple[str, str]]
    lost: NDArray[np.float64]

    def to_keep(self, next_seq: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the plain values and the arrays that a ledger keeps of it."""
        plain = {"kind": self.kind, "documents": self.documents, "next_seq": next_seq}
        plain["stages"] = [list(stage) for stage in self.stages]
        return plain, {"sample_places": self.places, "sample_lost": self.lost}


@dataclass(frozen=True, slots=True)
class StageNow:
    """What a stage loses of agreement@10: now, when the index was built, and the difference."""

    stage: str
    kind: str
    lost: Interval
    at_build: Interval | None
    change: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        told = {"lost": self.lost, "at_build": self.at_build, "change": self.change}
        shown = {name: one.to_dict() if one else None for name, one in told.items()}
        return {"stage": self.stage, "kind": self.kind, **shown}


@dataclass(frozen=True, slots=True)
class Quality:
    """The losses of an index as it is now, beside those when it was built.

    written_since  documents that were written after the ledger; None without a ledger
    relearned      what agreement@10 gains if the methods learn anew; None if none of them learns
    rebuild, why   whether a rebuild would pay, and the reason in words
    """

    documents: int
    written_since: int | None
    sampled: int
    queries: int
    kind: str
    stages: Sequence[StageNow]
    relearned: Interval | None
    rebuild: bool
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "documents": self.documents,
            "written_since": self.written_since,
            "sampled": self.sampled,
            "queries": {"kind": self.kind, "count": self.queries},
            "level": LEVEL,
            "measure": AGREEMENT,
            "stages": [stage.to_dict() for stage in self.stages],
            "relearned": self.relearned.to_dict() if self.relearned else None,
            "rebuild": {"pays": self.rebuild, "why": self.why},
        }


def quality(index: Index) -> Quality:
    """Measure every stage again and hold it against what was measured when the index was built."""
    sample = _sample(index)
    asking = _asking(index, sample)
    now = _measured(index, sample, asking)
    seed = int(index.view.snapshot.config["seed"])
    before = _before(index, now)
    stages = [_stage(number, now, before, seed) for number in range(len(now.stages))]
    gains = _relearned(index, sample, asking)
    relearned = None if gains is None else bootstrap(gains, seed)
    rebuild, why = _verdict(stages, relearned, before is not None)
    return Quality(
        documents=len(index),
        written_since=_written_since(index),
        sampled=len(sample),
        queries=len(asking),
        kind=asking.kind,
        stages=stages,
        relearned=relearned,
        rebuild=rebuild,
        why=why,
    )


def measure(index: Index) -> Measured | None:
    """Measure every stage of an index for its ledger; None where the sample is too small."""
    sample = _drawn(index)
    if sample is None or len(sample) < FEWEST:
        return None
    return _measured(index, sample, _asking(index, sample))


def _sample(index: Index) -> Sample:
    sample = _drawn(index)
    found = 0 if sample is None else len(sample)
    if sample is None or found < FEWEST:
        why = (
            f"It holds {len(index):,} documents; {found} of them are in its sample."
            if _remembers(index)
            else "It has neither texts that can be encoded again nor a sample of vectors: build "
            "it anew with keep_sample=True (--keep-sample) to measure it."
        )
        raise BadInput(
            f"the quality of {index.path} cannot be measured: wanted at least {FEWEST} sampled "
            f"documents. {why}"
        )
    return sample


def _drawn(index: Index) -> Sample | None:
    """Return the sample: as it was kept, or encoded again from its texts."""
    snapshot = index.view.snapshot
    if snapshot.config.get("keep_sample"):
        return kept_sample(snapshot)
    return encoded_sample(snapshot, index.encoder) if _readable(index) else None


def _remembers(index: Index) -> bool:
    return bool(index.view.snapshot.config.get("keep_sample")) or _readable(index)


def _readable(index: Index) -> bool:
    """Say whether texts are there, and a model that encodes them."""
    config = index.view.snapshot.config
    return bool(config["store_texts"]) and config.get("encoder") is not None


def _asking(index: Index, sample: Sample) -> Asking:
    """Draw queries as the build did: sentences where there are texts, else spans."""
    texts = sample.texts if _readable(index) else None
    encoder = None if texts is None else index.encoder
    return draw(sample.ids, sample.vectors, texts, encoder, int(index.view.snapshot.config["seed"]))


def _measured(index: Index, sample: Sample, asking: Asking) -> Measured:
    kept = _kept(index.pipeline, sample.vectors, sample.ids, asking)
    stages = [*level_names(index.recipe)[1:], (SEARCH, _search_name(index.recipe))]
    lost = np.column_stack([-np.diff(kept, axis=1), 1 - _found(index, asking)])
    return Measured(asking.kind, len(sample), places_of(asking.sources), stages, lost)


def _search_name(recipe: Recipe) -> str:
    fusion = [recipe.fusion] if recipe.fusion else []
    return " | ".join(str(one) for one in (*recipe.first_stages, *fusion, recipe.reranker))


def _kept(
    pipeline: Pipeline, vectors: Ragged, ids: Sequence[str], asking: Asking
) -> NDArray[np.float64]:
    """Return how much of exact search's best is left among some documents: [queries, levels]."""
    places = {one: place for place, one in enumerate(ids)}
    hidden = [
        (query, places[source]) for query, source in enumerate(asking.sources) if source in places
    ]
    depth = min(DEPTH, len(ids) - 1)
    ranker = StageRanker(pipeline, asking.vectors, depth)
    ranker.see(0, pipeline.passed(vectors), hidden)
    rankings = ranker.finish().rankings
    return np.stack([overlaps(one.rows, rankings[0].rows) for one in rankings], axis=1)


def _found(index: Index, asking: Asking) -> NDArray[np.float64]:
    """Return how much of the best by everything stored the index answers: [queries].

    A large index is asked fewer queries; NaN stands for the others.
    """
    view = index.view
    stored = max(1, sum(int(view.segments[one.name].stored.offsets[-1]) for one in view.filled))
    searches = min(len(asking), max(FEWEST_SEARCHES, MOST_SCORED // stored))
    wanted = max(index.candidates, DEPTH + 1)
    found = np.full(len(asking), np.nan)
    triples = zip(asking.vectors.unpack(), asking.texts, asking.sources, strict=True)
    for number, (vectors, text, source) in zip(range(searches), triples, strict=False):
        query = index.pipeline.asked(vectors, text)
        best, answer = (
            [
                hit.id
                for hit in view.search(Asked(query, DEPTH + 1, wanted, exact=exact))
                if hit.id != source
            ][:DEPTH]
            for exact in (True, False)
        )
        found[number] = len(set(best) & set(answer)) / len(best)
    return found


def _before(index: Index, now: Measured) -> Measured | None:
    """Return what the build measured, if it can be compared."""
    kept = (kept_ledger(index.view.snapshot) or {}).get("sample")
    arrays = kept_arrays(index.view.snapshot)
    if kept is None or kept["kind"] != now.kind:
        return None
    stages = [(kind, name) for kind, name in kept["stages"]]
    lost = arrays["sample_lost"]
    return Measured(kept["kind"], kept["documents"], arrays["sample_places"], stages, lost)


def _stage(number: int, now: Measured, before: Measured | None, seed: int) -> StageNow:
    """Compare one stage; queries drawn from documents that were there at both times are paired."""
    kind, name = now.stages[number]
    seen = _values(now, number)
    if before is None or number >= len(before.stages):
        return StageNow(name, kind, bootstrap(list(seen.values()), seed), None, None)
    old = _values(before, number)
    then, lost, change = bootstrap_change(old, seen, seed)
    return StageNow(name, kind, lost, then, change)


def _values(measured: Measured, number: int) -> dict[float, float]:
    column = measured.lost[:, number]
    return {
        float(place): float(value)
        for place, value in zip(measured.places, column, strict=True)
        if np.isfinite(value)
    }


def _relearned(index: Index, sample: Sample, asking: Asking) -> NDArray[np.float64] | None:
    """Return what each query gains on one half of the sample if the other half teaches the methods.

    None if no method between encoding and the first stage has learned anything.
    """
    stages = ("transform", "reduce", "codec", "query")
    recipe = Recipe(tuple(pair for pair in index.recipe.methods if pair[0] in stages))
    if not any(index.pipeline.states.get(key) for key, _ in recipe.keyed()):
        return None
    config = index.view.snapshot.config
    known = index.encoder.vocabulary if config.get("encoder") is not None else None
    gains = []
    halves = [torch.arange(half, len(sample), 2) for half in (0, 1)]
    for taught, tried in (halves, halves[::-1]):
        learned = Pipeline.fit(
            recipe,
            sample.vectors.take(taught),
            [sample.texts[row] for row in taught.tolist()],
            seed=int(config["seed"]),
            vocabulary=known,
        )
        vectors, ids = sample.vectors.take(tried), [sample.ids[row] for row in tried.tolist()]
        kept = [_kept(one, vectors, ids, asking)[:, -1] for one in (learned, index.pipeline)]
        gains.append(kept[0] - kept[1])
    return np.asarray(np.mean(gains, axis=0))


def _verdict(
    stages: Sequence[StageNow], relearned: Interval | None, compared: bool
) -> tuple[bool, str]:
    """Say whether a rebuild would pay, and why."""
    if relearned is not None and relearned.low > 0:
        return True, (
            f"methods that learn anew from half of the sample keep {_points(relearned)} more of "
            "the best ten on the other half"
        )
    worse = [(one.change, one) for one in stages if one.change is not None and one.change.low > 0]
    if worse:
        change, worst = max(worse, key=lambda pair: pair[0].value)
        lost = f"{worst.stage} loses {_points(change)} more of the best ten than at the build"
        if worst.kind == SEARCH:
            return False, f"{lost}: ask for more candidates, or try another first stage"
        return False, f"{lost}, but learning anew does not surely win it back: try another recipe"
    if not compared:
        return False, (
            "learning anew gains nothing that is sure; there is nothing from the build to compare"
        )
    return False, "no stage loses surely more than when the index was built"


def _points(interval: Interval) -> str:
    """Write a difference of shares in points of a hundred, with its bounds."""
    low, value, high = (100 * one for one in (interval.low, interval.value, interval.high))
    return f"{value:.1f} points ({low:.1f} to {high:.1f})"


def _written_since(index: Index) -> int | None:
    """Return how many documents are newer than the ledger."""
    kept: Mapping[str, Any] | None = (kept_ledger(index.view.snapshot) or {}).get("sample")
    if kept is None:
        return None
    return sum(
        int((segment.live & (segment.seqs >= kept["next_seq"])).sum())
        for segment in index.view.snapshot.segments
    )
