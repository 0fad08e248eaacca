"""The time to rerank 1,000 candidates by MaxSim, beside one bare matrix product of that shape.

    python -m benchmarks.speed.maxsim

A query of 32 vectors meets 1,000 documents of 32 vectors, or of 60 to 300, all 128 wide; the data
is in memory in the form a segment stores. All ways take turns within one run and the median counts.
With one thread, which is what each worker of a service has, the processor's time is measured, so
that other programs do not count; with more, it is the clock's. ``ratio`` is to the bare product
``query @ tokens.T`` in float32; beside it stands the same product with the tokens first.
``maxsim-cpu`` is measured too when it is installed. ``--device cuda`` measures
`benchmarks.speed.maxsim_device` in its place.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter, process_time

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks import common
from colreduce.codec import CODECS
from colreduce.maxsim import has_numba, maxsim, maxsim_codes
from colreduce.ragged import Ragged

DIM, QUERY, DOCUMENTS = 128, 32, 1000
BLOCK = 1 << 14
ROUNDS = 25
CODEC_PARAMETERS = {
    "fp16": [{}],
    "int8": [{}],
    "int4": [{}, {"group": 32}],
    "residual": [{"bits": 2}],
    "pq": [{"parts": 16}, {"parts": 32}, {"parts": 32, "bits": 4}],
    "binary": [{}],
}


def documents(ragged: bool) -> tuple[Tensor, Tensor]:
    """Make packed unit vectors around common directions: tokens [t, d] and lengths [n]."""
    draw = torch.Generator().manual_seed(3)
    lengths = torch.full((DOCUMENTS,), 32)
    if ragged:
        lengths = torch.randint(60, 301, (DOCUMENTS,), generator=draw)
    around = torch.randn(300, DIM, generator=draw)
    which = torch.randint(300, (int(lengths.sum()),), generator=draw)
    noise = torch.randn(len(which), DIM, generator=draw)
    return normalize(around[which] + 0.7 * noise, dim=1), lengths


def ways(query: Tensor, tokens: Tensor, lengths: Tensor) -> dict[str, Callable[[], object]]:
    """Return everything that is timed, by name."""
    columns, rows = tokens.T, query.T
    found: dict[str, Callable[[], object]] = {
        "bare product": lambda: query @ columns,
        "bare product, tokens first": lambda: tokens @ rows,
        "maxsim fp32": lambda: maxsim(query, tokens, lengths),
    }
    sample = Ragged(tokens[:8192], torch.tensor([8192]))
    for name, choices in CODEC_PARAMETERS.items():
        for parameters in choices:
            codec = CODECS[name].build(parameters)
            state = codec.fit(sample, seed=0)
            codes = codec.encode(tokens, state)

            def score(codec=codec, state=state, codes=codes) -> Tensor:  # type: ignore[no-untyped-def]
                def products(run: slice) -> Tensor:
                    part = {key: array[run] for key, array in codes.items()}
                    return codec.similarities(query, part, state)

                return maxsim_codes(products, lengths, BLOCK)

            found[f"maxsim {codec}"] = score
    return {**found, **rivals(query, tokens, lengths)}


def rivals(query: Tensor, tokens: Tensor, lengths: Tensor) -> dict[str, Callable[[], object]]:
    """Return the other library's ways, if it is installed."""
    try:
        import maxsim_cpu
    except ImportError:
        return {}
    asked = query.numpy()
    if bool((lengths == lengths[0]).all()):
        dense = tokens.view(DOCUMENTS, -1, DIM).numpy()
        return {"maxsim-cpu": lambda: maxsim_cpu.maxsim_scores(asked, dense)}
    parts = [part.numpy() for part in tokens.split(lengths.tolist())]
    return {"maxsim-cpu": lambda: maxsim_cpu.maxsim_scores_variable(asked, parts)}


def milliseconds(
    work: Mapping[str, Callable[[], object]], clock: Callable[[], float]
) -> dict[str, float]:
    """Time all ways in turn, so that a busy moment of the machine hits them alike."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for number in range(ROUNDS + 2):
        for name, run in work.items():
            started = clock()
            run()
            if number >= 2:
                taken[name].append(1000 * (clock() - started))
    return {name: median(times) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    asked = parser.parse_args()
    if asked.device == "cuda":
        from benchmarks.speed import maxsim_device

        maxsim_device.main()
        return
    torch.set_num_threads(asked.threads)
    draw = torch.Generator().manual_seed(4)
    query = normalize(torch.randn(QUERY, DIM, generator=draw), dim=1)
    rows = []
    for ragged in (False, True):
        tokens, lengths = documents(ragged)
        clock = process_time if asked.threads == 1 else perf_counter
        times = milliseconds(ways(query, tokens, lengths), clock)
        shape = "60 to 300" if ragged else "32"
        print(f"\n{asked.threads} thread(s), {DOCUMENTS} documents of {shape} vectors")
        for name, time in times.items():
            ratio = time / times["bare product"]
            print(f"  {name:28} {time:8.2f} ms {ratio:6.2f}x")
            rows.append(
                {"vectors": shape, "way": name} | {"ms": round(time, 3), "ratio": round(ratio, 3)}
            )
    content = {"machine": common.machine(), "numba": has_numba(), "rows": rows}
    print(f"\nwritten to {common.save(f'maxsim-speed-cpu-{asked.threads}', content)}")


if __name__ == "__main__":
    main()
