"""A head between the encoder and its vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from colreduce.method import parameter
from colreduce.train.objectives.base import About, Objective

KINDS = ("linear", "deep", "glu")


@dataclass(frozen=True, kw_only=True)
class Projection(Objective):
    """Learn a map of token vectors to another width: linear, deeper, or gated."""

    name = "projection"
    paper = "Simple Projection Variants, arXiv 2510.12327"
    when = "Narrower vectors from training; deeper heads where there is much data to train on."
    kind: str = parameter("linear", "linear, deep or glu (gated)", choices=KINDS)
    width: int = parameter(0, "width of the vectors; 0 leaves it", low=0)
    hidden: float = parameter(
        2.0, "width of the wider layer in multiples of the encoder's", above=0
    )
    residual: bool = parameter(True, "add the vector itself, or its projection")

    def after(self, about: About) -> About:
        """Return the model with its new width."""
        return replace(about, width=self.width or about.width)

    def arrange(self, modules: list[Any], about: About) -> list[Any]:
        """Put the head before the first module that scales or reduces vectors."""
        from colreduce.train.modules import Head

        head = Head(about.width, self.width or about.width, self.kind, self.hidden, self.residual)
        names = [type(module).__name__ for module in modules]
        place = names.index("Normalize") if "Normalize" in names else len(modules)
        return [*modules[:place], head, *modules[place:]]
