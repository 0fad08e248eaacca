"""Text encoders of a few hundred numbers, saved to a folder: one lookup per word, no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

WORDS = ["[UNK]", "[PAD]", "shared", *(f"w{number}" for number in range(128))]


def word_tokenizer() -> Any:
    """Return a fast tokenizer that splits at spaces and knows `WORDS`."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    plain.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="[UNK]", pad_token="[PAD]", model_max_length=64
    )


def save_dense(folder: Path, dim: int = 24) -> str:
    """Save a SentenceTransformer that averages one random vector per word."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    weights = np.random.default_rng(0).standard_normal((len(WORDS), dim)).astype(np.float32)
    weights[WORDS.index("shared")] *= 0.2
    tokenizer = word_tokenizer()
    module = StaticEmbedding(tokenizer.backend_tokenizer, embedding_weights=weights)
    SentenceTransformer(modules=[module], device="cpu").save(str(folder))
    return str(folder)


def save_sparse(folder: Path) -> str:
    """Save a SparseEncoder that gives every word of a text the weight 1."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding

    module = SparseStaticEmbedding(tokenizer=word_tokenizer())
    SparseEncoder(modules=[module], device="cpu").save(str(folder))
    return str(folder)


def save_late_interaction(folder: Path, dim: int = 16) -> str:
    """Save a transformer of one layer with random weights, which is read token by token."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=dim,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * dim,
        max_position_embeddings=64,
        pad_token_id=WORDS.index("[PAD]"),
    )
    BertModel(config).save_pretrained(str(folder))
    word_tokenizer().save_pretrained(str(folder))
    return str(folder)
