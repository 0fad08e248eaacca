"""Make the golden index of the present format again and print what moved.

    python -m tests.golden.rewrite

Folders of older formats are never touched: every index that was ever released must open. A file
that moved without a change of `colreduce.store.layout.FORMAT` needs a line in CHANGELOG.md.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from colreduce import Hit, Index
from colreduce.store.layout import BALLAST, CATALOGUE, FORMAT, LOCK

HERE = Path(__file__).parent
RECIPE = "pca(dim=6) | ward(factor=2) | int8 | fde(bits=2, repetitions=2, inner_dim=4) | maxsim"
DIM = 8
QUERIES = 3
ANSWERS = "answers.json"

# What an index makes again when it is missing.
LEFT_OUT = (LOCK, BALLAST, CATALOGUE, f"{CATALOGUE}-journal")


def documents(count: int, first: int) -> list[Tensor]:
    """Return matrices whose numbers follow from a formula, not from anybody's random numbers."""
    made = []
    for item in range(first, first + count):
        tokens = torch.arange(3 + 2 * (item % 4))[:, None] + 1
        columns = torch.arange(DIM)[None] + 1
        waves = torch.sin(1.7 * tokens * columns + 0.9 * item) + 0.3 * torch.cos(tokens + item)
        made.append(torch.nn.functional.normalize(waves.float(), dim=1))
    return made


def build(folder: Path) -> None:
    """Write the golden index and its answers."""
    with Index.create(folder, recipe=RECIPE, dim=DIM, store_assignment=True) as index:
        names = [f"d{number}" for number in range(8)]
        index.add(names, embeddings=documents(8, 0), metadata=[{"n": n} for n in range(8)])
        index.add(["d1", "ü"], ["one", "zwei"], embeddings=documents(2, 8))  # d1 anew
        found = [hits(index.search(query, k=4)) for query in documents(QUERIES, 20)]
        stored = index.get(["d1", "ü", "d5"], vectors=True)
        answers = {
            "hits": found,
            "texts": {one.id: one.text for one in stored},
            "vectors": {one.id: rounded(one.vectors) for one in stored},
        }
    for name in LEFT_OUT:
        (folder / name).unlink(missing_ok=True)
    (folder / ANSWERS).write_text(json.dumps(answers, ensure_ascii=False, indent=1) + "\n")


def hits(found: list[Hit]) -> list[list[Any]]:
    """Return hits as JSON holds them."""
    return [[hit.id, round(hit.score, 5), dict(hit.metadata)] for hit in found]


def rounded(vectors: Tensor | None) -> list[list[float]]:
    """Return vectors as JSON holds them."""
    assert vectors is not None
    return [[round(number, 5) for number in row] for row in vectors.tolist()]


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def main() -> int:
    """Replace the golden index of the present format."""
    target = HERE / f"format-{FORMAT}"
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "index"
        build(made)
        before, after = digests(target), digests(made)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(made, target)
    moved = sorted(name for name in before | after if before.get(name) != after.get(name))
    for name in moved:
        verb = "new" if name not in before else "gone" if name not in after else "changed"
        sys.stdout.write(f"{verb:8}{target.name}/{name}\n")
    sys.stdout.write(f"{len(moved)} of {len(after)} files moved\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
