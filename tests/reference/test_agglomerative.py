"""The linkages agree with the literal version."""

from __future__ import annotations

import pytest

from colreduce.reduce.agglomerative import Agglomerative
from tests.reference.agglomerative import agglomerative
from tests.reference.documents import some_documents
from tests.reference.ward import partition


@pytest.mark.parametrize("linkage", ["average", "complete", "single"])
def test_groups_are_those_of_the_literal_version(linkage: str) -> None:
    batch = some_documents()
    sizes = (batch.lengths // 3).clamp_min(1)
    labels = Agglomerative(linkage=linkage).group(batch, sizes, {}).labels
    for item, found in enumerate(labels.split(batch.lengths.tolist())):
        if int(batch.lengths[item]) > 30:
            continue  # the literal version takes long on those
        wanted = agglomerative(batch.unpack()[item].numpy(), int(sizes[item]), linkage)
        assert partition(found.tolist()) == wanted, f"document {item}"
