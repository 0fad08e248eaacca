"""A teacher whose vectors are not reduced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from colreduce.errors import BadInput
from colreduce.method import parameter
from colreduce.train.objectives.base import About, Objective, Term


@dataclass(frozen=True, kw_only=True)
class Distill(Objective):
    """Follow a teacher that keeps all its vectors: rank the documents of a batch as it does."""

    name = "distill"
    paper = "Santhanam et al. 2022 (ColBERTv2), arXiv 2112.01488"
    when = "A reduced model shall lose as little as can be of one that is good already."
    teacher: str = parameter("", "model folder or hub id; empty for the model training starts from")
    weight: float = parameter(1.0, "weight of this part of the loss", above=0)
    scale: float = parameter(20.0, "one over the temperature of the teacher's scores", above=0)

    def term(self, about: About) -> Term:
        """Return the divergence of the model's scores from the teacher's, weighed."""
        return Following(self.teacher or about.start, self.weight, self.scale)


class Following:
    """The divergence from a teacher, which is loaded when it is first asked."""

    def __init__(self, teacher: str, weight: float, scale: float) -> None:
        self.name, self.weight, self.scale = teacher, weight, scale
        self._teacher: Any = None

    def __call__(self, scores: Tensor, features: Sequence[dict[str, Any]], model: Any) -> Tensor:
        """Return the weighed Kullback-Leibler divergence of ``scores`` [b, b * n]."""
        from colreduce.train.loss import encoded
        from colreduce.train.objectives.scoring import ColBert

        teacher = self._loaded(model)
        with torch.no_grad():
            wanted = ColBert(scale=self.scale).scoring()(encoded(teacher, features))
        divergence = kl_div(
            log_softmax(scores, 1), log_softmax(wanted, 1), reduction="batchmean", log_target=True
        )
        return self.weight * divergence

    def _loaded(self, model: Any) -> Any:
        if self._teacher is None:
            from colreduce.embed.sentence_transformer import load_encoder

            teacher = load_encoder(self.name, device=str(model.device)).model.float().eval()
            if teacher.tokenizer.get_vocab() != model.tokenizer.get_vocab():
                raise BadInput(
                    f"the teacher {self.name} has another vocabulary than the model that is "
                    "trained. Wanted a teacher with the same tokenizer.",
                    field="teacher",
                )
            self._teacher = teacher.requires_grad_(False)
        return self._teacher
