"""Running a recipe's stages over a corpus: what is left of exact search after each of them.

Every row is a ranking of the whole corpus by exact MaxSim over the vectors as they are after that
stage: as encoded, after each transform, after each reducer, as read back from the codec, after
each query reducer. Then the first stage's candidates only, and last what the index answers. The
rows are cumulative, so the differences between neighbours are what each stage costs.

The stages are run from the same fitted pipeline as the index, over a corpus that is at hand
(`run_stages`) or while it passes by on its way into the index (`StageRanker`). `check_sum` compares
the scores found on this way with those of the index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colreduce.candidates.base import Found
from colreduce.evaluate.embeddings import Embeddings, Progress, silent
from colreduce.evaluate.levels import document_levels, level_names, query_levels, repeats
from colreduce.evaluate.rough import best_scores
from colreduce.evaluate.scoring import Followed, TopRows, Wanted, score_all
from colreduce.pipeline import Passed, Pipeline
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe

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
class Stages:
    """What a corpus looks like after every stage.

    rankings    one for each level
    candidates  the last level's scores of the candidates, where they were wanted
    followed    the scores at each level of exact search's best rows: [levels, queries, followed]
    """

    rankings: list[Ranking]
    candidates: list[NDArray[np.float32]] | None
    followed: NDArray[np.float32]


class StageRanker:
    """Ranks a corpus after every stage, while it comes by a batch at a time."""

    def __init__(
        self,
        pipeline: Pipeline,
        queries: Ragged,
        depth: int,
        *,
        candidates: Sequence[NDArray[np.int64]] | None = None,
        exact: Ranking | None = None,
        follow: int = 0,
    ) -> None:
        """Take what `run_stages` takes; ``follow`` the scores of exact search's best rows."""
        self._pipeline = pipeline
        self._asked = query_levels(pipeline, queries)
        self._names = [name for _, name in level_names(pipeline.recipe)]
        self._repeats = repeats(pipeline.recipe)
        self._exact = exact
        self._known = _known(self._repeats, exact is not None)
        self._tops = [TopRows(len(queries), depth) for _ in self._names]
        self._wanted = None if candidates is None else Wanted(candidates)
        self._followed = Followed(len(self._names), len(queries), follow)
        # Of exact search only the best are wanted, unless its scores are those of the codec, too.
        self._best_suffice = follow <= depth and not (candidates is not None and self._repeats[1])

    @property
    def done(self) -> bool:
        """Whether there is nothing left to find out."""
        return self._wanted is None and all(self._known)

    def see(self, start: int, passed: Passed, hidden: Iterable[tuple[int, int]] = ()) -> None:
        """Take in the documents of the rows from ``start`` on.

        hidden  pairs of a query and a place in the batch whose document that query must not find
        """
        away = np.array(list(hidden), dtype=np.int64).reshape(-1, 2)

        def hide(scores: NDArray[np.float32]) -> None:
            scores[away[:, 0], away[:, 1]] = -np.inf

        levels: list[NDArray[np.float32]] = []
        last = len(self._names) - 1
        for number, level in enumerate(document_levels(self._pipeline, passed, self._asked)):
            picked = number == last and self._wanted is not None
            if self._known[number] and not picked and not self._followed.size:
                continue
            if levels and self._repeats[number]:
                scores = levels[-1]
            elif number == 0 and self._best_suffice:
                assert level.tokens is not None
                least, depth = self._tops[0].least, self._tops[0].depth
                scores = best_scores(level.queries, level.tokens, level.lengths, least, depth, hide)
            else:
                scores = score_all(level.queries, level.lengths, level.products)
                hide(scores)
            levels.append(scores)
            if not self._known[number]:
                self._tops[number].add(start, scores)
            if picked and self._wanted is not None:
                self._wanted.add(start, scores)
        if self._followed.size:
            self._followed.add(np.stack(levels))

    def finish(self) -> Stages:
        """Return what was found."""
        rankings = [
            Ranking(name, self._exact.rows, self._exact.scores)
            if self._exact is not None and given
            else Ranking(name, *top.finish())
            for name, top, given in zip(self._names, self._tops, self._known, strict=True)
        ]
        candidates = None if self._wanted is None else self._wanted.finish()
        return Stages(rankings, candidates, self._followed.finish())


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
    ranker = StageRanker(pipeline, queries.to(device), depth, candidates=candidates, exact=exact)
    for start, batch in iter(()) if ranker.done else documents.blocks(BLOCK_TOKENS):
        progress("ledger", start, len(documents))
        ranker.see(start, pipeline.passed(batch.to(device)))
    progress("ledger", len(documents), len(documents))
    return ranker.finish()


def _known(repeated: Sequence[bool], exact: bool) -> list[bool]:
    """Say of every level whether exact search, which is known already, is its ranking."""
    known = [exact]
    for repeat in repeated[1:]:
        known.append(known[-1] and repeat)
    return known


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
