"""Encoders that sentence-transformers loads.

Three kinds of checkpoint come through here, and it matters which one it is:

* a late-interaction model (sentence-transformers' own, PyLate, Stanford ColBERT, ColPali and its
  kin): loaded as its authors meant it;
* a single-vector model with a trained projection: the projection is applied to every token;
* any other encoder: its token vectors as they come out of the transformer, scaled to unit length.

The last kind is a trap when it is loaded plainly: sentence-transformers then appends a projection
to 128 dimensions with random weights, for somebody to train. Used without training it throws away
most of what the model knows. Here such a checkpoint is put together without that projection.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import importlib.util
import itertools
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from colreduce.embed.base import Piece, Reading
from colreduce.embed.pieces import Aligner
from colreduce.errors import BadInput, MissingDependency
from colreduce.ragged import Ragged
from colreduce.threads import side_by_side

LATE_INTERACTION = "late-interaction model"
PROJECTED = "single-vector model whose trained projection is applied to every token"
PLAIN = "plain checkpoint whose token vectors are used as they are (zero-shot)"

# A plain checkpoint does not say how long its documents should be; quality and cost are known here.
PLAIN_MAX_TOKENS = 256

# Where the classes of modules are that `colreduce train` adds to a model.
OWN = "colreduce."

# Texts are sorted by length inside a window of so many batches, to waste little on padding.
WINDOW = 16

# A core takes fewer documents at a time: what the layers pass on then stays near the cache, and a
# batch has little padding.
ON_CPU = 8


class SentenceTransformerEncoder:
    """A `MultiVectorEncoder` behind the encoder's interface."""

    def __init__(self, model: Any, *, name: str, kind: str, source: str | None = None) -> None:
        self.model = model
        self.name = name
        self.kind = kind
        self.source = source  # where it can be loaded from again
        self._identity: dict[str, Any] | None = None
        self._starts: Tensor | None = None

    @property
    def dim(self) -> int:
        """Return the width of the vectors."""
        if (width := self.model.get_embedding_dimension()) is None:
            width = self.queries(["width"])[0].shape[1]
        return int(width)

    @property
    def max_tokens(self) -> int | None:
        """Return how many tokens of a document are read."""
        return getattr(self.model, "max_seq_length", None)

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Return the tokenizer's tokens and their numbers."""
        tokenizer = self._tokenizer()
        return dict(tokenizer.get_vocab()) if tokenizer is not None else {}

    @property
    def identity(self) -> Mapping[str, Any]:
        """Return the model's kind, width, length, prompts and the digest of its weights."""
        if self._identity is None:
            self._identity = {
                "name": self.name,
                "kind": self.kind,
                "dim": self.dim,
                "max_tokens": self.max_tokens,
                "prompts": dict(getattr(self.model, "prompts", {})),
                "sha256": _digest(self.model),
            }
        return self._identity

    def describe(self) -> str:
        """Say which kind of model it is."""
        return f"{self.name}: {self.kind}, {self.dim}-d, up to {self.max_tokens} tokens"

    def documents(self, texts: Iterable[str], batch_size: int = 32) -> Iterator[Ragged]:
        """Encode documents in their order, one window of batches at a time."""
        stream = iter(texts)
        while window := list(itertools.islice(stream, batch_size * WINDOW)):
            yield self._window(window, batch_size)

    def queries(self, texts: Sequence[str], batch_size: int = 32) -> list[Tensor]:
        """Encode queries, each on the CPU in float32."""
        if not texts:
            return []
        encoded = self.model.encode_query(
            list(texts), batch_size=batch_size, show_progress_bar=False
        )
        return [vectors.float().cpu() for vectors in encoded]

    def read(self, text: str, *, query: bool = False) -> Reading | None:
        """Encode one text and say what each of its vectors stands for."""
        encode = self.model.encode_query if query else self.model.encode_document
        raw = encode([text], show_progress_bar=False, output_value=None)
        return self._reading(raw, text, "query" if query else "document")

    def _reading(self, raw: list[dict[str, Tensor]], text: str, task: str) -> Reading | None:
        """Say what the vectors of one text stand for."""
        if self._tokenizer() is None or "input_ids" not in raw[0]:
            return None
        ids, mask = raw[0]["input_ids"].cpu(), raw[0]["attention_mask"].bool().cpu()
        special = torch.isin(ids, self._special(ids.device)).tolist()
        spans = Aligner(self._tokenizer()).spans(self._prompt(task), text, ids.tolist(), special)
        names = self._tokenizer().convert_ids_to_tokens(ids.tolist())
        pieces = [
            Piece(str(name), span, mark)
            for name, span, mark, kept in zip(names, spans, special, mask.tolist(), strict=True)
            if kept
        ]
        return Reading(self._packed(raw).to("cpu"), pieces)

    def _window(self, texts: list[str], batch_size: int) -> Ragged:
        if torch.device(self.model.device).type == "cpu":
            return self._packed(self._side_by_side(texts, min(batch_size, ON_CPU)))
        return self._packed(_encoded(self.model, texts, batch_size))

    def _side_by_side(self, texts: list[str], size: int) -> list[dict[str, Tensor]]:
        """Encode batches in several threads, each of which takes one core.

        The layers of a small model are short: cores that share every one of them wait for each
        other, and wait longer while other stages of a build want them, too.
        """
        order = sorted(range(len(texts)), key=lambda one: -len(texts[one]))
        found: list[dict[str, Tensor]] = [{}] * len(texts)
        model, turn = copy.copy(self.model), threading.Lock()

        def preprocess(*given: Any, **options: Any) -> Any:
            with turn:  # a tokenizer is not made for several threads
                return self.model.preprocess(*given, **options)

        def work(batch: list[int]) -> None:
            raw = _encoded(model, [texts[one] for one in batch], size)
            for one, item in zip(batch, raw, strict=True):
                found[one] = item

        model.preprocess = preprocess
        side_by_side([order[at : at + size] for at in range(0, len(order), size)], work, "encode")
        return found

    def _packed(self, raw: list[dict[str, Tensor]]) -> Ragged:
        """Lay texts as the model left them end to end, without what it says not to score."""
        masks = [item["attention_mask"].bool() for item in raw]
        tokens = [
            item["token_embeddings"][mask].float() for item, mask in zip(raw, masks, strict=True)
        ]
        if self._tokenizer() is None or "input_ids" not in raw[0]:
            return Ragged.pack(tokens)
        ids = [item["input_ids"][mask].long() for item, mask in zip(raw, masks, strict=True)]
        special = [torch.isin(one, self._special(one.device)) for one in ids]
        words = [self._words(one, mark) for one, mark in zip(ids, special, strict=True)]
        return Ragged.pack(tokens, token_ids=ids, word_ids=words, special=special)

    def _prompt(self, task: str) -> str:
        """Return what the model reads before a text."""
        prompts = getattr(self.model, "prompts", {})
        usual = prompts.get(getattr(self.model, "default_prompt_name", None))
        return str(prompts.get(task, usual) or "")

    def _tokenizer(self) -> Any:
        tokenizer = getattr(self.model, "tokenizer", None)
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # a processor carries one inside
        return tokenizer if hasattr(tokenizer, "get_vocab") else None

    def _special(self, device: torch.device) -> Tensor:
        prompts = " ".join(getattr(self.model, "prompts", {}).values())
        added = getattr(self._tokenizer(), "added_tokens_decoder", {})
        markers = [
            number for number, token in added.items() if str(token).strip() in prompts.split()
        ]
        return torch.tensor([*self._tokenizer().all_special_ids, *markers], device=device)

    def _words(self, ids: Tensor, special: Tensor) -> Tensor:
        """Number the words of a document by where they begin; -1 for special tokens."""
        if self._starts is None:
            self._starts = word_starts(self._tokenizer())
        starts = self._starts.to(ids.device)[ids] | special
        # What follows a special token begins a word, whatever its spelling says.
        starts = starts | torch.cat([special.new_ones(1), special[:-1]])
        words = (starts & ~special).cumsum(0) - 1
        return torch.where(special, -1, words)


