"""What 10 million, 100 million and a billion documents cost: bytes, machines, hours, milliseconds.

    python -m benchmarks.scale            measure what is missing, compute, write result and page
    python -m benchmarks.scale --page     write the tables of docs/scale.md from the result again

Most rates come from the results of other benchmarks, and the result says from which. What none of
them tells is measured here, in a minute, as seconds of the processor and not of the clock: how a
first stage grows with the documents of a shard, how long joining the hits of many shards takes, and
what a call of an actor and the splitting of an index cost. How long a query waits for the slowest
of its shards is drawn by chance, from the spread that searches had. Everything that was assumed
stands in `ASSUMED`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import torch
from colreduce_service.shards.actors import Remote
from colreduce_service.shards.hub import merge
from colreduce_service.shards.replica import Replica

from benchmarks.common import RESULTS, machine, save
from benchmarks.scale_page import write_page
from colreduce import cluster
from colreduce.candidates.base import Parts
from colreduce.candidates.vectors import VECTOR_STORES
from colreduce.index import Hit, Index
from colreduce.index.batch import SEGMENT_DOCUMENTS
from colreduce.index.shards import split

SIZES = (10_000_000, 100_000_000, 1_000_000_000)
GROWTH = (65_536, 131_072, SEGMENT_DOCUMENTS)
STORES = ("fp16", "auto")
DIM, CANDIDATES, K = 128, 500, 10
DRAWS = 20_000

# What nobody measured here. Change it, run the program again, and the page says something else.
ASSUMED: dict[str, Any] = {
    "tokens of a document": 180,
    "parameters of the encoder": 110e6,
    "share of a GPU's arithmetic that encoding reaches": 0.3,
    "cores of a machine": 32,
    "memory of a machine, bytes": 256e9,
    "disk of a machine, bytes": 4e12,
    "documents of a shard": 2_000_000,
    "queries a second": 50,
    "share of the cores that searches may keep busy": 0.5,
    "share of the time in which a replica does not answer": 0.001,
}


def known(name: str) -> dict[str, Any]:
    """Return the result of another benchmark."""
    return dict(json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")))


def rates() -> dict[str, Any]:
    """Gather from other results what one document or one vector costs."""
    row = known("evaluate-scifact")["rows"][1]
    sizes = {name: size for name, size in row["bytes_per_doc"].items() if name != "models"}
    biggest = known("building")["memory"][-1]
    spent = {stage: value / biggest["documents"] for stage, value in biggest["seconds"].items()}
    gpu = known("reducer-speed-gpu")
    cpu = known("reducer-speed-cpu")
    scoring = {one["way"]: one for one in known("maxsim-speed-cpu-1")["rows"][::-1]}["maxsim int8"]
    quiet = known("store-speed")["50000 documents"]["quiet_ms"]
    half = known("load")["arriving"][1]
    flops = 2 * ASSUMED["parameters of the encoder"] * ASSUMED["tokens of a document"]
    reached = gpu["limits"]["fp16"] * ASSUMED["share of a GPU's arithmetic that encoding reaches"]
    return {
        "recipe": row["recipe"],
        "bytes": {**sizes, "total": row["bytes_per_doc"]["total"] - row["bytes_per_doc"]["models"]},
        "text_bytes": row["text_bytes_per_doc"],
        "vectors": row["vectors_per_doc"],
        "one_process_seconds": {one: spent[one] for one in ("check", "read", "write", "publish")},
        "encode_cpu_per_second": row["documents"] / row["index_seconds"]["encode"],
        "encode_gpu_per_second": reached / flops,
        "gpu": gpu["machine"]["device"],
        "ward_cpu_per_second": cpu["rates"]["ward"]["300"] / cpu["machine"]["threads"],
        "ward_gpu_per_second": gpu["rates"]["ward"]["300"],
        "score_ms_per_vector": scoring["ms"] / 1000 / 32,
        "spread_quiet": quiet["p99"] / quiet["p50"],
        "spread_half_loaded": half["p99_ms"] / half["p50_ms"],
    }


def grown() -> dict[str, list[dict[str, float]]]:
    """Measure what the first stage of a shard costs as the shard grows."""
    torch.set_num_threads(1)
    draw = np.random.default_rng(1)
    centres = draw.normal(size=(2_000, DIM)).astype(np.float32)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in STORES}
    for count in GROWTH:
        picked = centres[draw.integers(len(centres), size=count)]
        vectors = picked + draw.normal(size=(count, DIM)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        for name in STORES:
            found[name].append({"documents": count, **one_stage(name, vectors)})
    return found


def one_stage(name: str, vectors: np.ndarray[Any, Any]) -> dict[str, float]:
    """Build one store of vectors and ask it; return seconds and milliseconds of the processor."""
    store = VECTOR_STORES[name]
    began = process_time()
    state = store.fit(vectors[:50_000], seed=0)
    builder = store.builder(state)
    arrays, buffers = dict(builder.add(vectors)), {}
    for key, part in builder.finish().items():
        if callable(part):
            stream = io.BytesIO()
            part(stream)
            buffers[key] = np.frombuffer(stream.getvalue(), np.uint8)
        else:
            arrays[key] = np.asarray(part)
    built = process_time() - began
    searcher = store.open(Parts(arrays, buffers, len(vectors)), state, effort=None)
    searcher.search(vectors[:1], CANDIDATES, None)
    queries = vectors[:: len(vectors) // 25][:25]
    began = process_time()
    for query in queries:
        searcher.search(query[None], CANDIDATES, None)
    return {"build_s": built, "ms": 1000 * (process_time() - began) / len(queries)}


def joined() -> list[dict[str, float]]:
    """Measure how long the hub takes to join the hits of many shards."""
    draw = np.random.default_rng(2)
    rows = []
    for shards in (5, 50, 500):
        for k in (10, 100):
            scores = np.sort(draw.normal(size=(shards, k)), axis=1)[:, ::-1]
            told = [[Hit(f"{s}-{i}", float(x)) for i, x in enumerate(one)] for s, one in
                    enumerate(scores)]  # fmt: skip
            began = process_time()
            for _ in range(20):
                merge(told, k)
            rows.append({"shards": shards, "k": k, "ms": 1000 * (process_time() - began) / 20})
    return rows


def calls() -> dict[str, float] | None:
    """Measure a call of an actor of Ray; None where Ray is not installed."""
    if find_spec("ray") is None:
        return None
    with cluster.joined(cluster.LOCAL) as ray:
        actor = Remote(ray, ray.remote(Replica).remote("nowhere"))
        actor.ask("process").result()
        times = []
        for _ in range(300):
            began = perf_counter()
            actor.ask("process").result()
            times.append(1000 * (perf_counter() - began))
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def halved() -> dict[str, float]:
    """Measure how long it takes to split an index, in seconds of the processor."""
    draw = np.random.default_rng(4)
    count, tokens = 20_000, 15
    with tempfile.TemporaryDirectory() as folder:
        with Index.create(Path(folder) / "idx", recipe="int8 | mean", dim=DIM) as index:
            vectors = draw.normal(size=(count, tokens, DIM)).astype(np.float32)
            index.add([f"document-{one}" for one in range(count)], embeddings=list(vectors))
        began = process_time()
        split(Path(folder) / "idx", Path(folder) / "shards", 4)
        return {"documents": count, "vectors": tokens, "s": process_time() - began}


def of_stage(rows: list[dict[str, float]], documents: float) -> float:
    """Return the milliseconds of a first stage: a shard has many segments of the largest size."""
    return rows[-1]["ms"] * documents / rows[-1]["documents"]


def tail(shards: int, spread: float, second: bool) -> dict[str, float]:
    """Draw how much longer the slowest of many shards takes than one of them does at the median.

    Times are lognormal with this ratio of the 99th percentile to the median. With ``second``
    another replica is asked when one has taken longer than 95 of 100 do; the first answer counts.
    """
    draw = np.random.default_rng(shards)
    sigma = np.log(spread) / 2.326
    slowest = np.zeros(DRAWS)
    late = float(np.exp(1.645 * sigma))
    for _ in range(shards):
        times = np.exp(sigma * draw.standard_normal(DRAWS))
        if second:
            again = late + np.exp(sigma * draw.standard_normal(DRAWS))
            times = np.where(times > late, np.minimum(times, again), times)
        np.maximum(slowest, times, out=slowest)
    p50, p99 = np.percentile(slowest, [50, 99])
    return {"p50": float(p50), "p99": float(p99)}


def cost(documents: int, known_rates: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """Return what so many documents cost."""
    shards = max(round(documents / ASSUMED["documents of a shard"]), 1)
    each = documents / shards
    sizes = {name: size * documents for name, size in known_rates["bytes"].items()}
    texts = known_rates["text_bytes"] * documents
    resident = sizes["first_stage"] + sizes["catalogue"]
    per_candidate = known_rates["vectors"] * known_rates["score_ms_per_vector"]
    fewer = enough(shards)
    stage = {name: of_stage(rows, each) for name, rows in measured["first_stage"].items()}
    ways = {
        "every shard as one index": stage["auto"] + CANDIDATES * per_candidate,
        "fewer candidates each": stage["auto"] + fewer * per_candidate,
        "all vectors read": stage["fp16"] + fewer * per_candidate,
    }
    busy = ASSUMED["share of the cores that searches may keep busy"]
    cores = {
        name: ms / 1000 * shards * ASSUMED["queries a second"] / busy for name, ms in ways.items()
    }
    machines = {
        "disk": (sizes["total"] + texts) * 2 / ASSUMED["disk of a machine, bytes"],
        "memory": resident * 2 / ASSUMED["memory of a machine, bytes"],
        "cores": cores["fewer candidates each"] / ASSUMED["cores of a machine"],
    }
    return {
        "documents": documents,
        "shards": shards,
        "bytes": {**sizes, "texts": texts, "in memory": resident},
        "hours": hours(documents, known_rates, measured["split"]),
        "candidates_each": fewer,
        "shard_ms": ways,
        "cores": cores,
        "reads": ASSUMED["queries a second"] * shards * fewer,
        "machines": {name: int(np.ceil(count)) for name, count in machines.items()},
        "latency": latency(shards, ways["fewer candidates each"], known_rates, measured),
        "partial": partial(shards),
    }


def hours(
    documents: int, known_rates: dict[str, Any], splitting: dict[str, float]
) -> dict[str, float]:
    """Return how long the steps of a build take, each alone."""
    one = known_rates["one_process_seconds"]
    return {
        "encode, two cores and a small model": (
            documents / known_rates["encode_cpu_per_second"] / 3600
        ),
        "encode, one GPU": documents / known_rates["encode_gpu_per_second"] / 3600,
        "reduce, one core": documents / known_rates["ward_cpu_per_second"] / 3600,
        "the one process that reads and writes": documents * sum(one.values()) / 3600,
        "of it, putting together": documents * one["publish"] / 3600,
        "splitting into shards": documents * splitting["s"] / splitting["documents"] / 3600,
    }


def enough(shards: int) -> int:
    """Return how many candidates of each shard hold the best of all, but for one in a million.

    Where documents are spread by chance, a shard's share of the best is a binomial number.
    """
    mean = CANDIDATES / shards
    return int(min(np.ceil(mean + 5 * np.sqrt(mean) + 3), CANDIDATES))


def latency(
    shards: int, ms: float, known_rates: dict[str, Any], measured: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Return what a caller waits for all shards, on quiet and on half loaded machines."""
    at = sorted(measured["join"], key=lambda row: (row["k"] != K, abs(row["shards"] - shards)))[0]
    beside = at["ms"] * shards / at["shards"] + (measured["call"] or {"p50_ms": 0.0})["p50_ms"]
    found = {"one shard": {"p50": ms, "p99": ms * known_rates["spread_quiet"]}}
    for name, spread, second in (
        ("quiet", known_rates["spread_quiet"], False),
        ("half loaded", known_rates["spread_half_loaded"], False),
        ("half loaded, second ask", known_rates["spread_half_loaded"], True),
    ):
        found[name] = {
            key: ms * much + beside for key, much in tail(shards, spread, second).items()
        }
    found["joining and calling"] = {"p50": beside, "p99": beside}
    return found


def partial(shards: int) -> dict[str, float]:
    """Return the share of answers that miss a shard, by the number of replicas."""
    down = ASSUMED["share of the time in which a replica does not answer"]
    return {str(count): float(1 - (1 - down**count) ** shards) for count in (1, 2, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="only write the page again")
    parser.add_argument("--again", action="store_true", help="only compute again")
    asked = parser.parse_args()
    if not asked.page:
        before = known("scale") if asked.again else {}
        measured = before.get("measured") or {
            "first_stage": grown(),
            "join": joined(),
            "call": calls(),
            "split": halved(),
        }
        gathered = rates()
        rows = [cost(documents, gathered, measured) for documents in SIZES]
        content = {"assumed": ASSUMED, "rates": gathered, "measured": measured, "sizes": rows}
        save("scale", {"machine": before.get("machine") or machine(), **content})
    sys.stderr.write(f"{write_page(known('scale'), Path('docs/scale.md'))}\n")


if __name__ == "__main__":
    main()
