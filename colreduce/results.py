"""What a search returns, whether an index in this process answered it or a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Hit:
    """One document found, with its score and its metadata."""

    id: str
    score: float
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """A stored document as it can be had back."""

    id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    text: str | None = None
    vectors: Tensor | None = None
