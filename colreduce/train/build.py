"""From a line of objectives to the model that is trained and the loss it is trained by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from colreduce.embed import reads_pages
from colreduce.embed.sentence_transformer import load_encoder
from colreduce.errors import BadInput, BadRecipe
from colreduce.pooling import RecipePooling
from colreduce.recipe import read_methods
from colreduce.train.loss import Lesson
from colreduce.train.modules import AttentionGroups, GroupMeans, Slots, WordGate
from colreduce.train.objectives import OBJECTIVES, About, Objective
from colreduce.train.objectives.projection import Projection

# Modules that leave fewer vectors. A model has one kind of them.
REDUCING = (AttentionGroups, GroupMeans, RecipePooling, Slots, WordGate)


@dataclass(frozen=True, slots=True)
class Pupil:
    """A model with the modules its objectives add, and its loss."""

    model: Any
    loss: Lesson
    objectives: tuple[Objective, ...]

    @property
    def line(self) -> str:
        """Return the objectives as one line."""
        return " | ".join(map(str, self.objectives))


def read_objectives(line: str) -> tuple[Objective, ...]:
    """Read a line of objectives, such as ``crisp(documents=32) | distill``."""
    found = tuple(read_methods(line, OBJECTIVES, "objective"))
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise BadRecipe(f"{line!r} names {name} twice")
    if {"colbert", "xtr"} <= set(names):
        raise BadRecipe(f"{line!r}: colbert and xtr are two ways to score; wanted one of them")
    return found


def build(start: str, line: str, *, device: str = "auto", max_tokens: int | None = None) -> Pupil:
    """Load a model, and add what its objectives ask for."""
    objectives = read_objectives(line)
    encoder = load_encoder(start, device=device, max_tokens=max_tokens)
    if reads_pages(encoder):
        raise BadInput(f"{start} reads pages; only models of texts are trained here", field="model")
    model = encoder.model.float()
    if encoder.max_tokens is None:
        raise BadInput(f"{start} does not say how many tokens it reads; wanted max_tokens")
    about = About(start, encoder.dim, encoder.max_tokens)
    return Pupil(*extended(model, objectives, about), objectives)


def extended(model: Any, objectives: Sequence[Objective], about: About) -> tuple[Any, Lesson]:
    """Return a model with the modules that objectives add, and the loss."""
    from sentence_transformers import MultiVectorEncoder

    modules = list(model)
    before = [type(one).__name__ for one in modules if isinstance(one, REDUCING)]
    # A head comes first whatever the line's order is: the others are told the width it gives.
    for one in sorted(objectives, key=lambda one: not isinstance(one, Projection)):
        modules = one.arrange(modules, about)
        about = one.after(about)
    if before and sum(isinstance(one, REDUCING) for one in modules) > len(before):
        raise BadInput(
            f"{about.start} reduces already, by {' and '.join(before)}, and would be reduced again "
            f"by {' | '.join(map(str, objectives))}. Train it further with colbert, or start from "
            "the encoder it came from.",
            field="objective",
        )
    if len(modules) > len(model):
        device, length = str(model.device), model.max_seq_length
        prompts = {key: text for key, text in model.prompts.items() if text}
        model = MultiVectorEncoder(
            modules=modules,
            device=device,
            prompts=prompts or None,
            similarity_fn_name=model.similarity_fn_name,
        )
        model.max_seq_length = length
    return model, Lesson(model, objectives, about)
