"""The tables and the pictures of all reducers and codecs, from the results that were left.

    python -m benchmarks.quality.reducers_report

Writes ``reducers.md``, ``reducers.png`` and ``codecs.png`` into ``benchmarks/results``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from benchmarks import common

DATASETS = ("scifact", "nfcorpus", "cranfield", "lotte500")
FACTORS = (2, 4, 8, 16, 32)

# Lines drawn with a colour of their own; all others are grey.
DRAWN = {
    "ward": "#4269d0",
    "cover": "#ff725c",
    'agglomerative(linkage="average")': "#3ca951",
    "kmeans": "#efb118",
    "words | ward": "#a463f2",
    "window": "#9c6b4e",
    "coverage": "#ff8ab7",
    "random": "#555555",
}


def main() -> None:
    found = {name: common.load(f"reducers-{name}") for name in DATASETS}
    reducers = {name: one for name, one in found.items() if one}
    if not reducers:
        raise SystemExit("there are no results yet: run benchmarks.quality.reducers first")
    found = {name: common.load(f"codecs-{name}") for name in DATASETS}
    codecs = {name: one for name, one in found.items() if one}
    lines = [
        "# Reducers and codecs: what is left",
        "",
        "Written by `python -m benchmarks.quality.reducers_report`; do not edit. Everything starts",
        "from `pca(dim=128)`, and every query is scored against every document by MaxSim: there is",
        "no first stage. nDCG@10 is given as a share of that of all vectors after PCA, as",
        "agreement@10 is the overlap with their top 10. Methods stand in the order of their",
        "agreement at 1/8. Bytes are those of `int8`.",
        "",
        *winners(reducers),
        *(line for one in reducers.values() for line in reducer_table(one)),
        *(line for one in codecs.values() for line in codec_table(one)),
    ]
    (common.RESULTS / "reducers.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    picture(reducers)
    if codecs:
        codec_picture(codecs)


def family(recipe: str) -> str:
    """Return a line without its budget."""
    bare = re.sub(r"(, )?factor=\d+(, )?", "", recipe)
    return bare.replace("()", "")


def budget(recipe: str) -> int | None:
    """Return the factor that a line names."""
    found = re.search(r"factor=(\d+)", recipe)
    return int(found.group(1)) if found else None


def by_family(result: dict[str, Any]) -> dict[str, dict[int | None, dict[str, Any]]]:
    """Return the rows by method and factor, the best agreement at 1/8 first."""
    rows: dict[str, dict[int | None, dict[str, Any]]] = {}
    for row in result["rows"]:
        rows.setdefault(family(row["recipe"]), {})[budget(row["recipe"])] = row

    def worth(name: str) -> float:
        row = rows[name].get(8)
        return -row["agreement@10"] if row else 0.0

    return {name: rows[name] for name in sorted(rows, key=worth)}


def share(result: dict[str, Any], row: dict[str, Any]) -> float:
    """Return nDCG@10 as a share of that of the vectors that were not reduced."""
    return float(row["nDCG@10"] / result["unreduced"]["nDCG@10"])


def winners(results: dict[str, dict[str, Any]]) -> list[str]:
    """Say which method agrees best with unreduced search at every size."""
    lines = [
        "## The best at every size, by agreement@10",
        "",
        "| set | " + " | ".join(f"1/{factor}" for factor in FACTORS) + " |",
        "|---" * (len(FACTORS) + 1) + "|",
    ]
    for name, result in results.items():
        cells = []
        for factor in FACTORS:
            rows = [row for row in result["rows"] if budget(row["recipe"]) == factor]
            # Those that drop tokens before the budget leave less than the others.
            rows = [row for row in rows if "|" not in row["recipe"]]
            best = max(rows, key=lambda row: row["agreement@10"], default=None)
            cells.append(
                f"`{family(best['recipe'])}` {best['agreement@10']:.3f} "
                f"({share(result, best):.1%} of nDCG@10)"
                if best
                else ""
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def reducer_table(result: dict[str, Any]) -> list[str]:
    """Return one dataset's table."""
    whole, exact = result["unreduced"], result["exact"]
    lines = [
        f"## {result['dataset']}: {result['documents']} documents, {result['queries']} queries",
        "",
        f"As encoded: nDCG@10 {exact['nDCG@10']:.4f}, R@100 {exact['R@100']:.4f}. After PCA: "
        f"nDCG@10 {whole['nDCG@10']:.4f}, R@100 {whole['R@100']:.4f}, "
        f"{whole['vectors_per_doc']:.1f} vectors a document. Each cell: nDCG@10 as a share, R@100, "
        "agreement@10, vectors a document, bytes a document.",
        "",
        "| method | " + " | ".join(f"1/{factor}" for factor in FACTORS) + " |",
        "|---" * (len(FACTORS) + 1) + "|",
    ]
    alone = []
    for name, rows in by_family(result).items():
        if None in rows:
            alone.append(f"| `{name}` | {cell(result, rows[None])} |")
            continue
        cells = (cell(result, rows[factor]) if factor in rows else "" for factor in FACTORS)
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return [*lines, "", "Without a budget:", "", "| method | |", "|---|---|", *alone, ""]


def cell(result: dict[str, Any], row: dict[str, Any]) -> str:
    """Return the figures of one row."""
    return (
        f"**{share(result, row):.1%}** {row['R@100']:.3f} {row['agreement@10']:.3f} "
        f"· {row['vectors_per_doc']:.1f} · {row['int8_bytes_per_doc']:,.0f} B"
    )


