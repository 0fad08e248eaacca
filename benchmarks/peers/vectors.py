"""The vectors that all peers get: one collection, encoded, shortened to 128 numbers, on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks import common
from colreduce.embed import load_encoder
from colreduce.evaluate.collection import load_collection
from colreduce.evaluate.embeddings import EmbeddingStore, cache_folder
from colreduce.evaluate.scoring import dense, score_all
from colreduce.pipeline import Pipeline
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe

PREPARE = "pca(dim=128)"
SAMPLE, SEED, DEPTH = 512, 0, 10
BLOCK_TOKENS = 1 << 17


@dataclass(frozen=True)
class Given:
    """What every peer gets, and by what it is judged."""

    folder: Path
    ids: list[str]
    query_ids: list[str]
    qrels: dict[str, dict[str, int]]
    exact: list[list[int]]  # the best rows of every query by exact MaxSim over these vectors
    tokens: int

    def __len__(self) -> int:
        return len(self.ids)


def given(name: str) -> Given:
    """Return a collection's vectors; they are made and written the first time."""
    folder = cache_folder() / "peers" / "vectors" / name
    if not (folder / "judged.json").exists():
        _write(name, folder)
    told: dict[str, Any] = json.loads((folder / "judged.json").read_text(encoding="utf-8"))
    return Given(folder, **told)


def _write(name: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    encoder = load_encoder(common.encoder_folder())
    with EmbeddingStore(cache_folder() / "embeddings") as store:
        found = load_collection(common.data("beir", name), encoder, store)
        whole = found.corpus.embeddings
        draw = torch.Generator().manual_seed(SEED)
        chosen = torch.randperm(len(whole), generator=draw)[:SAMPLE].sort().values.tolist()
        pipeline = Pipeline.fit(Recipe.parse(PREPARE), whole.take(chosen), seed=SEED)
        blocks = [pipeline.transform(block) for _, block in whole.blocks(BLOCK_TOKENS)]
    documents = Ragged(
        torch.cat([block.tokens for block in blocks]), torch.cat([b.lengths for b in blocks])
    )
    queries = Ragged(pipeline.query(found.queries.tokens), found.queries.lengths)
    for which, batch in (("documents", documents), ("queries", queries)):
        tensors = {"vectors": batch.tokens.contiguous(), "lengths": batch.lengths.long()}
        save_file(tensors, folder / f"{which}.safetensors")
    texts = [record.text for record in (found.corpus.records or list)()]
    _dump(folder / "documents.json", texts)
    _dump(folder / "queries.json", list(found.query_texts))
    scores = score_all(queries, documents.lengths.numpy(), dense(documents.tokens))
    judged = {
        "ids": list(found.corpus.ids),
        "query_ids": list(found.query_ids),
        "qrels": found.qrels,
        "exact": np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH].tolist(),
        "tokens": len(documents.tokens),
    }
    _dump(folder / "judged.json", judged)


def _dump(file: Path, content: Any) -> None:
    working = file.with_suffix(".tmp")
    working.write_text(json.dumps(content), encoding="utf-8")
    working.replace(file)
