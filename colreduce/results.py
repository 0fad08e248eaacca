"""What a search returns, whether an index in this process answered it or a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
    """A stored document as it can be had back; ``picture`` is a page's, small and as WebP."""

    id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    text: str | None = None
    vectors: Tensor | None = None
    picture: bytes | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A vector as it was encoded, and what it stands for.

    position  its place among the vectors of its text or page
    text      the token as the tokenizer writes it; None when only vectors are known
    span      the characters of the text that it stands for: start and end
    patch     the row and the column of the page that it stands for
    special   whether it is a marker and stands for no part of the text
    vector    the stored vector that it went into; None when it was pruned. Documents only.
    """

    position: int
    text: str | None = None
    span: tuple[int, int] | None = None
    patch: tuple[int, int] | None = None
    special: bool = False
    vector: int | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """A vector of the query, and the stored vector that it met.

    query_tokens  positions of the query's tokens that it stands for: one, unless the recipe
                  shrinks queries
    vector        the number of the stored vector that is most like it
    tokens        positions of the document's tokens that were merged into that vector
    share         what it adds to the score: its product with that vector
    unreduced     what it would have added had the document been stored as it was encoded;
                  None when that is not known
    """

    query_tokens: tuple[int, ...]
    vector: int
    tokens: tuple[int, ...]
    share: float
    unreduced: float | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a document has its score: every vector of the query, and what it met.

    score         the document's exact score over its stored vectors: the sum of all shares
    matches       one for each vector of the query, in their order
    query_tokens  the query's tokens
    tokens        the document's tokens, or patches, as they were encoded
    query, text   the two texts that the spans count in; None for vectors
    traced        how it is known where every token went: "stored" with the document, "recomputed"
                  from its text, or "unreduced" when the recipe reduces nothing
    likeness      for "recomputed": the least cosine of a stored vector to the one computed again
    grid          rows and columns of a page
    notes         what could not be said, and why
    """

    id: str
    score: float
    matches: tuple[Match, ...]
    query_tokens: tuple[Token, ...]
    tokens: tuple[Token, ...]
    query: str | None = None
    text: str | None = None
    traced: str = "unreduced"
    likeness: float | None = None
    grid: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()

    @property
    def pruned(self) -> tuple[int, ...]:
        """Return the positions of the tokens that no stored vector stands for."""
        return tuple(token.position for token in self.tokens if token.vector is None)

    def spans(self, positions: Sequence[int], *, query: bool = False) -> list[tuple[int, int]]:
        """Return the characters that some tokens stand for, neighbours joined."""
        text, tokens = (self.query, self.query_tokens) if query else (self.text, self.tokens)
        found = sorted(span for one in positions if (span := tokens[one].span) is not None)
        joined: list[tuple[int, int]] = []
        for start, end in found:
            if joined and not (text or "")[joined[-1][1] : start].strip():
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        return joined

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        plain = asdict(self)
        return {**plain, "pruned": list(self.pruned)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Explanation:
        """Make it again from what `to_dict` returned, or from the JSON of that."""
        given = {**plain, "matches": tuple(Match(**_frozen(one)) for one in plain["matches"])}
        for name in ("query_tokens", "tokens"):
            given[name] = tuple(Token(**_frozen(one)) for one in plain[name])
        del given["pruned"]
        return cls(**_frozen(given))


def _frozen(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same with tuples where JSON has lists."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()
    }
