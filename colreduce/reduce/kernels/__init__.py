"""Kernels compiled by numba. They take whole buckets, release the GIL and allocate little."""

from __future__ import annotations

from colreduce.reduce.kernels.centres import move_centres
from colreduce.reduce.kernels.means import means
from colreduce.reduce.kernels.seats import facility_location
from colreduce.reduce.kernels.trees import agglomerate, agglomerate_products

__all__ = ["agglomerate", "agglomerate_products", "facility_location", "means", "move_centres"]
