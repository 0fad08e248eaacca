"""The table of `benchmarks.quality.trained`, with intervals, paired tests and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.evaluate.statistics import bootstrap, holm, randomisation_tests

ALPHA, SEED = 0.05, 0
METHODS = ("ward", "kmeans", "cover")


@dataclass(frozen=True)
class Gap:
    """CRISP less another model reduced after the fact, at one size on one collection."""

    dataset: str
    size: int
    crisp: str
    method: str
    low: float
    value: float
    high: float
    p: float


class Rows:
    """The rows of a result, by what they are of."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.found = {
            (row["dataset"], row["model"], row["documents"], row["queries"]): row
            for row in result["rows"]
        }
        self.datasets = list(dict.fromkeys(row["dataset"] for row in result["rows"]))
        self.crisp = [name for name in result["models"] if name.startswith("crisp")]

    def values(self, *key: str | None) -> NDArray[np.float64] | None:
        """Return the value of every query, or None where it was not measured."""
        row = self.found.get(key)  # type: ignore[call-overload]
        return None if row is None else np.array([float(one) for one in row["values"].split()])

    def cell(self, *key: str | None) -> str:
        """Return the mean with its interval, in hundredths."""
        if (values := self.values(*key)) is None:
            return "–"
        found = bootstrap(values, SEED)
        return f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"

    def crisp_key(self, dataset: str, name: str) -> tuple[str, str, str, str | None]:
        """Return the key of a CRISP model as it was trained."""
        size = size_of(name)
        queries = None if "documents only" in name else name.split()[1].split("x")[0]
        line = None if queries is None else f"kmeans(size={queries})"
        return dataset, name, f"kmeans(size={size})", line


def size_of(name: str) -> int:
    """Return the vectors per document that a CRISP model was trained for."""
    return int(name.split()[1].rstrip(",").split("x")[-1])


def gaps(rows: Rows, model: str) -> list[Gap]:
    """Return every comparison of CRISP with another model, p-values corrected together."""
    found: list[Gap] = []
    for dataset in rows.datasets:
        for name in rows.crisp:
            trained = rows.values(*rows.crisp_key(dataset, name))
            for method in METHODS:
                line = f"{method}(size={size_of(name)})"
                after = rows.values(dataset, model, line, None)
                if trained is None or after is None:
                    continue
                gap = trained - after
                between = bootstrap(gap, SEED)
                (p,) = randomisation_tests(gap[:, None], SEED)
                bounds = (between.low, between.value, between.high)
                found.append(Gap(dataset, size_of(name), name, method, *bounds, float(p)))
    corrected = holm([one.p for one in found]) if found else []
    return [
        Gap(one.dataset, one.size, one.crisp, one.method, one.low, one.value, one.high, float(p))
        for one, p in zip(found, corrected, strict=True)
    ]


def verdict(found: Sequence[Gap], kind: str, documents_only: bool) -> str:
    """Say whether CRISP beats the other model reduced by every method, at every size."""
    ours = [one for one in found if ("documents only" in one.crisp) == documents_only]
    if not ours:
        return f"{kind}: not measured."
    better = [one for one in ours if one.p < ALPHA and one.value > 0]
    worse = [one for one in ours if one.p < ALPHA and one.value < 0]
    ahead = sum(one.value > 0 for one in ours)
    word = "refuted" if worse else "not confirmed"
    word = "confirmed" if len(better) == len(ours) else word
    return (
        f"{kind}: the claim is **{word}**. Of {len(ours)} comparisons (collection, size, method) "
        f"CRISP is ahead in {ahead}, significantly better in {len(better)} and significantly "
        f"worse in {len(worse)}."
    )


