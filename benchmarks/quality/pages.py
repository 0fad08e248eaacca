"""What is left of real ColPali pages after each reduction.

    python -m benchmarks.quality.pages

There are no queries for these pages, so nothing here is retrieval. Measured is, for a factor and a
method that leaves as many vectors:

coverage  for each patch, the cosine to the nearest vector that was kept: mean and worst
noisy     MaxSim of some patches of the page with noise on them, relative to the full page
held out  the same for two rows of patches that were taken off the page before it was reduced
planted   vectors of a direction of their own, put in the place of 1 or of 4 neighbouring patches:
          MaxSim of a query for it, relative to the full page, and how often that page stays first

Only the 32 x 32 patches take part, not the prompt's tokens. All pages but one come from a single
document, so a page's best rival is much like it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks import common
from colreduce.maxsim import maxsim
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe

FACTORS = (4, 9, 25, 49)
# The factor is that of the last step; what comes before may have left fewer vectors already, so
# the number that is wanted is given as a size.
METHODS = (
    "ward", "cover", "kmeans", "background | ward", "grid", "window", "tome", "visionzip",
    "medoids", "kcenter", "random",
)  # fmt: skip
QUERIES, PATCHES = 40, 16
ROWS_OUT = 2
NEEDLES = 8
SIGNAL = 0.8


def pages() -> Ragged:
    """Load the pages' patches in reading order."""
    file = np.load(common.data("vectors", "colpali_pages.npz"), allow_pickle=False)
    names = sorted(name for name in file.files if name.startswith("page_") and file[name].ndim == 2)
    if names:
        items = [file[name] for name in names]
    else:
        items = np.split(file["doc_vectors"], np.cumsum(file["doclens"])[:-1])
    rows = int(np.ravel(file["grid_rows"])[0])
    columns = int(np.ravel(file["grid_cols"])[0])
    patches = [torch.from_numpy(item[: rows * columns].astype(np.float32)) for item in items]
    return packed(patches, rows, columns)


def packed(patches: Sequence[Tensor], rows: int, columns: int) -> Ragged:
    grid = [torch.tensor([0, rows, columns])] * len(patches)
    return Ragged.pack([normalize(one, dim=1) for one in patches], grid=grid)


