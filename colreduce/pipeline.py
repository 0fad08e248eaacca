"""The stages of a recipe, fitted on a sample and put in a row.

The one place where transforms, reducers and the codec meet: `colreduce.index` stores what comes
out, `colreduce.evaluate` measures what was lost on the way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from colreduce.candidates.base import Documents, FirstStage, Query
from colreduce.codec.base import Codec, Codes
from colreduce.device import CPU
from colreduce.maxsim import backend
from colreduce.method import State
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe
from colreduce.reduce.base import PRUNED, Reduced, Reducer
from colreduce.transform.base import Transform

# Vectors reduced at a time: a few hundred MB of work space whatever the corpus. A device, which
# small blocks leave idle, is given so many numbers: 1 GB.
BLOCK_TOKENS, DEVICE_BLOCK_FLOATS = 1 << 17, 1 << 28


@dataclass(frozen=True, slots=True)
class Passed:
    """A batch of documents as every stage of a pipeline left it.

    batch        as encoded
    transformed  after each transform
    reduced      after each reducer; assignments go from the tokens of ``batch``
    codes        what is stored
    """

    batch: Ragged
    transformed: Sequence[Ragged]
    reduced: Sequence[Reduced]
    codes: Codes

    def to(self, device: str) -> Passed:
        """Return the same documents on a device."""
        return Passed(
            self.batch.to(device),
            [one.to(device) for one in self.transformed],
            [Reduced(one.batch.to(device), one.assignment.to(device)) for one in self.reduced],
            {name: rows.to(device) for name, rows in self.codes.items()},
        )

    @property
    def unreduced(self) -> Ragged:
        """Return the documents after all transforms."""
        return self.transformed[-1] if self.transformed else self.batch

    @property
    def left(self) -> Reduced:
        """Return the documents after all reducers."""
        return self.reduced[-1] if self.reduced else Reduced(self.batch, self.batch.positions)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A recipe with everything that its methods learned.

    ``device`` is where documents pass the stages. What was learned stays on the CPU.
    """

    recipe: Recipe
    states: Mapping[str, State] = field(default_factory=dict)
    device: str = CPU

    @classmethod
    def fit(
        cls,
        recipe: Recipe,
        sample: Ragged,
        texts: Sequence[str | None] | None = None,
        *,
        seed: int = 0,
        vocabulary: Mapping[str, int] | None = None,
        device: str = CPU,
    ) -> Pipeline:
        """Let every method learn from a sample of documents what it needs, in order.

        Each stage sees the sample as the stages before it leave it.
        """
        states: dict[str, State] = {}
        if device != CPU:
            sample = sample.to(device)
        transformed = left = sample
        for key, method in recipe.keyed():
            if isinstance(method, Transform):
                states[key] = method.fit(transformed, seed=seed)
                tokens = method.apply(transformed.tokens, states[key])
                transformed = left = transformed.with_tokens(tokens)
            elif isinstance(method, Reducer):
                states[key] = method.fit(left, seed=seed, vocabulary=vocabulary)
                left = _in_blocks(method, left, states[key]).batch
            elif isinstance(method, Codec):
                states[key] = method.fit(left, seed=seed)
            elif isinstance(method, FirstStage):
                documents = Documents(transformed, left, texts or [None] * len(sample))
                if device != CPU and not method.on_device:
                    documents = Documents(transformed.to(CPU), left.to(CPU), documents.texts)
                states[key] = method.fit(documents, seed=seed)
            if device != CPU and key in states:
                states[key] = {name: tensor.to(CPU) for name, tensor in states[key].items()}
        return cls(recipe, states, device)

    def on(self, device: str) -> Pipeline:
        """Return the same pipeline for documents on a device."""
        return dataclasses.replace(self, device=device)

    def places(self) -> dict[str, str]:
        """Say of every stage that documents pass on what it runs."""
        stages = (Transform, Reducer, Codec, FirstStage)
        return {
            key: self.device if method.on_device else CPU
            for key, method in self.recipe.keyed()
            if isinstance(method, stages)
        }

    def transform(self, batch: Ragged) -> Ragged:
        """Apply the transforms to documents."""
        return batch.with_tokens(self._transformed(batch.tokens))

    def transform_steps(self, vectors: Tensor) -> Iterator[Tensor]:
        """Yield vectors after one transform after the other."""
        for key, method in self.recipe.keyed():
            if isinstance(method, Transform):
                vectors = method.apply(vectors, self.states.get(key, {}))
                yield vectors

    def query(self, vectors: Tensor) -> Tensor:
        """Apply the transforms and the query reducers to one query: [q, d] -> [q', d']."""
        vectors = self._transformed(vectors)
        for method in self.recipe.query_reducers:
            vectors = method.shrink(vectors)
        return vectors

    def asked(self, vectors: Tensor, text: str | None) -> Query:
        """Return a query as the first stages and the reranker see it."""
        return Query(self.query(vectors), text)

    def reduce_steps(self, batch: Ragged) -> Iterator[tuple[Reducer, Reduced]]:
        """Apply one reducer after the other to transformed documents; assignments are whole."""
        assignment, items = batch.positions, batch.item_of
        for key, method in self.recipe.keyed():
            if isinstance(method, Reducer):
                step = _in_blocks(method, batch, self.states.get(key, {}))
                assignment = _follow(assignment, batch.offsets[:-1][items], step.assignment)
                batch = step.batch
                yield method, Reduced(batch, assignment)

    def reduce(self, batch: Ragged) -> Reduced:
        """Apply all reducers to transformed documents.

        The assignment goes from the tokens given to the vectors that are left.
        """
        steps = [step for _, step in self.reduce_steps(batch)]
        return steps[-1] if steps else Reduced(batch, batch.positions)

    def passed(self, batch: Ragged) -> Passed:
        """Run documents through all stages, and keep what each of them left.

        They are on the pipeline's device afterwards, or where they were if that is the CPU.
        """
        if self.device != CPU:
            batch = batch.to(self.device)
        batch = left = batch.with_tokens(batch.tokens.float())
        transformed = []
        for tokens in self.transform_steps(batch.tokens):
            left = left.with_tokens(tokens)
            transformed.append(left)
        steps = [step for _, step in self.reduce_steps(left)]
        stored = steps[-1].batch if steps else left
        return Passed(batch, transformed, steps, self.encode(stored.tokens))

    def encode(self, tokens: Tensor) -> Codes:
        """Turn reduced vectors into what is stored."""
        codes: Codes = self.recipe.codec.encode(tokens, self.states.get("codec.0", {}))
        return codes

    def decode(self, codes: Codes) -> Tensor:
        """Turn what is stored back into vectors."""
        vectors: Tensor = self.recipe.codec.decode(codes, self.states.get("codec.0", {}))
        return vectors

    def similarities(self, query: Tensor, codes: Codes) -> Tensor:
        """Return the products of a query's vectors with stored ones: [q, t]."""
        products: Tensor = self.recipe.codec.similarities(
            query, codes, self.states.get("codec.0", {})
        )
        return products

    def fused(self, codes: Codes) -> tuple[Tensor, Tensor | None] | None:
        """Return rows and scales of codes that a device scores in one pass; None for others."""
        rows = self.recipe.codec.rows(codes)
        passes = rows is not None and backend(rows[0].device) == "triton"
        return rows if passes else None

    def _transformed(self, vectors: Tensor) -> Tensor:
        if vectors.dtype != torch.float32:  # asking torch costs a search more than asking here
            vectors = vectors.float()
        for step in self.transform_steps(vectors):
            vectors = step
        return vectors


