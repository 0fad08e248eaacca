"""Running one peer: build in one process, search in another, both watched."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.environments import interpreter, packages
from benchmarks.peers.table import Peer
from benchmarks.peers.vectors import DEPTH, Given
from colreduce.evaluate.metrics import ranked, score_run

ADAPTERS = Path(__file__).parent / "adapters"
# Room that colreduce sets aside for a full disk, and its lock: no part of what an index holds.
NOT_COUNTED = {"BALLAST", "LOCK"}
PAGE = os.sysconf("SC_PAGE_SIZE")


class Failed(RuntimeError):
    """A peer could not build or search."""


def measure(peer: Peer, given: Given, limit_seconds: float) -> dict[str, Any]:
    """Return a peer's row."""
    python = interpreter(peer)
    with tempfile.TemporaryDirectory(prefix="peer-") as scratch:
        index = Path(scratch) / "index"
        built = _ask(peer, python, "build", index, given, limit_seconds)
        size = sum(
            file.stat().st_size
            for file in Path(scratch).rglob("*")
            if file.is_file() and file.name not in NOT_COUNTED
        )
        searched = _ask(peer, python, "search", index, given, limit_seconds)
        shutil.rmtree(index, ignore_errors=True)
    known = packages(python)
    shown = [need.partition("==")[0] for need in peer.needs] + ["torch", "numpy"]
    return {
        **_judged(searched["found"], given),
        "bytes_per_doc": size / len(given),
        "build_seconds": built["seconds"],
        "open_seconds": searched["seconds"],
        "peak_build_mb": built["peak_bytes"] / 1e6,
        "peak_search_mb": searched["peak_bytes"] / 1e6,
        "p50_ms": float(np.percentile(searched["milliseconds"], 50)),
        "p95_ms": float(np.percentile(searched["milliseconds"], 95)),
        "notes": built["notes"],
        "packages": {name: known[name] for name in shown if name in known},
        "environment_packages": len(known),
    }


def _judged(found: list[list[list[float]]], given: Given) -> dict[str, float]:
    run = {
        name: ranked(name, [(given.ids[int(row)], score) for row, score in hits])
        for name, hits in zip(given.query_ids, found, strict=True)
    }
    shares = [
        len({int(row) for row, _ in hits[:DEPTH]} & set(best)) / len(best)
        for hits, best in zip(found, given.exact, strict=True)
    ]
    return {**score_run(["nDCG@10"], given.qrels, run), "agreement@10": float(np.mean(shares))}


def _ask(
    peer: Peer, python: Path, step: str, index: Path, given: Given, limit: float
) -> dict[str, Any]:
    """Run an adapter in a session of its own; end it and its children when it takes too long."""
    request = {
        "step": step,
        "index": str(index),
        "vectors": str(given.folder),
        "settings": peer.settings,
        "k": DEPTH + 1,
    }
    child = subprocess.Popen(
        [str(python), str(ADAPTERS / f"{peer.adapter}.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    watch = _Watch(child.pid)
    try:
        said, complaints = child.communicate(json.dumps(request) + "\n", timeout=limit)
    except subprocess.TimeoutExpired:
        raise Failed(f"{step} took longer than {limit / 60:.0f} minutes") from None
    finally:
        watch.stop()
        _end(child)
    if child.returncode or not said:
        last = [line for line in complaints.strip().splitlines() if line.strip()][-1:]
        raise Failed(f"{step}: {last[0][:300] if last else f'exit status {child.returncode}'}")
    answer: dict[str, Any] = json.loads(said)
    # The child's own peak is exact; processes that it started are only seen by looking.
    answer["peak_bytes"] = max(answer["peak_bytes"], watch.peak)
    return answer


def _end(child: subprocess.Popen[str]) -> None:
    """End the session if anything of it is left, and let go of its pipes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


class _Watch:
    """Looks ten times a second how much memory all processes of a session hold together."""

    def __init__(self, session: int) -> None:
        self.peak = 0
        self._session = session
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.1):
            self.peak = max(self.peak, sum(self._resident()))

    def _resident(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            if int(fields[3]) == self._session:
                found.append(int(fields[21]) * PAGE)
        return found
