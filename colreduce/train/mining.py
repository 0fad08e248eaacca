"""Hard negatives: documents that our own index finds for a query and that do not answer it."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from colreduce.errors import BadInput
from colreduce.evaluate.progress import Progress, silent
from colreduce.index import Index
from colreduce.train.examples import Example, known_answers

# The index that is searched: small and quick, for hard negatives need not be the very best hits.
RECIPE = "ward(factor=8) | int8 | mean | maxsim(candidates=200)"
AT_A_TIME = 256


def mine(
    examples: Sequence[Example],
    encoder: Any,
    count: int,
    *,
    others: Sequence[str] = (),
    depth: int = 30,
    nearest: float = 0.95,
    recipe: str = RECIPE,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Example]:
    """Return the examples with ``count`` wrong documents each.

    others   documents beside those that answer a query
    recipe   of the index that is searched
    depth    how many hits of a query are drawn from
    nearest  hits that score more than this share of the right document are left out: they may
             well be right, and only nobody judged them

    What an example has already comes first. Where a search finds too few, documents are drawn.
    """
    documents = list(dict.fromkeys([*(one.positive for one in examples), *others]))
    answers = known_answers(examples)
    _require_enough(documents, answers, count)
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(
            Path(folder) / "index", recipe=recipe, encoder=encoder, store_texts=False
        )
        with index:
            hits = _hits(index, documents, list(answers), depth, progress)
    draw = random.Random(seed)
    found = []
    for one in examples:
        own = [text for text in one.negatives if text not in answers[one.query]]
        wrong = [*own, *_wrong(hits[one.query], one, answers[one.query], nearest)]
        wrong = list(dict.fromkeys(wrong))[:count]
        while len(wrong) < count:
            drawn = draw.choice(documents)
            if drawn not in answers[one.query] and drawn not in wrong:
                wrong.append(drawn)
        found.append(replace(one, negatives=tuple(wrong)))
    return found


def _require_enough(documents: Sequence[str], answers: Mapping[str, set[str]], count: int) -> None:
    """Refuse when there are not so many documents that do not answer a query."""
    there = set(documents)
    for query, known in answers.items():
        left = len(there) - len(there & known)
        if left < count:
            raise BadInput(
                f"of {len(there)} documents {left} do not answer {query!r}; wanted {count} wrong "
                "ones for each query. Ask for fewer, or give more documents.",
                field="negatives",
            )


def _hits(
    index: Index,
    documents: Sequence[str],
    queries: Sequence[str],
    depth: int,
    progress: Progress,
) -> dict[str, list[tuple[str, float]]]:
    """Return the best documents of every query with their scores."""
    found: dict[str, list[tuple[str, float]]] = {}
    with index.batch() as batch:
        for start in range(0, len(documents), AT_A_TIME):
            some = documents[start : start + AT_A_TIME]
            batch.add([str(start + number) for number in range(len(some))], some)
            progress("encode", min(start + AT_A_TIME, len(documents)), len(documents))
    for start in range(0, len(queries), AT_A_TIME):
        some = queries[start : start + AT_A_TIME]
        for query, hits in zip(some, index.search_many(some, depth), strict=True):
            found[query] = [(documents[int(hit.id)], hit.score) for hit in hits]
        progress("search", min(start + AT_A_TIME, len(queries)), len(queries))
    return found


def _wrong(
    hits: Sequence[tuple[str, float]], one: Example, answers: set[str], nearest: float
) -> list[str]:
    """Return the hits that do not answer, best first, without those as good as an answer.

    Where the answer is not among the hits, all of them are better than it.
    """
    right = next((score for text, score in hits if text == one.positive), None)
    if right is None:
        return []
    return [text for text, score in hits if text not in answers and score < nearest * right]
