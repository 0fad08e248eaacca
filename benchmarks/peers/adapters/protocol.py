"""How an adapter is talked to: one JSON request on stdin, one JSON answer on stdout.

Runs in the peers' own environments, so it imports numpy and nothing else. A request names a step,
``build`` or ``search``, the folder of the vectors, the folder of the index, and the settings. The
answer has the seconds, the milliseconds of each query, what was found, and the peak of memory.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from time import perf_counter

import numpy as np


class Vectors:
    """A safetensors file with ``vectors`` [t, d] and ``lengths`` [n], read piece by piece.

    Read and not mapped, so that what a program reads in passing does not count as its memory.
    """

    def __init__(self, file):
        self.file = Path(file)
        with self.file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
        self._start = 8 + size
        self._at = {name: header[name]["data_offsets"][0] for name in ("vectors", "lengths")}
        self.dim = header["vectors"]["shape"][1]
        count = header["lengths"]["shape"][0]
        self.lengths = self._read("lengths", "<i8", 0, count)
        self.ends = np.concatenate([[0], np.cumsum(self.lengths)])

    def __len__(self):
        return len(self.lengths)

    def rows(self, start, stop):
        """Return the vectors of the items from ``start`` to ``stop``, end to end: [t, d]."""
        first, last = int(self.ends[start]), int(self.ends[stop])
        flat = self._read("vectors", "<f4", first * self.dim, (last - first) * self.dim)
        return flat.reshape(-1, self.dim)

    def items(self, start=0, stop=None):
        """Return one array [t, d] for each item."""
        stop = len(self) if stop is None else stop
        bounds = self.ends[start : stop + 1] - self.ends[start]
        return np.split(self.rows(start, stop), bounds[1:-1])

    def blocks(self, count=256):
        """Yield runs of ``count`` items: the number of the first one and a list of arrays."""
        for start in range(0, len(self), count):
            yield start, self.items(start, min(start + count, len(self)))

    def _read(self, name, dtype, first, count):
        offset = self._start + self._at[name] + first * np.dtype(dtype).itemsize
        return np.fromfile(self.file, dtype, count, offset=offset)


class Request:
    """What an adapter is asked to do."""

    def __init__(self, told):
        self.step = told["step"]
        self.index = Path(told["index"])
        self.folder = Path(told["vectors"])
        self.settings = told["settings"]
        self.k = told["k"]

    @property
    def documents(self):
        return Vectors(self.folder / "documents.safetensors")

    @property
    def queries(self):
        return Vectors(self.folder / "queries.safetensors")

    def texts(self, which):
        """Return the texts of the ``documents`` or ``queries``."""
        return json.loads((self.folder / f"{which}.json").read_text(encoding="utf-8"))


def peak_bytes():
    """Return the most memory this process has held at once."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def serve(build, open_index, modules):
    """Answer one request.

    build(request) makes the index. open_index(request) returns a function that takes the number of
    a query and its vectors, and returns rows and scores, best first. ``modules`` are imported
    before the clock starts.
    """
    # Libraries print; the answer must be alone on stdout.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = Request(json.loads(sys.stdin.readline()))
    for name in modules:
        importlib.import_module(name)
    started = perf_counter()
    if request.step == "build":
        notes = build(request)
        answer = {"seconds": perf_counter() - started, "notes": notes}
    else:
        search = open_index(request)
        answer = {"seconds": perf_counter() - started, **_searched(search, request)}
    answer["peak_bytes"] = peak_bytes()
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
    # Some libraries hang while they are torn down; everything is on disk.
    os._exit(0)


def _searched(search, request):
    queries = request.queries.items()
    for number in range(min(3, len(queries))):
        search(number, queries[number])
    milliseconds, found = [], []
    for number, query in enumerate(queries):
        started = perf_counter()
        rows, scores = search(number, query)
        milliseconds.append(1000 * (perf_counter() - started))
        found.append([[int(row), float(score)] for row, score in zip(rows, scores, strict=True)])
    return {"milliseconds": milliseconds, "found": found}