def codec_table(result: dict[str, Any]) -> list[str]:
    """Return what the codecs left on one dataset."""
    lines = [
        f"## Codecs on {result['dataset']}: a text takes {result['text_bytes_per_doc']:,.0f} bytes",
        "",
        "| reduced by | codec | bytes a vector | bytes a document | nDCG@10 | of PCA's | of exact "
        "| R@100 | agreement@10 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| `{row['reduced']}` | `{row['codec']}` | {row['bytes_per_vector']:.0f} "
            f"| {row['bytes_per_doc']:,.0f} | {row['nDCG@10']:.4f} "
            f"| {row['nDCG@10'] / result['pca']['nDCG@10']:.1%} "
            f"| {row['nDCG@10'] / result['exact']['nDCG@10']:.1%} "
            f"| {row['R@100']:.4f} | {row['agreement@10']:.3f} |"
        )
    return [*lines, ""]


def picture(results: dict[str, dict[str, Any]]) -> None:
    """Draw quality against vectors: the front of all methods, and the best known ones."""
    plt = plotting()
    figure, axes = plt.subplots(
        2, len(results), figsize=(4.6 * len(results), 8), squeeze=False, layout="constrained"
    )
    for column, (name, result) in enumerate(results.items()):
        whole = result["unreduced"]["vectors_per_doc"]
        for axis, value in (
            (axes[0][column], lambda row, r=result: 100 * share(r, row)),
            (axes[1][column], lambda row, r=result: 100 * row["agreement@10"]),
        ):
            draw(axis, by_family(result), whole, value)
            axis.grid(alpha=0.3)
        axes[0][column].set(title=name, ylim=(70, 104))
        axes[1][column].set(xlabel="share of the vectors", ylim=(20, 100))
    axes[0][0].set_ylabel("nDCG@10, % of all vectors'")
    axes[1][0].set_ylabel("agreement@10 with all vectors, %")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(common.RESULTS / "reducers.png", dpi=120)
    plt.close(figure)


def draw(axis: Any, families: dict[str, Any], whole: float, value: Any) -> None:
    """Draw every method's curve over the share of vectors, and the front of all points."""
    points = []
    for name, rows in families.items():
        curve = sorted((row["vectors_per_doc"] / whole, value(row)) for row in rows.values())
        points += curve
        colour = DRAWN.get(name)
        axis.plot(
            *zip(*curve, strict=True),
            "o-",
            color=colour or "#bbbbbb",
            label=name if colour else None,
            markersize=4 if colour else 2,
            linewidth=1.6 if colour else 0.6,
            zorder=3 if colour else 1,
        )
    axis.step(
        *zip(*front(points), strict=True),
        color="black",
        where="post",
        linewidth=0.8,
        linestyle="--",
        label="best of all",
        zorder=4,
    )
    axis.set_xscale("log", base=2)
    ticks = [1 / factor for factor in FACTORS]
    axis.set_xticks(ticks, [f"1/{factor}" for factor in FACTORS])


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that nothing smaller or equal in size is better than."""
    kept: list[tuple[float, float]] = []
    for size, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or quality > kept[-1][1]:
            kept.append((size, quality))
    return kept


def codec_picture(results: dict[str, dict[str, Any]]) -> None:
    """Draw quality against bytes a document, with the text's own bytes as a line."""
    plt = plotting()
    figure, axes = plt.subplots(
        1, len(results), figsize=(5.4 * len(results), 4.8), squeeze=False, layout="constrained"
    )
    lines = [re.sub(r"average=\d+", "average=1/12", one) for one in _reduced(results)]
    colours = {line: f"C{number}" for number, line in enumerate(dict.fromkeys(lines))}
    named: dict[str, Any] = {}
    for axis, (name, result) in zip(axes[0], results.items(), strict=True):
        points = []
        for reduced in _reduced({name: result}):
            rows = [row for row in result["rows"] if row["reduced"] == reduced]
            curve = [
                (row["bytes_per_doc"], 100 * row["nDCG@10"] / result["pca"]["nDCG@10"])
                for row in rows
            ]
            points += curve
            line = re.sub(r"average=\d+", "average=1/12", reduced)
            [drawn] = axis.plot(*zip(*curve, strict=True), "o", markersize=4, color=colours[line])
            named.setdefault(line, drawn)
        axis.step(*zip(*front(points), strict=True), where="post", color="black", linewidth=0.8)
        axis.axvline(result["text_bytes_per_doc"], color="#888888", linestyle=":")
        axis.annotate(
            "the text itself",
            (result["text_bytes_per_doc"], 0.02),
            xycoords=("data", "axes fraction"),
            rotation=90,
            fontsize=8,
            ha="right",
        )
        axis.axhline(98, color="#888888", linewidth=0.6)
        axis.set(title=name, xlabel="vector bytes per document", xscale="log", ylim=(85, 103))
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("nDCG@10, % of all vectors' after PCA")
    figure.legend(named.values(), named, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(common.RESULTS / "codecs.png", dpi=120)
    plt.close(figure)


def _reduced(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lines of reducers, each once, in their order."""
    rows = (row for result in results.values() for row in result["rows"])
    return list(dict.fromkeys(row["reduced"] for row in rows))


def plotting() -> Any:
    """Return matplotlib, drawing without a screen."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


if __name__ == "__main__":
    main()