def write_report(result: dict[str, Any]) -> str:
    """Return the page."""
    rows = Rows(result)
    found, beside = gaps(rows, "plain"), gaps(rows, "frozen")
    machine = result["machine"]
    seen = result.get("steps", 0) * result["batch"]
    lines = [
        "# Trained with few vectors, or reduced after the fact?",
        "",
        "Written by `python -m benchmarks.quality.trained --report`. nDCG@10 in hundredths with "
        "95 % bootstrap intervals over queries, exact MaxSim, float32 vectors.",
        "",
        f"From `{result['encoder']}`: every model {result.get('steps', 0):,} steps of "
        f"{result['batch']} on the same batches, {seen:,} of {result['examples']:,} examples, rate "
        f"{result['rate']:g}, seed {result['seed']}, on {machine['device']}. Frozen is the encoder "
        "as it was published; plain was trained without reduction. Both are reduced after the "
        "fact. CRISP q x d reduces queries to q and documents to d vectors in training and in use, "
        "by k-means; `documents only` leaves queries whole.",
        "",
        "## Is CRISP's claim true here?",
        "",
        "The claim is that a model trained with clustering beats clustering after the fact at "
        "every size. Tested against the plain model reduced by each of "
        f"{', '.join(METHODS)}; p-values of paired randomisation tests, corrected by Holm.",
        "",
        f"- {verdict(found, 'CRISP as published (queries are reduced, too)', False)}",
        f"- {verdict(found, 'CRISP on documents alone', True)}",
        "",
        "Against the encoder as it was published, reduced by the same methods:",
        "",
        f"- {verdict(beside, 'CRISP as published', False)}",
        f"- {verdict(beside, 'CRISP on documents alone', True)}",
        "",
    ]
    for dataset in rows.datasets:
        lines += _table(rows, result, dataset)
    lines += _differences(found)
    seconds = ", ".join(
        f"{name} {1000 * one['seconds'] / one['steps']:.0f} ms"
        for name, one in result["models"].items()
    )
    lines += ["## What training costs", "", f"A step: {seconds}.", ""]
    return "\n".join(lines)


def _table(rows: Rows, result: dict[str, Any], dataset: str) -> list[str]:
    sizes = sorted({size_of(name) for name in rows.crisp})
    head = ["vectors per document", *map(str, sizes), "all"]
    lines = [
        f"## {dataset}: {result['documents'][dataset]:,} documents, "
        f"{result['queries'][dataset]} queries",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for model in ("frozen", "plain"):
        whole = rows.cell(dataset, model, None, None)
        for method in METHODS:
            cells = [rows.cell(dataset, model, f"{method}(size={k})", None) for k in sizes]
            lines.append(_line(f"{model}, then {method}", [*cells, whole]))
    asked = {
        size_of(name): rows.crisp_key(dataset, name)[3]
        for name in rows.crisp
        if "documents only" not in name
    }
    cells = [rows.cell(dataset, "plain", f"kmeans(size={k})", asked.get(k, "")) for k in sizes]
    lines.append(_line("plain, then kmeans, queries reduced too", [*cells, "–"]))
    for only in (False, True):
        names = {size_of(name): name for name in rows.crisp if ("documents only" in name) == only}
        own = [rows.crisp_key(dataset, names[k]) if k in names else ("",) for k in sizes]
        label = "CRISP, documents only" if only else "CRISP, queries reduced too"
        lines.append(_line(label, [*(rows.cell(*key) for key in own), "–"]))
        if not only:
            cells = [rows.cell(*key[:3], None) for key in own]
            lines.append(_line("the same models, asked whole queries", [*cells, "–"]))
    return [*lines, ""]


def _line(label: str, cells: Sequence[str]) -> str:
    return f"| {label} | " + " | ".join(cells) + " |"


def _differences(found: Sequence[Gap]) -> list[str]:
    lines = [
        "## CRISP less the plain model at equal vectors per document",
        "",
        "| collection | CRISP | less plain, then | difference | p |",
        "|---|---|---|---|---|",
    ]
    for one in found:
        between = f"{100 * one.value:+.1f} ({100 * one.low:+.1f} to {100 * one.high:+.1f})"
        mark = f"**{one.p:.4f}**" if one.p < ALPHA else f"{one.p:.4f}"
        lines.append(f"| {one.dataset} | {one.crisp} | {one.method} | {between} | {mark} |")
    return [*lines, ""]
