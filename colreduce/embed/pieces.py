"""Where in a text each token that a model read stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

Span: TypeAlias = tuple[int, int]

# How far ahead a token is looked for when the tokenizer and the model disagree about the next one.
AHEAD = 16


class Aligner:
    """Lays the tokens that a model read along those that its tokenizer finds in the text.

    The two mostly agree. A model may put markers in, cut the end off, or fill up with masks; such
    tokens stand nowhere in the text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def spans(
        self, prompt: str, text: str, ids: Sequence[int], special: Sequence[bool]
    ) -> list[Span | None]:
        """Return the characters of ``text`` that each token stands for, None where it is none.

        prompt   what the model read in front of the text
        ids      the tokens that it read
        special  which of them are markers
        """
        if not getattr(self._tokenizer, "is_fast", False):
            return [None] * len(ids)  # slow tokenizers do not say where their tokens stand
        found = self._tokenizer(
            prompt + text, return_offsets_mapping=True, truncation=False, verbose=False
        )
        theirs, offsets = found["input_ids"], found["offset_mapping"]
        spans: list[Span | None] = []
        at = 0
        for number, marks in zip(ids, special, strict=True):
            place = _next(theirs, at, number, 1 if marks else AHEAD)
            span = None if place is None else _inside(offsets[place], len(prompt), text)
            spans.append(span)
            at = at if place is None else place + 1
        return spans


def _next(tokens: Sequence[int], start: int, wanted: int, ahead: int) -> int | None:
    """Return where ``wanted`` comes next, if it comes within ``ahead`` tokens."""
    for place in range(start, min(start + ahead, len(tokens))):
        if tokens[place] == wanted:
            return place
    return None


def _inside(offsets: Sequence[int], shift: int, text: str) -> Span | None:
    """Return a span in the text itself, without spaces at its ends; None for an empty one."""
    start, end = max(int(offsets[0]) - shift, 0), int(offsets[1]) - shift
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return (start, end) if start < end else None
