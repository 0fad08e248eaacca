"""What modules with weights of their own share: how they are saved, loaded, and seen by others."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import torch
from sentence_transformers.base.modules import Module
from torch import Tensor

from colreduce.pooling import replaced

# Vectors shorter than this have no direction.
NOTHING = 1e-6


class LearnedModule(Module):  # type: ignore[misc]
    """A module with weights and settings of its own."""

    config_keys: ClassVar[list[str]] = []
    forward_kwargs: ClassVar[set[str]] = {"task"}

    def save(self, output_path: str, *args: Any, **options: Any) -> None:
        """Write settings and weights."""
        self.save_config(output_path)
        self.save_torch_weights(output_path)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **options: Any,
    ) -> Self:
        """Read settings and weights."""
        where = {
            "subfolder": subfolder,
            "token": token,
            "cache_folder": cache_folder,
            "revision": revision,
            "local_files_only": local_files_only,
        }
        config = cls.load_config(model_name_or_path=model_name_or_path, **where)
        made = cls(**{key: value for key, value in config.items() if key in cls.config_keys})
        loaded: Self = cls.load_torch_weights(model_name_or_path, model=made, **where)
        return loaded


class Fewer(LearnedModule):
    """A learned module that leaves documents with fewer vectors, and queries as they are."""

    def forward(self, features: dict[str, Any], task: str | None = None) -> dict[str, Any]:
        """Replace the vectors of documents, and their mask."""
        if task == "query":
            return features
        vectors, mask = features["token_embeddings"], features["attention_mask"].bool()
        return replaced(features, *self.few(vectors * mask[:, :, None], mask))

    @abstractmethod
    def few(self, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return fewer vectors [b, m, d] and their mask for [b, t, d], 0 where unmasked."""


def directed(vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Scale vectors to unit length; those without a direction are masked."""
    norms = vectors.norm(dim=-1)
    kept = mask & (norms > NOTHING)
    safe = torch.where(kept, norms, torch.ones_like(norms))
    return torch.where(kept[..., None], vectors / safe[..., None], 0.0), kept
