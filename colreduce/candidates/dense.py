"""A single-vector text encoder as a first stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.candidates.base import Documents, Query
from colreduce.candidates.models import load_model
from colreduce.candidates.single import SingleVector
from colreduce.candidates.texts import document_texts, query_texts
from colreduce.method import State, parameter

# Texts encoded at a time.
BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Dense(SingleVector):
    """Compare one vector per text, made by a sentence encoder of its own.

    Needs the texts of documents and queries, and encodes every text a second time.
    """

    name = "dense"
    paper = "Reimers and Gurevych 2019, arXiv 1908.10084"
    when = "A good single-vector model of the domain is at hand and encoding twice is affordable."
    model: str = parameter(
        "sentence-transformers/all-MiniLM-L6-v2", "folder or hub id of a SentenceTransformer"
    )

    def documents(self, documents: Documents, state: State) -> Iterator[Tensor]:
        """Encode the documents' texts."""
        texts = document_texts(self.name, documents.texts)
        model = load_model("SentenceTransformer", self.model)
        for start in range(0, len(texts), BATCH):
            yield model.encode_document(
                texts[start : start + BATCH],
                convert_to_tensor=True,
                normalize_embeddings=True,
                show_progress_bar=False,
            ).float()

    def queries(self, queries: Sequence[Query], state: State) -> Tensor:
        """Encode the queries' texts."""
        texts = query_texts(self.name, queries)
        model = load_model("SentenceTransformer", self.model)
        encoded: Tensor = model.encode_query(
            texts,
            convert_to_tensor=True,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return encoded.to(torch.float32)
