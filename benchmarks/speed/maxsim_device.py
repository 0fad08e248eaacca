"""MaxSim on a CUDA device, as `benchmarks.speed.maxsim --device cuda` measures it.

A query of 32 vectors meets 1,000 candidates and then as many documents as fill the device. Ways
are: the bare product that writes every similarity to memory, the path of blocks in torch, and the
pass that keeps similarities on the chip, for every type that is stored; of the pass over many
documents also with the work cut up in other ways. The candidates lie in
sixteen copies that take turns, or the device's cache would hold them. Time is from asking to the
end of the work, launches included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import cycle
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks import common
from benchmarks.speed import device
from colreduce.maxsim import backend, maxsim
from colreduce.maxsim.triton_kernels import maxsim_packed
from colreduce.maxsim.triton_parts import PRECISION
from colreduce.maxsim.triton_stream import STREAMS, Layout, Stream, layout, maxsim_stream

DIM, QUERY, DOCUMENTS, MANY = 128, 32, 1000, 200_000
COPIES = 16
# Vectors that the path of blocks takes at a time.
BLOCK = 1 << 22
TYPES = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "int8": torch.int8,
}
# Which arithmetic each type is multiplied in.
MULTIPLIED = {"fp32": "fp32", "fp16": "fp16", "bf16": "fp16", "int8": "fp16"}
# Other ways to cut up the work, for whoever looks for a better one.
ALSO = {
    torch.float32: [Stream(64, 8, 2, 1), Stream(64, 4, 1, 2), Stream(128, 8, 2, 1)],
    torch.float16: [Stream(128, 4, 2, 2), Stream(128, 8, 3, 1), Stream(64, 4, 3, 3)],
    torch.bfloat16: [Stream(128, 4, 2, 2)],
    torch.int8: [Stream(64, 4, 4, 3), Stream(256, 8, 3, 1), Stream(128, 4, 3, 2)],
}


def stored(lengths: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Make packed vectors as they are stored, and their scales."""
    draws = torch.Generator("cuda").manual_seed(3)
    total = int(lengths.sum())
    tokens = torch.empty(total, DIM, dtype=kind, device="cuda")
    for start in range(0, total, 1 << 20):
        part = tokens[start : start + (1 << 20)]
        drawn = normalize(torch.randn(len(part), DIM, generator=draws, device="cuda"), dim=1)
        if kind == torch.int8:
            drawn = (drawn * 127 / drawn.abs().amax(1, keepdim=True)).round_()
        part.copy_(drawn)
    scales = torch.rand(total, device="cuda").add_(0.5).div_(127).half()
    return tokens, scales if kind == torch.int8 else None


def cases(ragged: bool, many: bool) -> tuple[Tensor, str]:
    """Return the lengths of one size of the benchmark, and its name."""
    count = MANY if many else DOCUMENTS
    if not ragged:
        return torch.full((count,), 32, device="cuda"), f"{count} x 32"
    count = count // 6 if many else count
    draws = torch.Generator("cuda").manual_seed(5)
    drawn = torch.randint(60, 301, (count,), generator=draws, device="cuda")
    return drawn, f"{count} x 60 to 300"


def rows(limit: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Measure everything; yield one row for each way."""
    query = normalize(torch.randn(QUERY, DIM, device="cuda"), dim=1)
    for many in (False, True):
        for ragged in (False, True):
            lengths, name = cases(ragged, many)
            for kind, way, time, moved in timed(query, lengths, 1 if many else COPIES):
                done = 2 * QUERY * DIM * int(lengths.sum())
                yield {
                    "documents": name,
                    "stored": kind,
                    "way": way,
                    "ms": round(1000 * time, 4),
                    "gb_per_s": round(moved / time / 1e9, 1),
                    "tflop_per_s": round(done / time / 1e12, 2),
                    "of_bandwidth": round(moved / time / limit["bytes"], 4),
                    "of_arithmetic": round(done / time / limit[MULTIPLIED[kind]], 4),
                }


def timed(query: Tensor, lengths: Tensor, copies: int) -> Iterator[tuple[str, str, float, int]]:
    """Yield the type, the way, the seconds, and the bytes that must be read."""
    for name, kind in TYPES.items():
        held = [stored(lengths, kind) for _ in range(copies)]
        moved = sum(part.nbytes for part in held[0] if part is not None)
        for way, work in ways(query, lengths, kind).items():
            turns = cycle(held)
            yield name, way, device.seconds(partial(_next, work, turns), 15), moved


def ways(query: Tensor, lengths: Tensor, kind: torch.dtype) -> dict[str, Callable[..., object]]:
    """Return everything that is timed for vectors of one type, by name."""
    found: dict[str, Callable[..., object]] = {}
    if kind in (torch.float32, torch.float16):
        sides = query.to(kind)
        found["bare product"] = lambda rows, scales: sides @ rows.T
        found["torch, in blocks"] = lambda rows, scales: maxsim(query, rows, lengths, BLOCK)
    one = torch.tensor([QUERY], device="cuda")
    found["one pass"] = lambda rows, scales: maxsim_packed(query, one, rows, lengths, scales)
    if kind == torch.float32:
        found["one pass, ieee"] = lambda rows, scales: maxsim_packed(
            query, one, rows, lengths, scales, precision="ieee"
        )
    if len(lengths) == DOCUMENTS:
        return found
    # A segment that stays on the device looks at its lengths once.
    cut = layout(lengths)
    for stream in [STREAMS[kind], *ALSO[kind]]:
        name = ", ".join(f"{field} {value}" for field, value in asdict(stream).items())
        found[f"one pass, {name}"] = partial(_streamed, query, one, cut, len(lengths), stream)
    return found


def _streamed(
    query: Tensor,
    ends: Tensor,
    cut: Layout,
    documents: int,
    stream: Stream,
    rows: Tensor,
    scales: Tensor | None,
) -> Tensor:
    return maxsim_stream(query, ends, rows, documents, cut, scales, stream=stream)


def _next(work: Callable[..., object], turns: Iterator[tuple[Tensor, Tensor | None]]) -> object:
    return work(*next(turns))


def measure(limit: dict[str, float]) -> dict[str, Any]:
    """Return what is kept of a run, and print it as a table."""
    print(f"\nMaxSim, {QUERY} query vectors, width {DIM}, by {backend('cuda')}")
    found = []
    for row in rows(limit):
        found.append(row)
        print(
            f"  {row['documents']:20} {row['stored']:5} {row['way']:44} {row['ms']:9.3f} ms "
            f"{row['gb_per_s']:8,.0f} GB/s {row['of_bandwidth']:6.1%} "
            f"{row['tflop_per_s']:7.1f} TFLOP/s {row['of_arithmetic']:6.1%}",
            flush=True,
        )
    return {"machine": common.machine(), "limits": limit, "fp32": PRECISION, "rows": found}


def main() -> None:
    limit = device.limits()
    print(device.shown(limit))
    print(f"\nwritten to {common.save('maxsim-speed-gpu', measure(limit))}")
