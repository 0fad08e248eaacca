"""Queries and documents as they are after every stage of a pipeline, ready to be scored.

The levels are those between encoding and the first stage, in the order of the ledger: as encoded,
after each transform, after each reducer, as read back from the codec, after each query reducer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from colreduce.codec.floats import Fp32
from colreduce.evaluate.scoring import Products, dense
from colreduce.pipeline import Passed, Pipeline
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe

EXACT = "exact"


@dataclass(frozen=True, slots=True)
class Level:
    """Queries and a batch of documents after one stage; ``tokens`` where they are plain vectors."""

    queries: Ragged
    lengths: NDArray[np.int64]
    products: Products
    tokens: Tensor | None = None


def level_names(recipe: Recipe) -> list[tuple[str, str]]:
    """Return the kind and the name of every level."""
    levels = [("transform", method) for method in recipe.transforms]
    levels += [("reduce", method) for method in recipe.reducers]
    levels += [("codec", recipe.codec)]
    levels += [("query", method) for method in recipe.query_reducers]
    return [(EXACT, EXACT), *((kind, str(method)) for kind, method in levels)]


def repeats(recipe: Recipe) -> list[bool]:
    """Say of every level whether it is bit for bit the one before: vectors kept as they are."""
    before = 1 + len(recipe.transforms) + len(recipe.reducers)
    return (
        [False] * before + [isinstance(recipe.codec, Fp32)] + [False] * len(recipe.query_reducers)
    )


def query_levels(pipeline: Pipeline, queries: Ragged) -> list[Ragged]:
    """Return the queries as they are at every level."""
    recipe, levels = pipeline.recipe, [queries]
    levels += [queries.with_tokens(tokens) for tokens in pipeline.transform_steps(queries.tokens)]
    levels += [levels[-1]] * (len(recipe.reducers) + 1)
    for method in recipe.query_reducers:
        levels.append(Ragged.pack([method.shrink(one) for one in levels[-1].unpack()]))
    return levels


def document_levels(pipeline: Pipeline, passed: Passed, asked: list[Ragged]) -> Iterator[Level]:
    """Yield a batch of documents as it is at every level, beside the queries at that level."""
    queries = iter(asked)
    yield _dense(next(queries), passed.batch)
    for batch in [*passed.transformed, *(step.batch for step in passed.reduced)]:
        yield _dense(next(queries), batch)
    lengths = passed.left.batch.lengths.cpu().numpy()

    def products(query: Tensor, rows: slice) -> Tensor:
        return pipeline.similarities(query, {name: p[rows] for name, p in passed.codes.items()})

    for query in queries:  # the codec's level, and those of the query reducers
        yield Level(query, lengths, products)


def _dense(queries: Ragged, batch: Ragged) -> Level:
    return Level(queries, batch.lengths.cpu().numpy(), dense(batch.tokens), batch.tokens)
