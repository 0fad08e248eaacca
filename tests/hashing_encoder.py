"""An encoder for tests: one vector per word, drawn from the word itself; quick and offline."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from colreduce.embed import Piece, Reading
from colreduce.ragged import Ragged


class HashingEncoder:
    """Every word becomes a fixed unit vector, between two that mark the ends of the text."""

    dim = 16

    def __init__(self, name: str = "hashing") -> None:
        self.identity: Mapping[str, Any] = {"name": name, "kind": "words", "dim": self.dim}
        self.vocabulary: Mapping[str, int] = {}
        self.encoded = 0  # documents encoded so far

    def documents(self, texts: Iterable[str], batch_size: int = 32) -> Iterator[Ragged]:
        stream = iter(texts)
        while some := list(islice(stream, batch_size)):
            self.encoded += len(some)
            words = [["<", *text.lower().split(), ">"] for text in some]
            ids = [
                torch.tensor(
                    [zlib.crc32(word.encode("utf-8", "surrogatepass")) % 9973 for word in one]
                )
                for one in words
            ]
            special = [torch.tensor([word in "<>" for word in one]) for one in words]
            yield Ragged.pack([self.vectors(one) for one in ids], token_ids=ids, special=special)

    def queries(self, texts: Sequence[str], batch_size: int = 32) -> list[Tensor]:
        return [batch.tokens for text in texts for batch in self.copy().documents([text])]

    def read(self, text: str, *, query: bool = False) -> Reading:
        words = [Piece(m[0].lower(), m.span(), False) for m in re.finditer(r"\S+", text)]
        [batch] = self.copy().documents([text])
        return Reading(batch, [Piece("<", None, True), *words, Piece(">", None, True)])

    def describe(self) -> str:
        return f"{self.identity['name']}: one vector per word, {self.dim}-d"

    def copy(self) -> HashingEncoder:
        return HashingEncoder(str(self.identity["name"]))

    def vectors(self, ids: Tensor) -> Tensor:
        rows = [
            torch.randn(self.dim, generator=torch.Generator().manual_seed(number))
            for number in ids.tolist()
        ]
        return torch.nn.functional.normalize(torch.stack(rows), dim=1)
