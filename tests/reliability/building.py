"""Kills a batch build at random moments and goes on with it, until it is whole.

Half of the kills come at a random time, half right after a random operation of the disk, so that
the last steps, which take no time, have their share. Every build must end with the digest of one
that nobody disturbed, and begin no more pieces than there are pieces and kills.

    python -m tests.reliability.building --kills 100
"""

import argparse
import json
import logging
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

# Forking is safe in a process of one thread only, and BLAS starts its threads at import.
if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import torch
from colreduce_indexer.job import build
from colreduce_indexer.plan import Settings
from colreduce_indexer.progress import Silence
from colreduce_indexer.sources import open_source

from colreduce.index import Index
from colreduce.index.ledger import LEDGER
from colreduce.recipe import Recipe
from colreduce.store import fs, unfinished
from colreduce.store.manifest import generations
from tests.hashing_encoder import HashingEncoder
from tests.reliability.crash import exit_code, in_child_with

RECIPE = Recipe.parse("pca(dim=8) | window(size=2) | pq(parts=4, bits=4) | mean | bm25 | rrf")
DOCUMENTS, PIECE = 170, 8
WORDS = [f"word{n}" for n in range(14)]  # few, so that documents share some


@dataclass
class Figures:
    """What was counted. A failure is a build that ended otherwise, or did too much again."""

    runs: int = 0  # processes that were started
    kills: int = 0
    builds: int = 0  # that became whole
    again: int = 0  # pieces that were begun more than once
    at_the_end: int = 0  # kills when all pieces were there already
    failures: list[str] = field(default_factory=list)


class Pipe(Silence):
    """Tells of every piece that is begun, at once."""

    def __init__(self, send):
        self._send = send

    def event(self, kind, facts):
        if kind == "piece begun":
            os.write(self._send, b"p")


def corpus(path, seed):
    """Write documents of random words, one of which cannot be used."""
    draw = random.Random(seed)
    lines = [
        {"_id": f"d{n}", "text": " ".join(draw.choices(WORDS, k=draw.randint(3, 12)))}
        for n in range(DOCUMENTS)
    ]
    lines.insert(40, {"_id": "bad"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def build_once(source, out, send, crash_at=0):
    """Build, or go on building; dies after so many operations of the disk, if there is a number."""
    torch.set_num_threads(1)
    fs.SEAM.arm(crash_at=str(crash_at or ""))
    settings = Settings(recipe=RECIPE, batch_size=8, piece=PIECE, max_rejects=1)
    encoder = HashingEncoder()
    build(open_source(source, vectors=False), out, settings, encoder=encoder, teller=Pipe(send))
    os.write(send, f"operations {fs.SEAM.count}".encode())


def whole(folder, source):
    """Build without a disturbance; return the digest, how long it took, and its operations."""
    started = time.monotonic()
    child, receive = in_child_with(lambda send: build_once(source, folder / "whole", send))
    told = everything(receive)
    if exit_code(child) != 0:
        raise RuntimeError("the build that nobody disturbs fails")
    return digest_of(folder / "whole"), time.monotonic() - started, int(told.split()[-1])


def digest_of(out):
    with Index.open(out) as index:
        assert len(index) == DOCUMENTS
        assert index.describe()["ledger"]["documents"] == DOCUMENTS
        return index.view.snapshot.digest_without(LEDGER)


def everything(receive):
    data = b""
    while block := os.read(receive, 65536):
        data += block
    os.close(receive)
    return data.decode()


def campaign(folder: Path, kills, seed=1):
    """Kill builds until there were so many kills, and go on with every one until it is whole."""
    draw = random.Random(seed)
    figures = Figures()
    source = corpus(folder / "docs.jsonl", seed)
    expected, seconds, operations = whole(folder, source)
    pieces = -(-DOCUMENTS // PIECE)
    while figures.kills < kills or figures.builds == 0:
        out = folder / f"idx{figures.builds}"
        before, begun = figures.kills, 0
        while True:
            killing = figures.kills < kills
            by_time = killing and draw.random() < 0.5
            point = draw.randint(1, operations) if killing and not by_time else 0
            child, receive = in_child_with(
                lambda send, out=out, point=point: build_once(source, out, send, point)
            )
            if by_time:
                time.sleep(draw.uniform(0, seconds))
                os.kill(child, signal.SIGKILL)
            told, code = everything(receive), exit_code(child)
            figures.runs += 1
            begun += told.count("p") - told.count("operations")
            if code == 0:
                break
            if code != -signal.SIGKILL:
                figures.failures.append(f"{out.name}: exit code {code}")
                return figures
            figures.kills += 1
            figures.at_the_end += len(list((out / "building").glob("piece-*"))) == pieces
            if generations(out) and unfinished(out) is None:
                break  # killed while it cleared away what was needed no longer
        figures.builds += 1
        again = max(begun - pieces, 0)
        figures.again += again
        if again > figures.kills - before + 1:
            figures.failures.append(f"{out.name}: {again} pieces again")
        if digest_of(out) != expected:
            figures.failures.append(f"{out.name}: another index")
        fs.rmtree(out)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        figures = campaign(Path(folder), options.kills, options.seed)
    sys.stdout.write("\n" + json.dumps(vars(figures)) + "\n")
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
