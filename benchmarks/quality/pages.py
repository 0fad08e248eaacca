"""What is left of real ColPali pages after each reduction.

    python -m benchmarks.quality.pages

There are no queries for these pages, so two things are measured, neither of them retrieval:
coverage (for each patch, the cosine to the nearest vector that was kept; mean and worst) and
fidelity (MaxSim of noisy patches as pseudo-queries, relative to the full page, and the share of
them whose best page stays the same). Only the 32 x 32 patches take part, not the prompt tokens.
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks import common
from colreduce.maxsim import maxsim
from colreduce.ragged import Ragged
from colreduce.reduce import REDUCERS

FACTORS = (4, 9, 25, 49)
METHODS = ("grid", "window", "ward", "kmeans", "cover", "random")
PSEUDO_QUERIES, PATCHES = 40, 16


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
    grid = [torch.tensor([0, rows, columns])] * len(patches)
    return Ragged.pack([torch.nn.functional.normalize(one, dim=1) for one in patches], grid=grid)


def coverage(page: torch.Tensor, left: torch.Tensor) -> tuple[float, float]:
    """Return the mean and the worst cosine of a patch to the nearest vector left."""
    nearest = (page @ left.T).amax(1)
    return float(nearest.mean()), float(nearest.min())


def fidelity(whole: Ragged, left: Ragged) -> tuple[float, float]:
    """Return the relative score of pseudo-queries, and how often their best page is the same."""
    draw = torch.Generator().manual_seed(0)
    ratios, same = [], []
    for page in whole.unpack():
        for _ in range(PSEUDO_QUERIES):
            picked = torch.randperm(len(page), generator=draw)[:PATCHES]
            noise = torch.randn(PATCHES, whole.dim, generator=draw) * 0.05
            query = torch.nn.functional.normalize(page[picked] + noise, dim=1)
            full = maxsim(query, whole.tokens, whole.lengths)
            less = maxsim(query, left.tokens, left.lengths)
            best = int(full.argmax())
            ratios.append(float(less[best] / full[best]))
            same.append(best == int(less.argmax()))
    return float(np.mean(ratios)), float(np.mean(same))


def main() -> None:
    batch = pages()
    rows = []
    for name in METHODS:
        for factor in FACTORS:
            reducer = REDUCERS[name].build({"factor": factor})
            left = reducer.reduce(batch, reducer.fit(batch, seed=0)).batch
            pairs = [coverage(*pair) for pair in zip(batch.unpack(), left.unpack(), strict=True)]
            ratio, same = fidelity(batch, left)
            rows.append(
                {
                    "recipe": f"{name}(factor={factor})",
                    "vectors_per_page": float(left.lengths.float().mean()),
                    "coverage_mean": float(np.mean([mean for mean, _ in pairs])),
                    "coverage_worst": float(np.min([worst for _, worst in pairs])),
                    "pseudo_query_score": ratio,
                    "same_best_page": same,
                }
            )
            print(rows[-1], flush=True)
    common.save("pages", {"machine": common.machine(), "pages": len(batch), "rows": rows})


if __name__ == "__main__":
    main()
