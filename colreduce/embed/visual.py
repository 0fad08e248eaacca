"""Encoders of pages: a page's picture in, one vector for each of its patches out.

ColPali, ColQwen2, ColModernVBert and their kin as transformers has them, loaded by
sentence-transformers. They read documents as pictures and queries as text. What comes out of them
is laid out as everything else here expects it: patches row by row, with the grid's shape, and the
tokens of the prompt around them marked as special.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from colreduce.embed.attention import LastRow
from colreduce.embed.base import PAGES, Reading
from colreduce.embed.sentence_transformer import SentenceTransformerEncoder
from colreduce.errors import BadInput
from colreduce.ragged import Ragged

if TYPE_CHECKING:
    from PIL.Image import Image

# Pictures in memory at a time; a page as a model sees it takes some megabytes.
TOGETHER = 4

# What stands before the patches of one tile of a page that is cut into tiles.
_TILE = re.compile(r"<row_(\d+)_col_(\d+)>")


@dataclass(frozen=True, slots=True)
class Layout:
    """How the tokens of a page are to stand: their order, and where in it the grid is.

    patches  [t] bool, in the new order: what is a part of the page and not of the prompt
    """

    order: Tensor
    patches: Tensor
    first: int
    rows: int
    columns: int


class VisualEncoder(SentenceTransformerEncoder):
    """A `MultiVectorEncoder` that reads pages as pictures."""

    def __init__(self, model: Any, *, name: str, source: str | None = None) -> None:
        super().__init__(model, name=name, kind=PAGES, source=source)
        processor = model.processor
        self._image_token = int(
            processor.tokenizer.convert_tokens_to_ids(getattr(processor, "image_token", "<image>"))
        )
        # Cells of the model's vision tower that become one patch, along each side.
        self._merged = int(getattr(processor.image_processor, "merge_size", 1))
        self._attention = LastRow.listening(model[0].model)

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Return nothing: the vectors of a page stand for no words."""
        return {}

    def describe(self) -> str:
        """Say which kind of model it is."""
        return f"{self.name}: {self.kind}, {self.dim}-d"

    def pages(self, pictures: Iterable[Image], batch_size: int = TOGETHER) -> Iterator[Ragged]:
        """Encode pages in their order, a few at a time, whatever ``batch_size`` says."""
        stream = iter(pictures)
        while some := list(itertools.islice(stream, min(batch_size, TOGETHER))):
            vectors = self._pages(some)
            some.clear()  # before the next ones are asked for
            yield vectors

    def documents(self, texts: Iterable[str], batch_size: int = 32) -> Iterator[Ragged]:
        """Refuse: the documents of such a model are pictures."""
        raise BadInput(
            f"{self.name} reads pages as pictures, and text only in queries. Index a folder of "
            "PDFs or pictures, or choose an encoder of text.",
            field="documents",
        )

    def queries(self, texts: Sequence[str], batch_size: int = 32) -> list[Tensor]:
        """Encode queries, each on the CPU in float32."""
        found: list[Tensor] = []
        for start in range(0, len(texts), batch_size):
            for item in self._asked(texts[start : start + batch_size]):
                found.append(_unit(item["token_embeddings"][item["attention_mask"].bool()]).cpu())
        return found

    def read(self, text: str, *, query: bool = False) -> Reading | None:
        """Encode a query and say what each of its vectors stands for; None for documents."""
        return self._reading(self._asked([text]), text, "query") if query else None

    def _asked(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Return what the model makes of queries."""
        return self._passed(self.model.processor.process_queries(list(texts)), "text", "query")

    def _pages(self, pictures: Sequence[Image]) -> Ragged:
        raw = self._raw(pictures)
        tokens, special, grids, weights = [], [], [], []
        for item in raw:
            mask = item["attention_mask"].bool()
            layout = self._layout(item["input_ids"][mask].cpu(), item.get("image_grid_thw"))
            tokens.append(_unit(item["token_embeddings"][mask])[layout.order])
            special.append(~layout.patches)
            grids.append(torch.tensor([layout.first, layout.rows, layout.columns]))
            if item["importance"] is not None:
                # What the prompt is worth says nothing of the page.
                weighed = item["importance"][mask].cpu()[layout.order]
                weights.append(weighed.masked_fill(~layout.patches, 0.0))
        importance = weights if len(weights) == len(raw) else None
        return Ragged.pack(tokens, special=special, grid=grids, importance=importance)

    def _raw(self, pictures: Sequence[Image]) -> list[dict[str, Any]]:
        """Return what the model makes of each page, and the attention that was paid to it."""
        features = self.model.processor.process_images(list(pictures))
        if self._attention is not None:
            self._attention.begin(features["attention_mask"])
        items = self._passed(features, "image", "document")
        weights = None if self._attention is None else self._attention.end()
        return [
            {**item, "importance": None if weights is None else weights[row]}
            for row, item in enumerate(items)
        ]

    def _passed(self, features: Mapping[str, Any], kind: str, task: str) -> list[dict[str, Any]]:
        """Run what the processor made of some items through the model; return item by item.

        The processor's own functions for pages and queries are asked, for its general one leaves
        the prompt out in some of these models.
        """
        self.model.eval()
        placed = {
            name: value.to(self.model.device) if isinstance(value, Tensor) else value
            for name, value in features.items()
        }
        with torch.inference_mode():
            found = self.model({**placed, "modality": kind}, task=task)
        names = ("token_embeddings", "attention_mask", "input_ids", "image_grid_thw")
        parts = {name: found[name] for name in names if name in found}
        count = len(parts["input_ids"])
        return [{name: part[row] for name, part in parts.items()} for row in range(count)]

    def _layout(self, ids: Tensor, shape: Tensor | None) -> Layout:
        """Find the patches among the tokens of a page [t]."""
        runs = _runs(ids == self._image_token)
        every = torch.arange(len(ids))
        patches = ids == self._image_token
        if len(runs) == 1:
            start, count = runs[0]
            rows = columns = math.isqrt(count)
            if shape is not None:
                _, rows, columns = (int(side) for side in shape.flatten()[-3:])
                rows, columns = rows // self._merged, columns // self._merged
            if rows * columns != count:
                start = rows = columns = 0
            return Layout(every, patches, start, rows, columns)
        names = self._tokenizer().convert_ids_to_tokens(ids.tolist())
        order = _tiled(names, runs)
        if order is None:
            return Layout(every, patches, 0, 0, 0)
        grid, rows, columns = order
        others = every[~torch.isin(every, grid)]
        whole = torch.cat([grid, others])
        return Layout(whole, patches[whole], 0, rows, columns)

    def _prompt(self, task: str) -> str:
        """Return what the processor writes before a query."""
        return str(getattr(self.model.processor, "query_prefix", "") or "")


def _unit(vectors: Tensor) -> Tensor:
    """Return vectors as float32 and of unit length, which in bfloat16 is not quite theirs."""
    return torch.nn.functional.normalize(vectors.float(), dim=1)


def takes_pages(model: Any) -> bool:
    """Say whether a `MultiVectorEncoder` reads its documents as pictures."""
    architectures = getattr(getattr(model[0], "config", None), "architectures", None) or ()
    retrieval = any(str(one).endswith("ForRetrieval") for one in architectures)
    return retrieval and hasattr(model.processor, "image_processor")


def _runs(mask: Tensor) -> list[tuple[int, int]]:
    """Return where each run of true values starts, and how long it is."""
    edges = torch.diff(mask.int(), prepend=torch.zeros(1, dtype=torch.int32),
                       append=torch.zeros(1, dtype=torch.int32))  # fmt: skip
    starts, ends = torch.nonzero(edges == 1).flatten(), torch.nonzero(edges == -1).flatten()
    return list(zip(starts.tolist(), (ends - starts).tolist(), strict=True))


def _tiled(names: Sequence[str], runs: Sequence[tuple[int, int]]) -> tuple[Tensor, int, int] | None:
    """Return the patches of a page cut into tiles in the order of the page, its rows and columns.

    The model reads tile after tile, and then the whole page once more, small.
    """
    tiles: dict[tuple[int, int], int] = {}
    for start, _ in runs:
        found = _TILE.fullmatch(names[start - 1]) if start else None
        if found is not None:
            tiles[int(found[1]), int(found[2])] = start
    down, across = (max((place[axis] for place in tiles), default=0) for axis in (0, 1))
    side = math.isqrt(runs[0][1]) if runs else 0
    square = all(count == side * side for _, count in runs)
    if not tiles or len(tiles) != down * across or not square:
        return None
    rows = torch.arange(down * side)[:, None]
    columns = torch.arange(across * side)[None]
    starts = torch.tensor(
        [[tiles[row + 1, column + 1] for column in range(across)] for row in range(down)]
    )
    places = starts[rows // side, columns // side] + rows % side * side + columns % side
    return places.flatten(), down * side, across * side