def _encoded(model: Any, texts: list[str], batch_size: int) -> list[dict[str, Tensor]]:
    """Return what a model makes of documents, of each all that it says."""
    raw: list[dict[str, Tensor]] = model.encode_document(
        texts, batch_size=batch_size, show_progress_bar=False, output_value=None
    )
    return raw


def word_starts(tokenizer: Any) -> Tensor:
    """Say of every token of the vocabulary whether a word begins with it: [vocabulary] bool."""
    vocabulary = tokenizer.get_vocab()
    tokens = list(vocabulary)
    starts = torch.ones(max(vocabulary.values()) + 1, dtype=torch.bool)
    pieces = any(token.startswith("##") for token in tokens)
    marks = ("Ġ", "▁", "Ċ")
    spaced = any(token.startswith(marks) for token in tokens)
    for token, number in vocabulary.items():
        if pieces:
            starts[number] = not token.startswith("##")
        elif spaced:
            starts[number] = token.startswith(marks)
    return starts


def _digest(model: Any) -> str:
    """Hash the weights, so that two models of one name are told apart."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_encoder(
    model: Any, *, device: str = "auto", max_tokens: int | None = None
) -> SentenceTransformerEncoder:
    """Load a model folder or hub id, or wrap a `MultiVectorEncoder` that is loaded already.

    ``max_tokens`` overrides how many tokens of a document are read. A plain checkpoint reads
    256 unless it reads fewer by itself.
    """
    if isinstance(model, SentenceTransformerEncoder):
        return model
    try:
        from sentence_transformers import MultiVectorEncoder
    except ImportError as error:
        raise MissingDependency(
            "this sentence-transformers has no MultiVectorEncoder; "
            "install it with: pip install 'sentence-transformers>=6.2'"
        ) from error
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if isinstance(model, MultiVectorEncoder):
        name = str(getattr(model.model_card_data, "base_model", None) or "a loaded model")
        encoder = _wrapped(model, name, LATE_INTERACTION, None)
    elif isinstance(model, (str, Path)):
        encoder = _from_checkpoint(str(model), where)
    else:
        raise BadInput(
            f"wanted a model folder, a hub id or a MultiVectorEncoder, got {type(model).__name__}",
            field="encoder",
        )
    if max_tokens is not None:
        encoder.model.max_seq_length = max_tokens
    return encoder


def _from_checkpoint(path: str, device: str) -> SentenceTransformerEncoder:
    from sentence_transformers import MultiVectorEncoder
    from transformers.utils import logging

    logging.disable_progress_bar()
    kind = checkpoint_kind(path)
    local = Path(path).resolve() if Path(path).exists() else None
    name, source = ("/".join(local.parts[-2:]), str(local)) if local else (path, path)
    try:
        if kind != PLAIN:
            return _wrapped(_late_interaction(path, device), name, kind, source)
        model = MultiVectorEncoder(modules=_plain_modules(path), device=device)
    except (OSError, ValueError, ImportError) as error:
        if kind != PLAIN and importlib.util.find_spec("PIL") is None:
            raise MissingDependency(
                f"cannot load the encoder {path} ({error}). If it reads pages, it needs pillow: "
                "pip install 'colreduce[documents]'"
            ) from error
        raise BadInput(f"cannot load the encoder {path}: {error}", field="encoder") from error
    model.max_seq_length = min(model.max_seq_length or PLAIN_MAX_TOKENS, PLAIN_MAX_TOKENS)
    return SentenceTransformerEncoder(model, name=name, kind=PLAIN, source=source)


def _late_interaction(path: str, device: str) -> Any:
    """Load a late-interaction model. Modules of our own in it need no trust."""
    from sentence_transformers import MultiVectorEncoder

    types = [str(module.get("type", "")) for module in _config(path, "modules.json") or []]
    ours = {name: _own_module(name) for name in types if name.startswith(OWN)}
    if not ours:
        return MultiVectorEncoder(path, device=device)
    return MultiVectorEncoder._load_with_module_classes(path, ours, device=device)


def _own_module(name: str) -> Any:
    """Return the class of a module that `colreduce train` added to a model."""
    home, _, kind = name.rpartition(".")
    try:
        return getattr(importlib.import_module(home), kind)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"this version of colreduce has no module {name}") from error


def _wrapped(model: Any, name: str, kind: str, source: str | None) -> SentenceTransformerEncoder:
    """Wrap a loaded model; one that takes pictures for documents becomes an encoder of pages."""
    from colreduce.embed.visual import VisualEncoder, takes_pages

    if takes_pages(model):
        return VisualEncoder(model, name=name, source=source)
    return SentenceTransformerEncoder(model, name=name, kind=kind, source=source)


def _plain_modules(path: str) -> list[Any]:
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from sentence_transformers.sentence_transformer.modules import Normalize

    return [Transformer(path), MultiVectorMask(), Normalize("token_embeddings")]


def checkpoint_kind(path: str) -> str:
    """Tell from a checkpoint's configuration files which of the three kinds it is."""
    saved = _config(path, "config_sentence_transformers.json") or {}
    if saved.get("model_type") in ("MultiVectorEncoder", "ColBERT"):
        return LATE_INTERACTION
    config = _config(path, "config.json") or {}
    architectures = config.get("architectures") or []
    if any(name == "HF_ColBERT" or name.endswith("ForRetrieval") for name in architectures):
        return LATE_INTERACTION
    modules = _config(path, "modules.json") or []
    if any(str(module.get("type", "")).endswith(".Dense") for module in modules):
        return PROJECTED
    if not config and not modules:
        raise BadInput(
            f"{path} is neither a model folder nor a model of the hub that can be reached: "
            "it has no config.json and no modules.json",
            field="encoder",
        )
    return PLAIN


def _config(path: str, name: str) -> Any:
    """Read one configuration file of a local folder or of the hub; None when there is none."""
    local = Path(path)
    if local.is_dir():
        file = local / name
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    try:
        return json.loads(Path(hf_hub_download(path, name)).read_text(encoding="utf-8"))
    except EntryNotFoundError:
        return None
    except (RepositoryNotFoundError, HFValidationError, OSError) as error:
        raise BadInput(
            f"there is no model folder {path}, and the hub has no such model or cannot be "
            f"reached ({type(error).__name__})",
            field="encoder",
        ) from error
