"""Pages per second: drawing them, and reducing them.

    python -m benchmarks.speed.pages

Pages of 1,030 vectors of 128 numbers, 32 x 32 patches and a prompt as ColPali makes them, are
reduced: on one thread, by the time that the processor spent and by the clock, and on two threads,
by the clock. That is what a machine with two free cores does; beside other programs, threads that
wait for each other say little, so the load stands with it. Each method runs once to warm up and
then several times, and the best counts. Drawing is of a PDF page of text at the size that encoders
are given, and of its thumbnail, on one thread, for pdfium does one thing at a time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch

from benchmarks import common
from benchmarks.speed.reducers import documents
from colreduce.embed.pages import Page, PageFile, drawn, thumbnail
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe

PAGES, SECONDS = 48, 1.5
PATCHES, PROMPT = 32, 6
RECIPES = (
    "grid(factor=9)", "markers | grid(factor=9)", "background", "background | ward(size=113)",
    "ward(factor=4)", "ward(factor=9)", "cover(factor=9)", "kmeans(factor=9)", "tome(factor=9)",
    "importance(sigma=-0.25) | ward(factor=4)",
)  # fmt: skip
GOALS = {"grid(factor=9)": 200, "ward(factor=9)": 50}
WORDS = "tides bread slugs moon yeast coast oceans dough garden lettuce water night warm place"


def pages() -> Ragged:
    tokens = PATCHES**2 + PROMPT
    made = documents(PAGES, tokens)
    draw = torch.Generator().manual_seed(0)
    return Ragged.pack(
        made,
        special=[torch.arange(tokens) >= PATCHES**2] * PAGES,
        grid=[torch.tensor([0, PATCHES, PATCHES])] * PAGES,
        importance=[torch.rand(tokens, generator=draw) ** 4 for _ in made],
    )


def rate(work: Callable[[], Any], count: int, clock: Callable[[], float]) -> float:
    """Return how many a second, by a clock, in the best of some seconds' rounds."""
    work()
    best, end = 0.0, perf_counter() + SECONDS
    while not best or perf_counter() < end:
        started = clock()
        work()
        best = max(best, count / (clock() - started))
    return best


def reducing() -> list[dict[str, Any]]:
    batch, rows = pages(), []
    for line in RECIPES:
        reducers = Recipe.parse(f"{line} | fp32").reducers

        def run(reducers: Any = reducers) -> Ragged:
            left = batch
            for reducer in reducers:
                left = reducer.reduce(left, {}).batch
            return left

        torch.set_num_threads(1)
        row = {"recipe": line, "per_processor_second": rate(run, PAGES, process_time)}
        row["per_second_on_one_thread"] = rate(run, PAGES, perf_counter)
        torch.set_num_threads(2)
        row["per_second_on_two_threads"] = rate(run, PAGES, perf_counter)
        row["vectors_left"] = float(run().lengths.float().mean())
        rows.append({**row, "goal_on_two_cores": GOALS.get(line)})
        print(rows[-1], flush=True)
    return rows


def drawing() -> dict[str, float]:
    """Draw a page of text again and again; return pages per processor second."""
    from tests.reference.pdfs import write_pdf

    text = "\n".join(f"{number} {WORDS}" for number in range(25))
    with tempfile.TemporaryDirectory() as folder:
        path = write_pdf(Path(folder) / "a.pdf", [text] * 8, (595, 842))
        every = [Page(path, number) for number in range(1, 9)]
        pictures = list(drawn(every))
        with PageFile(path) as file:
            looked = rate(lambda: [file.sheet(one.number) for one in every], 8, process_time)
        return {
            "looked_at": looked,
            "drawn": rate(lambda: list(drawn(every)), 8, process_time),
            "made_small": rate(lambda: [thumbnail(one) for one in pictures], 8, process_time),
            "thumbnail_bytes": float(len(thumbnail(pictures[0]))),
        }


def main() -> None:
    content = {
        "machine": common.machine(),
        "load_before": os.getloadavg()[0],
        "drawing": drawing(),
        "reducing": reducing(),
        "load_after": os.getloadavg()[0],
    }
    print(content["drawing"])
    common.save("pages-speed", content)


if __name__ == "__main__":
    main()
