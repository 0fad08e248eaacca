"""Building a recipe's index in a temporary folder and measuring it: outcomes made anew."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from colreduce.evaluate.build import build_index
from colreduce.evaluate.collection import with_vectors
from colreduce.evaluate.embeddings import EmbeddingStore
from colreduce.evaluate.explained import explain_worst
from colreduce.evaluate.judge import Judge
from colreduce.evaluate.judged import Judged
from colreduce.evaluate.ledger import Ranking
from colreduce.evaluate.machine import gpu, machine
from colreduce.evaluate.outcomes import Outcome
from colreduce.evaluate.progress import Progress, cache_folder
from colreduce.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from colreduce.embed import Encoder


@contextmanager
def embedding_store(kept: bool) -> Iterator[EmbeddingStore]:
    """Open the folder of embeddings, or one that goes when it is left."""
    with EmbeddingStore(cache_folder() / "embeddings" if kept else None) as store:
        yield store


def measure(
    judged: Judged,
    encoder: Encoder | None,
    recipes: Sequence[Recipe],
    store: EmbeddingStore,
    *,
    metrics: Sequence[str],
    seed: int,
    device: str,
    batch_size: int,
    progress: Progress,
) -> Iterator[Outcome]:
    """Yield the outcome of every recipe on one collection."""
    collection = with_vectors(judged, encoder, store, batch_size=batch_size, progress=progress)
    judge = Judge(collection, metrics, seed=seed, device=resolved(device), progress=progress)
    judge.exact = _load_exact(store, judge)
    about = {**machine(), "threads": torch.get_num_threads(), "gpu": gpu()}
    for recipe in recipes:
        with tempfile.TemporaryDirectory(prefix="colreduce-") as folder:
            index, seconds = build_index(
                Path(folder) / "index",
                collection.corpus,
                recipe,
                encoder=collection.encoder,
                seed=seed,
                store_texts=collection.encoder is not None,  # so that losses can be explained
                progress=progress,
            )
            with index:
                row, run = judge.row(index, seconds)
                why = explain_worst(
                    index, judged.qrels, judged.queries, judge.exact_run, run, metrics[0]
                )
        _save_exact(store, judge)
        yield Outcome(row, run, judge.exact_run, about, why)


def resolved(device: str) -> str:
    """Return the device that ``auto`` stands for."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _exact_path(store: EmbeddingStore, judge: Judge) -> Path | None:
    if not judge.collection.key:
        return None
    name = hashlib.sha256(f"{judge.collection.key} {judge.depth}".encode()).hexdigest()
    return store.folder / f"exact-{name}.npz"


def _load_exact(store: EmbeddingStore, judge: Judge) -> Ranking | None:
    path = _exact_path(store, judge)
    if path is None or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = Ranking("exact", arrays["rows"], arrays["scores"])
    except (OSError, ValueError, KeyError):
        return None  # not whole; it is computed again and replaced
    shape = (len(judge.collection.query_ids), judge.depth)
    return found if found.rows.shape == found.scores.shape == shape else None


def _save_exact(store: EmbeddingStore, judge: Judge) -> None:
    path = _exact_path(store, judge)
    if path is None or judge.exact is None or path.is_file():
        return
    with tempfile.NamedTemporaryFile(dir=store.folder, prefix=".tmp-", delete=False) as file:
        np.savez(file, rows=judge.exact.rows, scores=judge.exact.scores)
    os.replace(file.name, path)
