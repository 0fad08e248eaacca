"""What a build says of itself: figures for people, events for machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

from colreduce.units import amount, seconds
from colreduce_indexer.stages import Clock, Cuts, Window

# Seconds between two events about the same work.
PAUSE = 1.0


class Teller(Protocol):
    """Whoever is told."""

    def progress(self, what: str, done: int, total: int, note: str = "") -> None:
        """Hear what is being done, how much of it, and of how much; 0 when nobody knows yet."""

    def event(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Hear a fact for machines."""

    def remark(self, text: str) -> None:
        """Hear a sentence for people."""


class Silence:
    """Tells nobody."""

    def progress(self, what: str, done: int, total: int, note: str = "") -> None:
        """Say nothing."""

    def event(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Say nothing."""

    def remark(self, text: str) -> None:
        """Say nothing."""


@dataclass
class Meter:
    """Counts what has gone through since this process began, and tells of it now and then.

    done   documents of pieces that were finished before
    bytes  what all finished pieces take on the disk
    loss   which share of exact search's best ten is lost so far, None where nobody looks
    """

    teller: Teller
    clock: Clock
    cuts: Cuts
    done: int
    bytes: int
    loss: float | None = None
    documents: int = 0
    vectors: int = 0
    begun: float = field(default_factory=perf_counter)
    _told: float = float("-inf")

    def window(self, window: Window) -> None:
        """Count documents that were written."""
        vectors = 0 if window.vectors is None else len(window.vectors.tokens)
        self.advanced(len(window.documents), vectors)

    def begun_piece(self, number: int) -> None:
        """Tell that somebody begins to make a piece."""
        self.teller.event("piece begun", {"piece": number})

    def advanced(self, documents: int, vectors: int) -> None:
        """Count documents that were written, and their vectors as encoded."""
        self.documents += documents
        self.vectors += vectors
        whole = self.done + self.documents >= self.cuts.documents
        if whole or perf_counter() - self._told >= PAUSE:
            self._told = perf_counter()
            facts = self.facts()
            self.teller.event("progress", facts)
            self.teller.progress("index", facts["documents"], facts["of"], self.note(facts))

    def piece(self, number: int, size: int) -> None:
        """Tell that a piece is kept."""
        self.bytes += size
        self.teller.event("piece", {"piece": number, "bytes": size, "loss": self.loss})

    def facts(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        taken = max(perf_counter() - self.begun, 1e-9)
        rate = self.documents / taken
        left = self.cuts.documents - self.done - self.documents
        spent = sum(self.clock.seconds.values()) or 1.0
        return {
            "documents": self.done + self.documents,
            "of": self.cuts.documents,
            "documents_per_second": rate,
            "vectors_per_second": self.vectors / taken,
            "seconds_left": left / rate if rate else None,
            "bytes": self.bytes,
            "shares": {stage: value / spent for stage, value in self.clock.seconds.items()},
            "loss": self.loss,
        }

    @staticmethod
    def note(facts: Mapping[str, Any]) -> str:
        """Return the figures in words."""
        shares = sorted(facts["shares"].items(), key=lambda pair: -pair[1])[:2]
        parts = [
            f"{facts['documents_per_second']:,.1f} documents/s",
            f"{facts['vectors_per_second']:,.0f} vectors/s",
            ", ".join(f"{stage} {share:.0%}" for stage, share in shares),
            amount(facts["bytes"]),
        ]
        if facts["loss"] is not None:
            parts.append(f"loss {facts['loss']:.1%} so far")
        if facts["seconds_left"]:
            parts.append(f"{seconds(facts['seconds_left'])} left")
        return "; ".join(parts)
