"""The table and the picture of all peers, from the results that were kept."""

from __future__ import annotations

import math
from typing import Any

from benchmarks import common

DATASETS = ("scifact", "nfcorpus", "cranfield")
COLUMNS = (
    "nDCG@10",
    "of exact",
    "agreement@10",
    "bytes/doc",
    "build s",
    "p50 ms",
    "p95 ms",
    "peak MB, build",
    "peak MB, search",
)
HEAD = """\
# Peers side by side

Written by `python -m benchmarks.peers --report`; do not edit. What is compared, how, and what
follows is in [docs/peers.md](../../docs/peers.md).

`of exact` is the share of exhaustive search's nDCG@10 on the same vectors; `agreement@10` the share
of its top 10 that was found. Bytes are all files of the index over the documents, without texts.
Milliseconds are those of single queries, encoding apart. Memory is the most the process and its
children held at once, in the run that built and in the run that searched.
"""


def write_report() -> None:
    """Write ``peers.md`` and ``peers.png`` beside the results."""
    found = {name: common.load(f"peers-{name}") for name in DATASETS}
    results = {name: one for name, one in found.items() if one}
    text = "\n".join([HEAD, *(line for one in results.values() for line in _table(one))])
    (common.RESULTS / "peers.md").write_text(text, encoding="utf-8")
    if results:
        _picture(results)


def exact_of(result: dict[str, Any]) -> float:
    """Return exhaustive search's nDCG@10; NaN while it was not measured."""
    rows = {row["peer"]: row for row in result["rows"]}
    return float(rows.get("exhaustive torch", {}).get("nDCG@10", float("nan")))


def _table(result: dict[str, Any]) -> list[str]:
    exact, about = exact_of(result), result["machine"]
    lines = [
        f"## {result['dataset']}: {result['documents']:,} documents, {result['queries']} queries",
        "",
        f"{result['tokens_per_doc']:.0f} vectors of 128 numbers a document. {about['processor']}, "
        f"{about['cores']} cores.",
        "",
        "| | " + " | ".join(COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    failed = []
    for row in result["rows"]:
        if "failed" in row:
            failed.append(f"- {row['peer']} did not run: {row['failed']}.")
            continue
        lines.append(f"| {row['peer']} | " + " | ".join(_cells(row, exact)) + " |")
    recipes = [
        f"- {row['peer']}: `{row['settings']['recipe']}`"
        for row in result["rows"]
        if "recipe" in row["settings"] and " " in row["settings"]["recipe"]
    ]
    versions = sorted({need for row in result["rows"] for need in row["needs"]})
    told = [f"- Versions: {', '.join(versions)}."] if versions else []
    return [*lines, "", *failed, *recipes, *told, ""]


def _cells(row: dict[str, Any], exact: float) -> list[str]:
    return [
        f"{row['nDCG@10']:.4f}",
        f"{row['nDCG@10'] / exact:.1%}",
        f"{row['agreement@10']:.3f}",
        f"{row['bytes_per_doc']:,.0f}",
        f"{row['build_seconds']:.1f}",
        f"{row['p50_ms']:.1f}",
        f"{row['p95_ms']:.1f}",
        f"{row['peak_build_mb']:,.0f}",
        f"{row['peak_search_mb']:,.0f}",
    ]


def _picture(results: dict[str, dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2, len(results), figsize=(6.0 * len(results), 9.0), squeeze=False, layout="constrained"
    )
    for column, (name, result) in enumerate(results.items()):
        rows = [row for row in result["rows"] if "failed" not in row]
        title = f"{name} ({result['documents']:,} documents)"
        _points(axes[0][column], rows, "bytes_per_doc", "bytes per document")
        _points(axes[1][column], rows, "p50_ms", "median milliseconds per query")
        axes[0][column].set_title(title)
        for axis in (axes[0][column], axes[1][column]):
            axis.axhline(exact_of(result), color="#999999", linewidth=0.8, linestyle="--")
    axes[0][0].set_ylabel("nDCG@10 (dashed: exact)")
    axes[1][0].set_ylabel("nDCG@10 (dashed: exact)")
    figure.savefig(common.RESULTS / "peers.png", dpi=120)
    plt.close(figure)


def _points(axis: Any, rows: list[dict[str, Any]], field: str, label: str) -> None:
    logs = [math.log(row[field]) for row in rows]
    middle = (min(logs) + max(logs)) / 2
    for number, row in enumerate(sorted(rows, key=lambda one: one[field])):
        leftwards = math.log(row[field]) > middle  # so that no name runs out of the picture
        ours = row["peer"].startswith("colreduce")
        colour = "#d1495b" if ours else "#30638e"
        axis.plot(row[field], row["nDCG@10"], "o", color=colour, markersize=6)
        axis.annotate(
            row["peer"],
            (row[field], row["nDCG@10"]),
            textcoords="offset points",
            xytext=(-6 if leftwards else 6, 5 if number % 2 else -11),
            horizontalalignment="right" if leftwards else "left",
            fontsize=7,
            color=colour,
        )
    axis.set_xscale("log")
    axis.margins(x=0.25, y=0.12)
    axis.set_xlabel(label)
    axis.grid(alpha=0.3)
