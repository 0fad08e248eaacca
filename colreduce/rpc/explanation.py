"""An explanation to and from its message."""

from __future__ import annotations

from collections.abc import Iterable

from colreduce.results import Explanation, Match, Token
from colreduce.rpc.v1 import search_pb2

# Fields that are the same on both sides, and those of them that may be missing.
SAME = ("id", "score", "traced")
OPTIONAL = ("query", "text", "likeness")


def to_explanation(told: Explanation, generation: int) -> search_pb2.ExplainResponse:
    """Write an explanation and the generation that it was read from."""
    return search_pb2.ExplainResponse(
        matches=[_match(one) for one in told.matches],
        query_tokens=[_token(one) for one in told.query_tokens],
        tokens=[_token(one) for one in told.tokens],
        grid=_patch(told.grid),
        notes=told.notes,
        generation=generation,
        **{name: getattr(told, name) for name in (*SAME, *OPTIONAL)},
    )


def from_explanation(message: search_pb2.ExplainResponse) -> Explanation:
    """Read what `to_explanation` wrote."""
    return Explanation(
        matches=tuple(_read_match(one) for one in message.matches),
        query_tokens=_read_tokens(message.query_tokens),
        tokens=_read_tokens(message.tokens),
        grid=_read_patch(message.grid) if message.HasField("grid") else None,
        notes=tuple(message.notes),
        **{name: getattr(message, name) for name in SAME},
        **{
            name: getattr(message, name) if message.HasField(name) else None  # type: ignore[arg-type]
            for name in OPTIONAL
        },
    )


def _match(one: Match) -> search_pb2.Match:
    return search_pb2.Match(
        query_tokens=one.query_tokens,
        vector=one.vector,
        tokens=one.tokens,
        share=one.share,
        unreduced=one.unreduced,
    )


def _read_match(one: search_pb2.Match) -> Match:
    unreduced = one.unreduced if one.HasField("unreduced") else None
    return Match(tuple(one.query_tokens), one.vector, tuple(one.tokens), one.share, unreduced)


def _token(one: Token) -> search_pb2.ExplainedToken:
    return search_pb2.ExplainedToken(
        position=one.position,
        text=one.text,
        span=None if one.span is None else search_pb2.Span(start=one.span[0], end=one.span[1]),
        patch=_patch(one.patch),
        special=one.special,
        vector=one.vector,
    )


def _read_tokens(tokens: Iterable[search_pb2.ExplainedToken]) -> tuple[Token, ...]:
    return tuple(
        Token(
            one.position,
            one.text if one.HasField("text") else None,
            (one.span.start, one.span.end) if one.HasField("span") else None,
            _read_patch(one.patch) if one.HasField("patch") else None,
            one.special,
            one.vector if one.HasField("vector") else None,
        )
        for one in tokens
    )


def _patch(place: tuple[int, int] | None) -> search_pb2.Patch | None:
    return None if place is None else search_pb2.Patch(row=place[0], column=place[1])


def _read_patch(patch: search_pb2.Patch) -> tuple[int, int]:
    return patch.row, patch.column
