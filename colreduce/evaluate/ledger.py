"""The loss ledger: what is left of exact search after each stage of a recipe.

Every row is a ranking of the whole corpus by exact MaxSim over the vectors as they are after that
stage: as encoded, after each transform, after each reducer, as read back from the codec, after
each query reducer. Then the first stage's candidates only, and last what the index answers. The
rows are cumulative, so the differences between neighbours are what each stage costs.

The stages are run here apart from the index, from the same fitted pipeline; `check_sum` then
compares the scores found on this way with those of the index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from colreduce.candidates.base import Found
from colreduce.codec.floats import Fp32
from colreduce.evaluate.embeddings import Embeddings, Progress, silent
from colreduce.evaluate.scoring import Products, TopRows, Wanted, score_all
from colreduce.pipeline import Pipeline
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe
from colreduce.transform.base import Transform

BLOCK_TOKENS = 1 << 17

# Scores found on two ways differ by rounding only: the order of summation is not the same.
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best rows of the corpus for each query, best first.

    rows [queries, depth]; scores [queries, depth]
    """

    stage: str
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Level:
    """The corpus as it is after one stage, a block at a time."""

    stage: str
    queries: Ragged
    lengths: NDArray[np.int64]
    products: Products


@dataclass(frozen=True, slots=True)
class Stages:
    """What the stages' own rankings are, and the last level's scores of the candidates."""

    rankings: list[Ranking]
    candidates: list[NDArray[np.float32]] | None


