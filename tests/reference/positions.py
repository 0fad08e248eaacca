"""Selectors by position, written out: each returns the positions that stay, ascending."""

from __future__ import annotations


def first(length: int, size: int) -> list[int]:
    return list(range(size))


def last(length: int, size: int) -> list[int]:
    return list(range(length - size, length))


def stride(length: int, size: int) -> list[int]:
    """Run i of m starts at the first position that is at least i * n / m."""
    return [-(-run * length // size) for run in range(size)]


def random(length: int, size: int, seed: int) -> list[int]:
    document = scramble(scramble(seed) + length)
    draws = [(_signed(scramble(document + place)), -place) for place in range(length)]
    return sorted(-place for _, place in sorted(draws, reverse=True)[:size])


def scramble(number: int) -> int:
    """splitmix64 in whole numbers without a sign."""
    bits = (1 << 64) - 1
    mixed = (number + 0x9E3779B97F4A7C15) & bits
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & bits
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & bits
    return mixed ^ (mixed >> 31)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number
