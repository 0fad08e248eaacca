"""Seconds of a training step, objective by objective.

    python -m benchmarks.speed.training

A step reads 16 queries and 16 documents of 128 tokens with the small encoder of the [demo] extra:
forwards, backwards and the optimiser. It runs in one thread, and the processor's own seconds count,
for the clock also runs for other programs; the median of a few steps is kept. Results stand in
``benchmarks/results/training-speed.json``; objectives that are known are not measured again. The
goal is a step in 5 s on two cores; here one core has to do.
"""

from __future__ import annotations

import sys
from statistics import median
from time import perf_counter, process_time
from typing import Any

import torch

from benchmarks import common
from colreduce.train.build import build

LINES = (
    "colbert",
    "crisp(documents=32, queries=8)",
    'crisp(documents=32, queries=8, method="ward")',
    "constant(size=32)",
    "attention(size=32)",
    "words",
    'projection(kind="glu")',
    "xtr",
    'matryoshka(widths="64,128")',
    'attention(size=32) | nested(sizes="4,16")',
    "crisp(documents=32, queries=8) | distill",
)
BATCH, TOKENS, QUERY_TOKENS, STEPS, GOAL = 16, 128, 16, 2, 5.0
NAME = "training-speed"


def column(task: str, tokens: int, size: int, draws: torch.Generator) -> dict[str, Any]:
    """Return texts of random tokens, all of one length."""
    ids = torch.randint(1000, size, (BATCH, tokens), generator=draws)
    ones = torch.ones_like(ids)
    given = {"input_ids": ids, "attention_mask": ones, "token_type_ids": torch.zeros_like(ids)}
    return {**given, "modality": "text", "task": task}


def measure(line: str) -> dict[str, Any]:
    """Return the median seconds of a step in one thread, on the clock and of the processor."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    pupil = build(common.encoder_folder(), line, device="cpu")
    pupil.model.train()
    optimiser = torch.optim.AdamW(pupil.model.parameters(), lr=1e-5)
    draws, size = torch.Generator().manual_seed(0), len(pupil.model.tokenizer)
    clock, worked = [], []
    for step in range(STEPS + 1):
        batch = [
            column("query", QUERY_TOKENS, size, draws),
            column("document", TOKENS, size, draws),
        ]
        began, before = perf_counter(), process_time()
        pupil.loss(batch).backward()
        optimiser.step()
        optimiser.zero_grad()
        if step:  # the first one compiles and allocates
            clock.append(perf_counter() - began)
            worked.append(process_time() - before)
    return {
        "objective": line,
        "seconds": round(median(clock), 3),
        "processor_seconds": round(median(worked), 3),
    }


def main() -> None:
    result = common.load(NAME) or {"rows": []}
    result |= {"machine": common.machine(), "batch": BATCH, "tokens": TOKENS, "goal": GOAL}
    known = {row["objective"] for row in result["rows"]}
    for line in [one for one in LINES if one not in known]:
        result["rows"].append(measure(line))
        sys.stderr.write(f"{result['rows'][-1]}\n")
        common.save(NAME, result)


if __name__ == "__main__":
    main()
