"""How much attention the last token of a text or page pays to every other one.

Only one row of one layer's attention is wanted. Asking a model for its attentions would fill the
memory with all rows of all layers, so the row is computed beside the usual attention, from the
queries and keys that this is given anyway: the vectors that come out are the same, bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

NAME = "colreduce_last_row"
LISTENER = "_colreduce_listener"


class LastRow:
    """Listens to the last layer of a model of transformers in which every token sees every other.

    Between `begin` and `end` one pass of the model is listened to.
    """

    def __init__(self, text: Any, attention: Any) -> None:
        """Use `listening`."""
        self._mask: Tensor | None = None
        self._weights: Tensor | None = None
        setattr(attention, LISTENER, self)
        text.set_attn_implementation(NAME)

    @classmethod
    def listening(cls, model: Any) -> LastRow | None:
        """Listen to a model for pages; None when its attention cannot be followed."""
        inner = getattr(model, "vlm", model)
        text = getattr(inner, "language_model", None) or getattr(inner, "text_model", None)
        layers = list(getattr(text, "layers", ()))
        whole = [
            layer
            for layer in layers
            if getattr(layer, "attention_type", "full_attention") == "full_attention"
        ]
        attention = None
        if whole:
            attention = getattr(whole[-1], "self_attn", None) or getattr(whole[-1], "attn", None)
        usual = getattr(getattr(text, "config", None), "_attn_implementation", None)
        known: LastRow | None = getattr(attention, LISTENER, None)
        if known is not None:  # this model was wrapped before
            return known
        if text is None or attention is None or usual != "sdpa":
            return None
        _register()
        return cls(text, attention)

    def begin(self, mask: Tensor) -> None:
        """Listen to the next pass, whose real tokens are marked [items, tokens]."""
        self._mask, self._weights = mask.bool(), None

    def end(self) -> Tensor | None:
        """Return what the last real token of each item paid, the mean over all heads.

        [items, tokens] float32; None when nothing was heard.
        """
        found, self._mask, self._weights = self._weights, None, None
        return found

    @torch.no_grad()
    def take(self, query: Tensor, key: Tensor, scaling: float) -> None:
        """Compute the row: query [b, heads, t, d], key [b, fewer heads, t, d]."""
        if self._mask is None or self._mask.shape != (len(key), key.shape[2]):
            return
        seen = self._mask.to(query.device)
        last = seen.shape[1] - 1 - seen.flip(1).int().argmax(1)
        row = query[torch.arange(len(query), device=query.device), :, last]  # [b, heads, d]
        keys = key.repeat_interleave(row.shape[1] // key.shape[1], dim=1)
        products = torch.einsum("bhd,bhtd->bht", row.float(), keys.float()) * scaling
        self._weights = products.masked_fill(~seen[:, None], -torch.inf).softmax(2).mean(1)


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **how: Any
) -> Any:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    listener = getattr(module, LISTENER, None)
    if listener is not None:
        scaling = how.get("scaling")
        listener.take(query, key, query.shape[-1] ** -0.5 if scaling is None else scaling)
    return sdpa_attention_forward(module, query, key, value, mask, **how)


def _register() -> None:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)
