"""One vector a word, and a gate that closes on words that never decide anything."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from colreduce.embed.sentence_transformer import word_starts
from colreduce.errors import BadInput
from colreduce.pooling import replaced
from colreduce.ragged import Ragged
from colreduce.reduce.merging import Groups, merge
from colreduce.train.modules.base import LearnedModule

# Words are told apart by a polynomial of their tokens' numbers, modulo 2 to the 64.
BASE = 1_000_003


class WordGate(LearnedModule):
    """Average the pieces of each word of a document, and scale it by a learned gate (ColBERTer).

    Args:
        width: The width of the vectors.
        gate: Scale every word by ``relu(w·v + b)`` and drop it where that is 0.
        repeats: Put all places at which a word occurs into one vector.

    ``opened`` is how far the gates stood open at the last call, on average: what a loss makes small
    so that words are dropped. Markers such as [CLS] are words of their own.
    """

    config_keys: ClassVar[list[str]] = ["width", "gate", "repeats"]

    def __init__(self, width: int, *, gate: bool = True, repeats: bool = True) -> None:
        super().__init__()
        self.width, self.gate, self.repeats = width, gate, repeats
        self.scale = nn.Linear(width, 1) if gate else None
        if self.scale is not None:
            nn.init.zeros_(self.scale.weight)
            nn.init.ones_(self.scale.bias)
        self.opened: Tensor | None = None
        self.register_buffer("starts", torch.zeros(0, dtype=torch.bool), persistent=False)
        self.register_buffer("markers", torch.zeros(0, dtype=torch.int64), persistent=False)

    def on_model_ready(self, model: Any) -> None:
        """Learn from the model's tokenizer where words begin."""
        tokenizer = model.tokenizer
        self.starts = word_starts(tokenizer).to(model.device)
        self.markers = torch.tensor(tokenizer.all_special_ids, device=model.device)

    def forward(self, features: dict[str, Any], task: str | None = None) -> dict[str, Any]:
        """Replace the vectors of documents by those of their words."""
        if task == "query":
            return features
        if "input_ids" not in features:
            raise BadInput(
                "words are made of tokens, and these vectors stand for none: WordGate comes before "
                "every other module that reduces",
                field="modules",
            )
        mask = features["attention_mask"].bool()
        ids, lengths = features["input_ids"][mask].long(), mask.sum(1)
        batch = Ragged(features["token_embeddings"][mask], lengths)
        words = merge(batch, Groups(self.words(batch, ids)), renormalise=True).batch
        if self.scale is not None:
            words = self._gated(words)
        return replaced(features, *words.pad())

    def words(self, batch: Ragged, ids: Tensor) -> Tensor:
        """Number the words of each document by the place of their first token: [t]."""
        marker = torch.isin(ids, self.markers)
        begins = self.starts[ids] | marker | (batch.positions == 0)
        begins |= torch.cat([marker.new_zeros(1), marker[:-1]])  # a marker ends a word
        word = begins.long().cumsum(0) - 1
        if not self.repeats:
            return _first_places(word, batch)
        places = torch.arange(len(ids), device=ids.device)
        within = places - places[begins][word]
        powers = torch.full_like(ids, BASE).cumprod(0)[within]
        spelt = torch.zeros_like(word).index_add_(0, word, (ids + 1) * powers)
        # The same spelling in another document is another word.
        pairs = torch.stack([batch.item_of, spelt[word]], dim=1)
        return _first_places(pairs.unique(dim=0, return_inverse=True)[1], batch)

    def _gated(self, words: Ragged) -> Ragged:
        assert self.scale is not None
        opening = self.scale(words.tokens).relu()[:, 0]
        self.opened = opening.mean()
        words = words.with_tokens(words.tokens * opening[:, None])
        with torch.no_grad():
            # Where every gate is shut, the first word stays: no document is without a vector.
            most = torch.zeros(len(words), dtype=opening.dtype, device=words.device)
            most.scatter_reduce_(0, words.item_of, opening, "amax")
            shut = (most <= 0)[words.item_of]
            kept = (opening > 0) | (shut & (words.positions == 0))
        return words.keep(kept)


def _first_places(numbers: Tensor, batch: Ragged) -> Tensor:
    """Replace each number by the place, in its document, at which it occurs first: [t]."""
    count = int(numbers.max()) + 1 if len(numbers) else 0
    first = torch.full((count,), len(numbers), device=numbers.device)
    return first.scatter_reduce_(0, numbers, batch.positions, "amin")[numbers]
