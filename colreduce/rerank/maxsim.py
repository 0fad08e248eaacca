"""The exact late-interaction score of the candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colreduce.errors import BadParameter
from colreduce.method import parameter
from colreduce.rerank.base import Reranker, Scorer, Second

# With early exit, at least so many are scored at a time: one call costs as much as ten documents.
AT_A_TIME = 16


@dataclass(frozen=True, kw_only=True)
class Maxsim(Reranker):
    """Score every candidate by MaxSim over its stored vectors.

    ``candidates`` is how many documents the first stage is asked for; an exhaustive first stage
    ignores it. With ``prune``, candidates whose first score is far below that of the k-th are left
    out. With ``patience``, scoring goes down the first stage's list and stops after that many
    documents in a row that did not come among the best k. Both trust the first stage's order, so
    they are off unless asked for, and they do nothing where it gives all candidates one score.

    With ``whole``, the best so many, or as many as are returned if that is more, are scored once
    more over all the vectors they had before any reducer, which the index then keeps beside the
    reduced ones. That costs bytes on disk and hardly any time.
    """

    name = "maxsim"
    paper = "Khattab and Zaharia 2020, arXiv 2004.12832; prune, patience: arXiv 2601.05200"
    when = "Nearly always; prune and patience pay behind a strong first stage, not behind mean."
    prune: float | None = parameter(
        None, "share of the k-th first score by which a candidate may fall below it", low=0
    )
    patience: int | None = parameter(
        None, "candidates in a row without success before scoring stops", low=1
    )
    whole: int | None = parameter(
        None, "of the best so many, score again over their unreduced vectors", low=1, high=10_000
    )
    kept: str = parameter(
        "fp16", "with whole: the codec of the unreduced vectors", choices=("fp16", "int8")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.whole is None and self.kept != "fp16":
            raise BadParameter(
                f"maxsim(kept={self.kept}) says how whole vectors are kept, and none are: name "
                "whole, the number of documents to score over them, or leave kept out"
            )

    @property
    def second(self) -> Second | None:
        """Return what ``whole`` and ``kept`` say."""
        return None if self.whole is None else Second(self.whole, self.kept)

    def rank(
        self, first_scores: NDArray[np.float32], score: Scorer, k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Score what is worth it, sort by score; the candidates' own order breaks ties."""
        positions = self._worth_scoring(first_scores, k)
        if self.patience is None or _says_nothing(first_scores):
            scores = score(positions)
        else:
            scores = _until_patience_ends(positions, score, k, self.patience)
            positions = positions[: len(scores)]
        best = np.argsort(-scores, kind="stable")[:k]
        return positions[best], scores[best]

    def _worth_scoring(self, first_scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return the candidates that pruning leaves, the first ``k`` always among them."""
        every = np.arange(len(first_scores), dtype=np.int64)
        if self.prune is None or not 0 < k < len(every) or not np.isfinite(first_scores[k - 1]):
            return every
        last = float(first_scores[k - 1])
        # Below the k-th score whatever its sign: a share of a negative score would lie above it.
        # In float32, as the scores are: a candidate exactly on the threshold stays.
        threshold = np.float32(last - self.prune * abs(last))
        return every[(every < k) | (first_scores >= threshold)]


def _until_patience_ends(
    positions: NDArray[np.int64], score: Scorer, k: int, patience: int
) -> NDArray[np.float32]:
    """Score candidates in their order until ``patience`` of them in a row changed nothing.

    Returns the scores of those before that point; at least the first ``k``, or all if fewer.
    """
    scores = [score(positions[:k])]
    best = np.sort(scores[0])
    done, failures = len(best), 0
    while done < len(positions) and failures < patience and k > 0:
        # Fewer than are missing to the end of patience cannot end it.
        step = max(patience - failures, AT_A_TIME)
        found = score(positions[done : done + step])
        for place, one in enumerate(found):
            if one > best[0]:
                best[0] = one
                best.sort()
                failures = 0
            else:
                failures += 1
            if failures == patience:
                found = found[: place + 1]
                break
        scores.append(found)
        done += len(found)
    return np.concatenate(scores)


def _says_nothing(first_scores: NDArray[np.float32]) -> bool:
    """Say whether the first stage put the candidates in no order at all."""
    return len(first_scores) == 0 or bool((first_scores == first_scores[0]).all())
