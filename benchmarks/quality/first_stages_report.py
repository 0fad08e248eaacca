"""The table and the picture of all first stages, from the results that the benchmark left."""

from __future__ import annotations

import re
from typing import Any

from benchmarks import common

DATASETS = ("scifact", "nfcorpus", "cranfield")
COUNTS = ("10", "50", "100", "200", "500", "1000")

# Lines drawn in the picture, and their colours; the table has all of them.
DRAWN = {
    "mean(store=flat)": "#4269d0",
    "fde(store=flat)": "#efb118",
    "fde(store=pq4)": "#ff725c",
    "tokens": "#6cc5b0",
    "tokens(score=interaction)": "#3ca951",
    "lemur(store=flat)": "#ff8ab7",
    "bm25": "#a463f2",
    "mean(store=fp16) | bm25 | rrf": "#97bbf5",
    "dense(store=flat)": "#9c6b4e",
}


def write() -> None:
    """Write ``first_stages.md`` and ``first_stages.png`` beside the results."""
    found = {name: common.load(f"first_stages-{name}") for name in DATASETS}
    results = {name: one for name, one in found.items() if one}
    if not results:
        raise SystemExit("there are no results yet: run the benchmark for a dataset first")
    text = "\n".join([*_head(), *(line for one in results.values() for line in _table(one))])
    (common.RESULTS / "first_stages.md").write_text(text + "\n", encoding="utf-8")
    _picture(results)


def short(line: str) -> str:
    """Return a line without the folder of a model."""
    return re.sub(r', model="[^"]*"', "", line)


def _head() -> list[str]:
    return [
        "# First stages: what is among the candidates, and at what price",
        "",
        "Written by `python -m benchmarks.quality.first_stages --report`; do not edit.",
        "",
        "`top 10 @c` is the share of the exact top 10 (MaxSim over all 128-d token vectors) that",
        "is among the first c candidates. `R@100` and `nDCG@10` are those of the candidates after",
        "exact reranking, so what is missing there was lost by the first stage. `no rerank` is",
        "nDCG@10 of the first stage's own order. Bytes are per document, and apart from them",
        "`shared` is held once per index. Milliseconds are processor time on one thread, the",
        "median of single queries over the whole corpus in one segment: compare them within a",
        "table only.",
        "",
    ]


def _table(result: dict[str, Any]) -> list[str]:
    exact = result["exact"]
    lines = [
        f"## {result['dataset']}: {result['documents']} documents, {result['queries']} queries",
        "",
        f"Exact MaxSim: nDCG@10 {exact['nDCG@10']:.3f}, R@100 {exact['R@100']:.3f}; "
        f"its token vectors take {result['token_bytes_per_doc']:,.0f} bytes a document in float32.",
        "",
        "| first stage | bytes | shared MB | "
        + " | ".join(f"top 10 @{count}" for count in COUNTS)
        + " | R@100 @100 | R@100 @1000 | nDCG@10 @50 | nDCG@10 @100 | no rerank | ms |",
        "|---" * (len(COUNTS) + 9) + "|",
    ]
    for row in result["rows"]:
        at = row["at"]
        cells = [
            f"`{short(row['line'])}`",
            f"{row['bytes_per_doc']:,.0f}",
            f"{row['shared_bytes'] / 1e6:.1f}",
            *(f"{at[count]['top10']:.3f}" for count in COUNTS),
            f"{at['100']['R@100']:.3f}",
            f"{at['1000']['R@100']:.3f}",
            f"{at['50']['nDCG@10']:.3f}",
            f"{at['100']['nDCG@10']:.3f}",
            f"{row['unranked']['nDCG@10']:.3f}",
            f"{row['p50_ms']:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _picture(results: dict[str, dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2, len(results), figsize=(5.2 * len(results), 8.4), squeeze=False, layout="constrained"
    )
    for column, (name, result) in enumerate(results.items()):
        rows = {short(row["line"]): row for row in result["rows"]}
        _recall(axes[0][column], name, rows)
        _bytes(axes[1][column], rows)
    axes[0][0].set_ylabel("share of the exact top 10 among the candidates")
    axes[1][0].set_ylabel("share of the exact top 10 among 100 candidates")
    handles, labels = axes[0][0].get_legend_handles_labels()
    columns = 2 * len(results) - 1
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    figure.savefig(common.RESULTS / "first_stages.png", dpi=130)
    plt.close(figure)


def _recall(axis: Any, name: str, rows: dict[str, dict[str, Any]]) -> None:
    for line, colour in DRAWN.items():
        if line in rows:
            values = [rows[line]["at"][count]["top10"] for count in COUNTS]
            axis.plot(range(len(COUNTS)), values, "o-", color=colour, label=line, markersize=4)
    axis.set_xticks(range(len(COUNTS)), COUNTS)
    axis.set(title=name, xlabel="candidates", ylim=(0.3, 1.01))
    axis.grid(alpha=0.3)


def _bytes(axis: Any, rows: dict[str, dict[str, Any]]) -> None:
    """Draw every line as a point, and name those that nothing smaller beats."""
    points = sorted(
        (row["bytes_per_doc"], -row["at"]["100"]["top10"], line) for line, row in rows.items()
    )
    best = 0.0
    for size, recall, line in points:
        on_front = -recall > best
        colour = DRAWN.get(line, "#888888")
        axis.plot(size, -recall, "o", color=colour, alpha=1.0 if on_front else 0.45, markersize=6)
        if on_front:
            best = -recall
            axis.annotate(
                line, (size, -recall), textcoords="offset points", xytext=(5, -9), fontsize=7
            )
    axis.set_xscale("log")
    axis.set(xlabel="bytes per document", ylim=(None, 1.01))
    axis.grid(alpha=0.3)
