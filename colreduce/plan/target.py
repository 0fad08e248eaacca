"""What a plan is asked for: how much of exact search to keep, in how many bytes, how fast."""

from __future__ import annotations

from dataclasses import dataclass

from colreduce.errors import BadInput
from colreduce.units import amount


@dataclass(frozen=True, slots=True)
class Target:
    """One bound or several, all of which must hold.

    keep       share of exact search's quality, such as 0.99
    max_bytes  bytes of the whole index for each document
    max_ms     milliseconds of a search, the median
    """

    keep: float | None = None
    max_bytes: float | None = None
    max_ms: float | None = None

    def __post_init__(self) -> None:
        if self.keep is None and self.max_bytes is None and self.max_ms is None:
            raise BadInput("wanted a bound: keep, max_bytes or max_ms", field="keep")
        if self.keep is not None and not 0 < self.keep <= 1:
            raise BadInput(
                f"keep={self.keep}: wanted a share of exact search's quality, above 0 and at "
                "most 1, such as 0.99",
                field="keep",
            )
        for name in ("max_bytes", "max_ms"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise BadInput(f"{name}={value}: wanted more than 0", field=name)

    def affords(self, bytes_per_doc: float, milliseconds: float) -> bool:
        """Say whether a cost is within the bounds."""
        small = self.max_bytes is None or bytes_per_doc <= self.max_bytes
        return small and (self.max_ms is None or milliseconds <= self.max_ms)

    def __str__(self) -> str:
        parts = []
        if self.keep is not None:
            parts.append(f"{100 * self.keep:.4g} % of exact search's quality")
        if self.max_bytes is not None:
            parts.append(f"at most {amount(self.max_bytes)} per document")
        if self.max_ms is not None:
            parts.append(f"at most {self.max_ms:g} ms for a search")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, float | None]:
        """Return plain values."""
        return {
            "keep": self.keep,
            "max_bytes_per_doc": self.max_bytes,
            "max_ms": self.max_ms,
        }
