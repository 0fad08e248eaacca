"""MaxSim as it is defined, one pair of vectors at a time, in double precision."""

from __future__ import annotations

import numpy as np


def maxsim(query: np.ndarray, document: np.ndarray) -> float:
    """Sum over the query's vectors of the largest product with a vector of the document."""
    total = 0.0
    for wanted in np.asarray(query, dtype=np.float64):
        total += max(float(wanted @ one) for one in np.asarray(document, dtype=np.float64))
    return total
