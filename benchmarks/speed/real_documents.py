"""A batch build of real documents, encoding included: memory, and documents a second.

    python -m benchmarks.speed.real_documents
    python -m benchmarks.speed.real_documents --no-ledger --limit 4000 --out without

The documents of SciFact, NFCorpus and MedQuAD are one JSONL file, mixed. The command `colreduce
index` builds an index of them with the recipe ``balanced``, in a process of its own whose memory is
asked of the system when it has ended. What the model takes by itself is the memory of a process
that only encodes one document in twenty. That is done before the build, after it, and every 160
seconds of it, while the build is stopped: a machine that is shared is not equally fast all the
time. Beside those documents a second stand those of the whole build, from the start of the command
to its end, without the stops.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import common
from colreduce.embed import load_encoder
from colreduce.evaluate.beir import BeirFolder

RECIPE, MEMORY = "balanced", "1.5GB"
EVERY = 20  # one document in so many is encoded to know the encoder's own rate
PAUSE = 160.0  # seconds of a build between two looks at the encoder alone
GOALS = {"share_beyond_encoding": 0.15, "bytes_beyond_model": 1.5e9}


def documents() -> Iterator[dict[str, str]]:
    """Yield all documents."""
    for name in ("scifact", "nfcorpus"):
        for record in BeirFolder(common.data("beir", name)).corpus():
            yield {"_id": f"{name}-{record.id}", "text": record.text}
    with gzip.open(common.data("train", "medquad_pairs.jsonl.gz"), "rt", encoding="utf-8") as lines:
        for line in lines:
            pair = json.loads(line)
            yield {"_id": f"medquad-{pair['_id']}", "text": pair["text"]}


def in_child(command: list[str]) -> tuple[float, int]:
    """Run a command; return its seconds and the most memory that it held, in bytes."""
    return with_looks(command, lambda: None)


def with_looks(command: list[str], look: Callable[[], None]) -> tuple[float, int]:
    """Run a command, stop it now and then to have a look; return its own seconds and its memory."""
    child, running, began = subprocess.Popen(command, cwd=common.ROOT), 0.0, perf_counter()
    while True:
        done, status, used = os.wait4(child.pid, os.WNOHANG)
        now = perf_counter()
        if done:
            break
        if now - began > PAUSE:
            child.send_signal(signal.SIGSTOP)
            running += now - began
            look()
            child.send_signal(signal.SIGCONT)
            began = perf_counter()
        time.sleep(0.02)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{command} failed")
    return running + now - began, used.ru_maxrss << 10


def encode(file: Path) -> float:
    """Encode one document in so many; return documents a second, loading the model apart."""
    texts = [json.loads(line)["text"] for line in file.open(encoding="utf-8")][::EVERY]
    encoder = load_encoder(common.encoder_folder())
    for _ in encoder.documents(texts[:64]):
        pass
    started = perf_counter()
    for _ in encoder.documents(texts):
        pass
    return len(texts) / (perf_counter() - started)


def encoding(file: Path, told: Path) -> dict[str, float]:
    """Encode in a process that does nothing else."""
    this = [sys.executable, "-m", "benchmarks.speed.real_documents", "--encode", str(file)]
    _, memory = in_child([*this, "--out", str(told)])
    return {"documents_per_s": float(told.read_text()), "memory": memory}


def measure(folder: Path, limit: int | None, ledger: bool) -> dict[str, Any]:
    """Build, between two looks at the encoder alone."""
    file, told = folder / "documents.jsonl", folder / "rate"
    mixed = list(documents())
    random.Random(0).shuffle(mixed)
    mixed = mixed[:limit]
    file.write_text("".join(json.dumps(one) + "\n" for one in mixed), encoding="utf-8")
    looks = [encoding(file, told)]
    command = [str(Path(sys.executable).with_name("colreduce")), "index", str(file)]
    command += ["--out", str(folder / "idx")]
    command += ["--encoder", common.encoder_folder(), "--recipe", RECIPE, "--memory", MEMORY]
    command += ["--ledger" if ledger else "--no-ledger"]
    seconds, memory = with_looks(command, lambda: looks.append(encoding(file, told)))
    looks.append(encoding(file, told))
    alone = sum(one["documents_per_s"] for one in looks) / len(looks)
    rate = len(mixed) / seconds
    return {
        "machine": common.machine(),
        "load": os.getloadavg()[0],
        "goals": GOALS,
        "recipe": RECIPE,
        "ledger": ledger,
        "documents": len(mixed),
        "text_bytes": sum(len(one["text"].encode()) for one in mixed),
        "encoder_alone": looks,
        "seconds": seconds,
        "documents_per_s": rate,
        "share_beyond_encoding": alone / rate - 1,
        "memory": memory,
        "bytes_beyond_model": memory - max(one["memory"] for one in looks),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-ledger", action="store_true", help="measure no losses")
    parser.add_argument("--limit", type=int, help="so many documents, for a trial")
    parser.add_argument("--out", default="real-documents", help="name of the file with the result")
    parser.add_argument("--encode", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.encode:
        Path(asked.out).write_text(str(encode(asked.encode)), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), asked.limit, not asked.no_ledger)
    print(json.dumps({name: value for name, value in found.items() if name != "machine"}))
    print(f"written to {common.save(asked.out, found)}")


if __name__ == "__main__":
    main()
