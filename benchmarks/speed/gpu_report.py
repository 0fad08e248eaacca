"""The tables of `benchmarks.speed.gpu`, as a page: benchmarks/results/gpu.md.

    python -m benchmarks.speed.gpu_report

Written from the result files alone, so that no figure is typed by hand.
"""

from __future__ import annotations

import sys
from typing import Any

from benchmarks import common

PAGE = common.RESULTS / "gpu.md"
SKIPPED = ("rows ",)  # ways to cut up the work that were only tried


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Return a table of Markdown, numbers to the right."""
    lines = ["| " + " | ".join(heads) + " |"]
    lines.append("|---" * 2 + "|---:" * (len(heads) - 2) + "|")
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def head(content: dict[str, Any]) -> str:
    """Return what ran, and what it can do at most."""
    machine, limit = content["machine"], content["limits"]
    return (
        f"{machine['device']}, torch {machine['versions']['torch']}. At most: "
        f"{limit['bytes'] / 1e12:.2f} TB/s (a copy, bytes read and written), "
        f"{limit['fp32'] / 1e12:.0f} TFLOP/s in float32, {limit['fp16'] / 1e12:.0f} in float16."
    )


def maxsim(content: dict[str, Any]) -> list[str]:
    """Return the table of MaxSim."""
    rows = [
        [
            row["documents"],
            f"{row['way']}, {row['stored']}",
            f"{row['ms']:.3f}",
            f"{row['gb_per_s']:,.0f}",
            f"{row['of_bandwidth']:.1%}",
            f"{row['tflop_per_s']:.1f}",
            f"{row['of_arithmetic']:.1%}",
        ]
        for row in content["rows"]
        if not any(part in row["way"] for part in SKIPPED)
    ]
    heads = ["documents", "way", "ms", "GB/s", "of the copy", "TFLOP/s", "of the product"]
    told = (
        "One query of 32 vectors, 128 wide. GB/s are the stored bytes; operations are those of the "
        "bare product, however often the query was taken apart. Launches and looking at the "
        "lengths are counted."
    )
    return ["## MaxSim", "", head(content), "", told, "", *table(heads, rows)]


def fde(content: dict[str, Any]) -> list[str]:
    """Return the table of FDE."""
    rows = [
        [
            str(row["tokens"]),
            f"{row['cuda_documents_per_s']:,.0f}",
            f"{row['cuda_gb_per_s']:.0f}",
            f"{row['of_bandwidth']:.1%}",
        ]
        for row in content["rows"]
    ]
    told = (
        "20 repetitions of 32 blocks of 16: 10,240 numbers a document. GB/s are the tokens read "
        "and the encodings written."
    )
    heads = ["tokens", "documents/s", "GB/s", "of the copy"]
    return ["## FDE", "", head(content), "", told, "", *table(heads, rows)]


def reducers(content: dict[str, Any]) -> list[str]:
    """Return the table of reducers."""
    lengths = list(map(str, content["documents"]))
    rows = []
    for name, rates in content["rates"].items():
        cells = [name]
        for length in lengths:
            share = content["shares"].get(name, {}).get(length)
            if length not in rates:
                cells += ["failed", "", ""]
                continue
            cells += [
                f"{rates[length]:,.0f}",
                f"{content['ratios'][name][length]:,.1f}",
                f"{share['of_bandwidth']:.1%}" if share else "",
            ]
        rows.append(cells)
    heads = ["method"]
    for length in lengths:
        heads += [f"{length} tokens: documents/s", "times", "of the copy"]
    told = (
        "One vector in four is left. `times` is against sentence-transformers' pooling "
        f"({content['against']}); the share is of the bytes that would move if a method only read "
        "every vector and wrote those that are left. `bare product of pairs` is the least that a "
        "method which compares all tokens has to do."
    )
    return ["## Reducers", "", head(content), "", told, "", *table(heads, rows)]


def first_stages(content: dict[str, Any]) -> list[str]:
    """Return the table of FAISS."""
    rows = [
        [
            row["store"],
            f"{row['looked_into']} of {row['lists']}",
            f"{row['train_s']:.1f}",
            f"{row['cuda_train_s']:.1f}",
            f"{row['one_ms']:.2f}",
            f"{row['cuda_one_ms']:.2f}",
            f"{row['many_ms']:.3f}",
            f"{row['cuda_many_ms']:.3f}",
            f"{row['same_top_10']:.1%}",
        ]
        for row in content["rows"]
    ]
    heads = ["store", "lists", "training, s", "there", "one query, ms", "there"]
    heads += ["of 256, ms", "there", "same best ten"]
    told = (
        "A million vectors of 128 numbers on two threads, and there: on the device. A query alone, "
        "and its share of 256 asked at once."
    )
    return ["## FAISS", "", head(content), "", told, "", *table(heads, rows)]


PARTS = {
    "maxsim-speed-gpu": maxsim,
    "fde-speed-gpu": fde,
    "reducer-speed-gpu": reducers,
    "faiss-speed-gpu": first_stages,
}


def main() -> None:
    lines = [
        "# Speeds on a GPU",
        "",
        "<!-- Written by benchmarks/speed/gpu_report.py from the result files beside it. -->",
    ]
    for name, part in PARTS.items():
        content = common.load(name)
        if content is None:
            sys.exit(f"{name}.json is not there: python -m benchmarks.speed.gpu writes it")
        lines += ["", *part(content)]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"written to {PAGE}")


if __name__ == "__main__":
    main()
