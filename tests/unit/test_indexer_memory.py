"""A build takes no more memory for five times the documents; measured from outside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TOKENS, DIM = 32, 64

# The most that five times the documents may add: they are 8 bytes an id, and noise.
MORE = 48 << 20

PROGRAM = """
import json, resource, sys
from pathlib import Path
import torch
from colreduce.recipe import Recipe
from colreduce_indexer.job import build
from colreduce_indexer.plan import Settings
from colreduce_indexer.sources import open_source

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

settings = Settings(recipe=Recipe.parse(sys.argv[3]), memory=256_000_000, ledger=False)
before = most()
built = build(open_source(sys.argv[1], vectors=True), Path(sys.argv[2]), settings)
print(json.dumps({"before": before, "most": most(), "documents": built.description["documents"]}))
"""


def vectors(folder: Path, files: int, each: int = 2000) -> Path:
    """Write files of vectors; a file's ids are read at once, so there are many of them."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(files):
        np.savez(
            folder / f"{number:03}.npz",
            doc_ids=np.array([f"d{number}-{i}" for i in range(each)]),
            doclens=np.full(each, TOKENS, np.int32),
            doc_vectors=draw.normal(size=(each * TOKENS, DIM)).astype(np.float16),
        )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        "window(size=4) | int8 | mean | maxsim",
        'window(size=4) | int8 | fde(bits=5, repetitions=10, store="fp16") | maxsim',
    ],
)
def test_five_times_the_documents_take_no_more_memory(tmp_path: Path, recipe: str):
    most = {}
    for files in (2, 10):
        source = vectors(tmp_path / f"v{files}", files)
        command = [sys.executable, "-c", PROGRAM, str(source), str(tmp_path / f"i{files}"), recipe]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        figures = json.loads(done.stdout)
        assert figures["documents"] == 2000 * files
        most[files] = figures["most"]
        assert figures["most"] - figures["before"] < 400 << 20
    assert most[10] - most[2] < MORE, most
