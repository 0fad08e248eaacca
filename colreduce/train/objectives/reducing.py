"""Objectives that make vectors few inside the model, in training as in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from colreduce.method import parameter
from colreduce.train.objectives.base import About, Objective, Term


@dataclass(frozen=True, kw_only=True)
class Crisp(Objective):
    """Train on the means of clusters, so that tokens which are put together agree.

    ``documents`` and ``queries`` are the published fixed numbers, 32 and 8, or 8 and 4; ``keep`` is
    the published share for both, 0.25 or 0.5. Any reducer that needs only vectors can choose the
    clusters.
    """

    name = "crisp"
    paper = "Veneroso et al. 2025, arXiv 2505.11471"
    when = "Few vectors for each document, and a model that can be trained for them."
    documents: int = parameter(32, "vectors left of a document; 0 leaves documents whole", low=0)
    queries: int = parameter(8, "vectors left of a query; 0 leaves queries whole", low=0)
    keep: float | None = parameter(None, "leave this share of both instead", above=0, high=1)
    method: str = parameter("kmeans", "the reducer that chooses, such as kmeans, ward or cover")
    renormalise: bool = parameter(True, "scale the means back to unit length")

    def arrange(self, modules: list[Any], about: About) -> list[Any]:
        """Add the means behind all other modules."""
        from colreduce.train.modules import GroupMeans

        lines = [self._line(self.documents), self._line(self.queries)]
        return [*modules, GroupMeans(*lines, renormalise=self.renormalise)]

    def _line(self, size: int) -> str | None:
        if self.keep is not None:
            return f"{self.method}(keep={self.keep})"
        return f"{self.method}(size={size})" if size else None


@dataclass(frozen=True, kw_only=True)
class Constant(Objective):
    """Learn to mix the tokens of every document into one number of vectors, by their positions."""

    name = "constant"
    paper = "MacAvaney et al. 2025 (ConstBERT), arXiv 2504.01818"
    when = "Every document must take the same room, and documents have a bounded length."
    size: int = parameter(32, "vectors left of a document", low=1)
    full: bool = parameter(
        False, "a matrix for every position, as published, in place of a number: many weights"
    )

    def arrange(self, modules: list[Any], about: About) -> list[Any]:
        """Add the slots behind all other modules."""
        from colreduce.train.modules import Slots

        return [*modules, Slots(self.size, about.length, about.width, full=self.full)]


@dataclass(frozen=True, kw_only=True)
class Attention(Objective):
    """Learn which tokens matter, and group the others around them."""

    name = "attention"
    paper = "AGC, arXiv 2602.21202"
    when = "A fixed number of vectors that shall stay close to what matters in each text."
    size: int = parameter(32, "vectors left of a document", low=1)
    heads: int = parameter(4, "parts of a vector that are attended to by themselves", low=1)

    def arrange(self, modules: list[Any], about: About) -> list[Any]:
        """Add the groups behind all other modules."""
        from colreduce.train.modules import AttentionGroups

        return [*modules, AttentionGroups(self.size, about.width, self.heads)]


@dataclass(frozen=True, kw_only=True)
class Words(Objective):
    """Leave one vector for each word, and learn which words need none at all."""

    name = "words"
    paper = "Hofstätter et al. 2022 (ColBERTer), arXiv 2203.13088"
    when = "Readable vectors; as many as a text has words that say something."
    gate: bool = parameter(True, "learn to drop words")
    repeats: bool = parameter(True, "one vector for all places at which a word occurs")
    sparsity: float = parameter(0.1, "weight of the loss that shuts gates", low=0)

    def arrange(self, modules: list[Any], about: About) -> list[Any]:
        """Add the words behind all other modules."""
        from colreduce.train.modules import WordGate

        return [*modules, WordGate(about.width, gate=self.gate, repeats=self.repeats)]

    def term(self, about: About) -> Term | None:
        """Return how far the gates stand open, weighed."""
        from colreduce.train.modules import WordGate

        def shut(scores: Tensor, features: Any, model: Any) -> Tensor:
            [gate] = [one for one in model.modules() if isinstance(one, WordGate)]
            assert gate.opened is not None
            return self.sparsity * gate.opened

        return shut if self.gate and self.sparsity else None
