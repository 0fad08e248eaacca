"""What an objective is: modules that a model is given, and what its training asks of it.

An objective is a method as every other: its fields are its parameters, and a line names one or
several, such as ``crisp(documents=32) | distill(weight=0.5)``. Each may add modules to the model,
say how a query and a document are scored, ask for smaller views of the same vectors to be good,
too, or add a term to the loss. What it says nothing of stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from colreduce.errors import BadParameter
from colreduce.method import Method


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch as the model left it.

    queries         [b, q, d]     and their mask [b, q]
    documents       [b, n, t, d]  and their mask [b, n, t]; the first of each row answers its query
    """

    queries: Tensor
    queries_mask: Tensor
    documents: Tensor
    documents_mask: Tensor


@dataclass(frozen=True, slots=True)
class About:
    """What an objective is told of the model it is added to.

    start   the folder or hub id that training starts from
    width   of the token vectors
    length  how many tokens of a document are read
    """

    start: str
    width: int
    length: int


# Scores [b, b * n] of every query against every document of a batch.
Scoring: TypeAlias = "Callable[[Encoded], Tensor]"

# What is added to the loss, of the scores, the batch's features and the model.
Term: TypeAlias = "Callable[[Tensor, Sequence[dict[str, Any]], Any], Tensor]"


@dataclass(frozen=True, kw_only=True)
class Objective(Method):
    """Something that a model is taught."""

    def arrange(self, modules: list[Any], about: About) -> list[Any]:
        """Return the modules of the model with those that are added."""
        return modules

    def after(self, about: About) -> About:
        """Return what is known of the model once the modules are added."""
        return about

    def scoring(self) -> Scoring | None:
        """Return how queries and documents are scored, scaled for a softmax."""
        return None

    def views(self, encoded: Encoded) -> list[Encoded]:
        """Return smaller versions of a batch on which the model must be good, too."""
        return []

    def term(self, about: About) -> Term | None:
        """Return what is added to the loss."""
        return None


def numbers(text: str, where: str) -> list[int]:
    """Read whole numbers above 0 between commas."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise BadParameter(f'{where}: wanted whole numbers between commas, such as "4,16"')
    return sorted(set(found))