def reduced(batch: Ragged, method: str, factor: int) -> Ragged:
    """Return what a method leaves of pages that are all of one length."""
    size = max(1, int(batch.lengths[0]) // factor)
    for reducer in Recipe.parse(f"{method}(size={size}) | fp32").reducers:
        batch = reducer.reduce(batch, reducer.fit(batch, seed=0)).batch
    return batch


def coverage(page: Tensor, left: Tensor) -> tuple[float, float]:
    """Return the mean and the worst cosine of a patch to the nearest vector left."""
    nearest = (page @ left.T).amax(1)
    return float(nearest.mean()), float(nearest.min())


def kept(queries: Sequence[Tensor], whole: Ragged, left: Ragged) -> tuple[float, float]:
    """Return the score of each query's best page, relative, and how often it stays the best."""
    ratios, same = [], []
    for query in queries:
        full = maxsim(query, whole.tokens, whole.lengths)
        less = maxsim(query, left.tokens, left.lengths)
        best = int(full.argmax())
        ratios.append(float(less[best] / full[best]))
        same.append(best == int(less.argmax()))
    return float(np.mean(ratios)), float(np.mean(same))


def noisy(patches: Sequence[Tensor], seed: int) -> list[Tensor]:
    """Draw queries: some patches of one page each, with noise."""
    draw = torch.Generator().manual_seed(seed)
    made = []
    for page in patches:
        for _ in range(QUERIES):
            picked = torch.randperm(len(page), generator=draw)[:PATCHES]
            noise = torch.randn(PATCHES, page.shape[1], generator=draw) * 0.05
            made.append(normalize(page[picked] + noise, dim=1))
    return made


def without_rows(batch: Ragged) -> tuple[Ragged, list[Tensor]]:
    """Return the pages without two of their rows, and those rows."""
    assert batch.grid is not None
    _, rows, columns = batch.grid[0].tolist()
    draw = torch.Generator().manual_seed(1)
    left, out = [], []
    for page in batch.unpack():
        chosen = torch.randperm(rows, generator=draw)[:ROWS_OUT]
        mask = torch.zeros(rows, dtype=torch.bool)
        mask[chosen] = True
        mask = mask.repeat_interleave(columns)
        left.append(page[~mask])
        out.append(page[mask])
    return packed(left, rows - ROWS_OUT, columns), out


def planted(batch: Ragged, patches: int) -> tuple[Ragged, list[Tensor]]:
    """Put directions of their own in the place of some patches; return pages and queries.

    patches  1, or 4 in a square
    """
    assert batch.grid is not None
    _, rows, columns = batch.grid[0].tolist()
    draw = torch.Generator().manual_seed(patches)
    side = 1 if patches == 1 else 2
    # Squares of 4 by 4 patches, of which no two needles share one.
    cells = [(row, column) for row in range(0, rows, 4) for column in range(0, columns, 4)]
    made, queries = [], []
    for page in batch.unpack():
        page = page.clone()
        picked = torch.randperm(len(cells), generator=draw)[:NEEDLES].tolist()
        for row, column in (cells[one] for one in picked):
            own = normalize(torch.randn(page.shape[1], generator=draw), dim=0)
            inside = [(row + 1 + a) * columns + column + 1 + b for a in range(side)
                      for b in range(side)]  # fmt: skip
            page[inside] = normalize(SIGNAL * own + (1 - SIGNAL**2) ** 0.5 * page[inside], dim=1)
            noise = torch.randn(4, page.shape[1], generator=draw) * 0.03
            queries.append(normalize(own + noise, dim=1))
        made.append(page)
    return packed(made, rows, columns), queries


def main() -> None:
    batch = pages()
    shorter, out = without_rows(batch)
    needles = {patches: planted(batch, patches) for patches in (1, 4)}
    pseudo, held = noisy(batch.unpack(), 0), noisy(out, 2)
    rows = []
    for method in METHODS:
        for factor in FACTORS:
            left = reduced(batch, method, factor)
            pairs = [coverage(*pair) for pair in zip(batch.unpack(), left.unpack(), strict=True)]
            row = {
                "method": method,
                "factor": factor,
                "vectors_per_page": float(left.lengths.float().mean()),
                "coverage_mean": float(np.mean([mean for mean, _ in pairs])),
                "coverage_worst": float(np.min([worst for _, worst in pairs])),
                "noisy": kept(pseudo, batch, left),
                "held_out": kept(held, shorter, reduced(shorter, method, factor)),
            }
            for patches, (whole, queries) in needles.items():
                row[f"planted_{patches}"] = kept(queries, whole, reduced(whole, method, factor))
            rows.append(row)
            print(row, flush=True)
    common.save("pages", {"machine": common.machine(), "pages": len(batch), "rows": rows})
    (common.RESULTS / "pages.md").write_text(report(rows), encoding="utf-8")


def report(rows: Sequence[dict[str, object]]) -> str:
    """Return the figures as tables, one for each measure."""
    shown = {
        "held_out": "MaxSim of patches that were held out, relative to the full page",
        "noisy": "MaxSim of patches with noise, relative to the full page",
        "planted_1": "MaxSim of a query for one planted patch, relative; in brackets how often "
        "its page stays first of seven",
        "planted_4": "MaxSim of a query for four planted neighbours, relative; in brackets how "
        "often its page stays first of seven",
    }
    lines = [
        "# Pages: what is left after each reduction",
        "",
        "Written by `python -m benchmarks.quality.pages`; do not edit. Seven real ColPali pages of",
        "1,024 patches; no retrieval is measured, for there are no queries for them.",
    ]
    for name, title in shown.items():
        lines += [
            "",
            f"## {title}",
            "",
            "| method | 4x | 9x | 25x | 49x |",
            "|---|---|---|---|---|",
        ]
        for method in METHODS:
            cells = []
            for row in rows:
                if row["method"] == method:
                    ratio, same = row[name]  # type: ignore[misc]
                    cells.append(
                        f"{ratio:.3f} ({same:.0%})" if "planted" in name else f"{ratio:.3f}"
                    )
            lines.append(line(method, cells))
    lines += ["", "## Cosine of a patch to the nearest vector left: mean, worst", ""]
    lines += ["| method | 4x | 9x | 25x | 49x |", "|---|---|---|---|---|"]
    for method in METHODS:
        some = [row for row in rows if row["method"] == method]
        cells = [f"{row['coverage_mean']:.3f}, {row['coverage_worst']:.3f}" for row in some]
        lines.append(line(method, cells))
    return "\n".join(lines) + "\n"


def line(method: str, cells: Sequence[str]) -> str:
    name = method.replace("|", "\\|")
    return f"| `{name}` | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
