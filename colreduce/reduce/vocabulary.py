"""Which numbers of a tokenizer's vocabulary stand for given words, or for punctuation.

Knows the marks of the usual tokenizers: ``##`` before the continuation of a word (WordPiece),
``▁`` (SentencePiece) and ``Ġ`` (byte-level BPE) before its beginning.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

BEGINNINGS = ("▁", "Ġ")
CONTINUATION = "##"

# Words that hold a sentence together and say little of what it is about.
_ENGLISH = """
a about above after again against all also although always am among an and any anything are as at
be because been before being below between both but by can cannot could did do does doing done
down during each either else even ever every few for from further had has have having he her here
hers herself him himself his how however i if in into is it its itself just least less many may me
might mine more most much must my myself neither no nor not of off often on once one only onto or
other others our ours ourselves out over own per perhaps quite rather same several shall she
should since so some such than that the their theirs them themselves then there therefore these
they this those though through thus to too toward towards under unless until up upon us very was
we well were what when where whether which while who whom whose why will with within without would
yet you your yours yourself yourselves
"""
ENGLISH = tuple(_ENGLISH.split())


def numbers_of_words(vocabulary: Mapping[str, int], words: Iterable[str]) -> list[int]:
    """Return the numbers of the tokens that are one of ``words`` as a whole, in any case."""
    wanted = {word.lower() for word in words}
    mark = next((m for m in BEGINNINGS if any(token.startswith(m) for token in vocabulary)), "")
    found = []
    for token, number in vocabulary.items():
        begins = token.startswith(mark) if mark else not token.startswith(CONTINUATION)
        if begins and token[len(mark) :].lower() in wanted:
            found.append(number)
    return sorted(found)


def numbers_of_punctuation(vocabulary: Mapping[str, int]) -> list[int]:
    """Return the numbers of all tokens that hold punctuation and symbols only."""
    return sorted(number for token, number in vocabulary.items() if _is_punctuation(token))


def _is_punctuation(token: str) -> bool:
    if token in BEGINNINGS:  # a mark alone is a space
        return False
    for mark in (*BEGINNINGS, CONTINUATION):
        if token.startswith(mark) and len(token) > len(mark):
            token = token[len(mark) :]
            break
    return bool(token) and all(unicodedata.category(character)[0] in "PS" for character in token)