def run_stages(
    pipeline: Pipeline,
    documents: Embeddings,
    queries: Ragged,
    *,
    depth: int,
    candidates: Sequence[NDArray[np.int64]] | None = None,
    exact: Ranking | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Stages:
    """Rank the corpus after every stage.

    candidates  rows of each query whose scores after the last stage are wanted
    exact       the first ranking, when it is known already
    """
    pipeline = _on_device(pipeline, device)
    asked = _query_levels(pipeline, queries.to(device))
    names = ["exact", *_stage_names(pipeline.recipe)]
    tops = [TopRows(len(queries), depth) for _ in names]
    wanted = None if candidates is None else Wanted(candidates)
    repeats = _repeats(pipeline.recipe)
    known = _known(repeats, exact is not None)
    blocks = documents.blocks(BLOCK_TOKENS) if wanted is not None or not all(known) else iter(())
    for start, batch in blocks:
        progress("ledger", start, len(documents))
        scores = None
        for number, level in enumerate(_levels(pipeline, batch.to(device), asked)):
            picks = wanted if number == len(names) - 1 else None
            if not repeats[number]:
                scores = None
            if known[number] and picks is None:
                continue
            if scores is None:
                scores = score_all(level.queries, level.lengths, level.products)
            if not known[number]:
                tops[number].add(start, scores)
            if picks is not None:
                picks.add(start, scores)
    progress("ledger", len(documents), len(documents))
    rankings = [
        Ranking(name, exact.rows, exact.scores)
        if exact is not None and given
        else Ranking(name, *top.finish())
        for name, top, given in zip(names, tops, known, strict=True)
    ]
    return Stages(rankings, None if wanted is None else wanted.finish())


def _repeats(recipe: Recipe) -> list[bool]:
    """Say of every level whether it is bit for bit the one before: vectors kept as they are."""
    before = 1 + len(recipe.transforms) + len(recipe.reducers)
    return (
        [False] * before + [isinstance(recipe.codec, Fp32)] + [False] * len(recipe.query_reducers)
    )


def _known(repeats: list[bool], exact: bool) -> list[bool]:
    """Say of every level whether exact search, which is known already, is its ranking."""
    known = [exact]
    for repeat in repeats[1:]:
        known.append(known[-1] and repeat)
    return known


def _stage_names(recipe: Recipe) -> list[str]:
    """Return the stages between encoding and the first stage, in the ledger's order."""
    stages = [*recipe.transforms, *recipe.reducers, recipe.codec, *recipe.query_reducers]
    return [str(method) for method in stages]


def _transforms(pipeline: Pipeline) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """Yield every transform by name, as a function of vectors."""
    for key, method in pipeline.recipe.keyed():
        if isinstance(method, Transform):
            yield str(method), partial(method.apply, state=pipeline.states.get(key, {}))


def _query_levels(pipeline: Pipeline, queries: Ragged) -> list[Ragged]:
    """Return the queries as they are at every level."""
    recipe, levels = pipeline.recipe, [queries]
    for _, apply in _transforms(pipeline):
        levels.append(levels[-1].with_tokens(apply(levels[-1].tokens)))
    levels += [levels[-1]] * (len(recipe.reducers) + 1)
    for method in recipe.query_reducers:
        levels.append(Ragged.pack([method.shrink(one) for one in levels[-1].unpack()]))
    return levels


def _levels(pipeline: Pipeline, batch: Ragged, asked: list[Ragged]) -> Iterator[Level]:
    """Yield a block of documents as it is at every level."""
    recipe, queries = pipeline.recipe, iter(asked)
    yield _dense("exact", next(queries), batch)
    for name, apply in _transforms(pipeline):
        batch = batch.with_tokens(apply(batch.tokens))
        yield _dense(name, next(queries), batch)
    for method, step in pipeline.reduce_steps(batch):
        batch = step.batch
        yield _dense(str(method), next(queries), batch)
    codes = pipeline.encode(batch.tokens)

    def products(query: Tensor, rows: slice) -> Tensor:
        return pipeline.similarities(query, {name: part[rows] for name, part in codes.items()})

    lengths = batch.lengths.cpu().numpy()
    yield Level(str(recipe.codec), next(queries), lengths, products)
    for method in recipe.query_reducers:
        yield Level(str(method), next(queries), lengths, products)


def _dense(stage: str, queries: Ragged, batch: Ragged) -> Level:
    tokens = batch.tokens

    def products(query: Tensor, rows: slice) -> Tensor:
        return query @ tokens[rows].T

    return Level(stage, queries, batch.lengths.cpu().numpy(), products)


def _on_device(pipeline: Pipeline, device: str) -> Pipeline:
    states = {
        key: {name: tensor.to(device) for name, tensor in state.items()}
        for key, state in pipeline.states.items()
    }
    return Pipeline(pipeline.recipe, states)


def rerank_candidates(
    recipe: Recipe,
    found: Sequence[Found],
    scores: Sequence[NDArray[np.float32]],
    k: int,
) -> list[NDArray[np.float32]]:
    """Return the scores, best first, that the reranker gives to each query's candidates."""
    finals = []
    for one, exact in zip(found, scores, strict=True):

        def score(
            positions: NDArray[np.int64], exact: NDArray[np.float32] = exact
        ) -> NDArray[np.float32]:
            return exact[positions]

        _, kept = recipe.reranker.rank(one.scores, score, k)
        finals.append(np.sort(kept)[::-1])
    return finals


def check_sum(expected: Sequence[NDArray[np.float32]], got: Sequence[Sequence[float]]) -> float:
    """Make sure that the stages one by one lead to what the index answers.

    Both are the scores of each query's best hits, best first. Returns the largest difference; one
    that rounding cannot explain is a mistake of ours, never of the user's.
    """
    worst = 0.0
    for number, (want, have) in enumerate(zip(expected, got, strict=True)):
        gaps = np.abs(np.asarray(want) - np.asarray(have)) if len(want) == len(have) else [np.inf]
        gap = float(np.max(gaps, initial=0.0))
        scale = float(np.max(np.abs(want), initial=1.0))
        if gap > TOLERANCE * scale:
            raise AssertionError(
                f"the ledger does not add up: for query {number} the stages lead to scores that "
                f"are {gap:.3g} away from those of the index"
            )
        worst = max(worst, gap)
    return worst
