"""Encoders of pages: the real classes with a few thousand random numbers, saved to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = ("Question", "Query", "Describe", "the", "image", "user", "User", "Assistant", ":", ".",
         "tides", "bread", "moon", "yeast", "rises", "what", "page", "one", "two")  # fmt: skip


def _tokenizer(pad: str, markers: tuple[str, ...], **more: Any) -> Any:
    """Return a fast tokenizer that splits at spaces and marks, with these tokens besides."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Sequence, Split, Whitespace
    from transformers import PreTrainedTokenizerFast

    words = {word: n for n, word in enumerate(["<unk>", pad, "\n", *WORDS])}
    plain = Tokenizer(WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = Sequence([Split("\n", "isolated"), Whitespace()])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="<unk>", pad_token=pad, model_max_length=8192, **more
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(markers)})
    return tokenizer


def save_colpali(folder: Path, side: int = 8) -> str:
    """Save a ColPali that sees a page as ``side`` by ``side`` patches."""
    from transformers import ColPaliConfig, ColPaliForRetrieval, ColPaliProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    torch.manual_seed(0)
    tokenizer = _tokenizer("<pad>", (), bos_token="<bos>", eos_token="<eos>")
    pixels = 14 * side
    images = SiglipImageProcessorPil(
        size={"height": pixels, "width": pixels}, image_seq_length=side * side
    )
    images.image_seq_length = side * side
    processor = ColPaliProcessor(
        images, tokenizer, visual_prompt_prefix="Describe the image .", query_prefix="Question : "
    )
    text = {
        "model_type": "gemma", "vocab_size": len(tokenizer) + 8, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 4096,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": 24, "intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": pixels, "patch_size": 14,
        "vision_use_head": False, "projection_dim": 32,
    }  # fmt: skip
    config = ColPaliConfig(
        vlm_config={
            "model_type": "paligemma", "text_config": text, "vision_config": vision,
            "projection_dim": 32, "hidden_size": 32, "image_token_index": processor.image_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        embedding_dim=16,
    )  # fmt: skip
    return _saved(ColPaliForRetrieval(config), processor, folder)


def save_colqwen2(folder: Path, patches: int = 24) -> str:
    """Save a ColQwen2 that sees a page as at most so many patches, in the page's own shape."""
    from transformers import ColQwen2Config, ColQwen2ForRetrieval, ColQwen2Processor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    torch.manual_seed(0)
    markers = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
               "<|video_pad|>")  # fmt: skip
    tokenizer = _tokenizer("<|endoftext|>", markers)
    number = tokenizer.convert_tokens_to_ids
    images = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 28 * 28 * 2, "longest_edge": 28 * 28 * patches}
    )
    text = {
        "model_type": "qwen2_vl_text", "vocab_size": len(tokenizer) + 8, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1],
                            "rope_theta": 10000.0},
    }  # fmt: skip
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    config = ColQwen2Config(
        vlm_config={
            "model_type": "qwen2_vl", "text_config": text, "vision_config": vision,
            "image_token_id": number("<|image_pad|>"), "video_token_id": number("<|video_pad|>"),
            "vision_start_token_id": number("<|vision_start|>"),
            "vision_end_token_id": number("<|vision_end|>"),
        },
        embedding_dim=16,
    )  # fmt: skip
    return _saved(ColQwen2ForRetrieval(config), ColQwen2Processor(images, tokenizer), folder)


def save_colmodernvbert(folder: Path) -> str:
    """Save a ColModernVBert that cuts a page into tiles of 2 by 2 patches, up to 3 along a side."""
    from transformers import (
        ColModernVBertConfig,
        ColModernVBertForRetrieval,
        ColModernVBertProcessor,
    )
    from transformers.models.idefics3.image_processing_pil_idefics3 import (
        Idefics3ImageProcessorPil,
    )

    torch.manual_seed(0)
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    markers = ("<|begin_of_text|>", "<global-img>", *places)
    tokenizer = _tokenizer("<pad>", markers)
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 96}, max_image_size={"longest_edge": 32}
    )
    processor = ColModernVBertProcessor(images, tokenizer, image_seq_len=4)
    text = {
        "model_type": "modernbert", "vocab_size": len(tokenizer) + 8, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
        "max_position_embeddings": 4096, "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": 1, "eos_token_id": 1, "cls_token_id": 1, "sep_token_id": 1,
    }  # fmt: skip
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": 24, "intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    config = ColModernVBertConfig(
        vlm_config={
            "model_type": "modernvbert", "text_config": text, "vision_config": vision,
            "image_token_id": processor.image_token_id, "pixel_shuffle_factor": 2,
        },
        embedding_dim=16,
    )  # fmt: skip
    return _saved(ColModernVBertForRetrieval(config), processor, folder)


def _saved(model: Any, processor: Any, folder: Path) -> str:
    model.eval().save_pretrained(str(folder))
    processor.save_pretrained(str(folder))
    return str(folder)
