"""Numbers written for people."""

from __future__ import annotations


def amount(count: float) -> str:
    """Write a number of bytes: 1,606 B, 270.9 kB, 1.4 GB."""
    if count < 10_000:
        return f"{count:,.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:,.1f} {unit}"
    return f"{count / 1000:,.1f} TB"


def seconds(value: float) -> str:
    """Write a time that may be long."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min"


def milliseconds(value: float) -> str:
    """Write a short time."""
    if value < 1:
        return f"{value:.2g} ms"
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"