def _in_blocks(method: Reducer, batch: Ragged, state: State) -> Reduced:
    """Reduce a large batch some documents at a time, so that work space stays bounded."""
    most = BLOCK_TOKENS if batch.device.type == "cpu" else DEVICE_BLOCK_FLOATS // batch.dim
    if len(batch.tokens) <= most:
        return method.reduce(batch, state)
    steps = [method.reduce(block, state) for block in batch.blocks(most)]
    joined = Ragged.concat([step.batch for step in steps])
    return Reduced(joined, torch.cat([step.assignment for step in steps]))


def _follow(before: Tensor, starts: Tensor, after: Tensor) -> Tensor:
    """Follow original tokens through one more reduction.

    before [t]  their places inside their items so far; -1 for pruned
    starts [t]  where their items begin among the vectors that were reduced now
    after  [m]  where each of those vectors went
    """
    return torch.where(before < 0, PRUNED, after[(starts + before).clamp_min(0)])


def reduced(
    embeddings: Sequence[Any], recipe: Recipe | str, *, seed: int = 0, **metadata: Any
) -> list[Tensor]:
    """Reduce documents' vectors: a list of [t, d] in, a list of [m, d] out.

    ``embeddings`` is exactly what ``encode_document`` returns. Methods that learn from a corpus
    learn from these documents. Transforms and reducers of the recipe run; its other stages do not.
    """
    batch = Ragged.pack(embeddings, **metadata)
    chosen = Recipe.parse(recipe)
    kept = tuple(pair for pair in chosen.methods if pair[0] in ("transform", "reduce"))
    pipeline = Pipeline.fit(Recipe(kept), batch, seed=seed)
    left = pipeline.reduce(pipeline.transform(batch)).batch
    return left.with_tokens(left.tokens.to(batch.tokens.dtype)).unpack()
