"""Ward's clustering: the right one, and other tools' groups on the same input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling
from torch import Tensor

from colreduce.ragged import Ragged
from colreduce.reduce import trees
from colreduce.reduce.native import compiled
from colreduce.reduce.ward import Ward
from tests.reference.documents import clustered, some_documents
from tests.reference.ward import colpali_engine, partition, ward


def in_any_order(vectors: Tensor) -> Tensor:
    """Sort rows, so that two sets can be compared."""
    return torch.from_numpy(np.array(sorted(vectors.double().round(decimals=5).tolist())))


def test_groups_are_those_of_the_literal_version() -> None:
    batch = some_documents()
    sizes = (batch.lengths // 3).clamp_min(1)
    labels = Ward().group(batch, sizes, {}).labels
    for item, found in enumerate(labels.split(batch.lengths.tolist())):
        if int(batch.lengths[item]) > 30:
            continue  # the literal version takes a minute on those
        wanted = ward(batch.unpack()[item].numpy(), int(sizes[item]))
        assert partition(found.tolist()) == wanted, f"document {item}"


@pytest.mark.skipif(compiled() is None, reason="numba is not installed")
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("linkage", trees.LINKAGES)
def test_merging_up_to_the_cut_equals_cutting_the_whole_tree(linkage: str, ties: bool) -> None:
    documents = [clustered(length) for length in (2, 9, 40, 90, 90)]
    documents[4][45:] = documents[4][:45]  # every token twice
    for vectors in documents:
        table = (1 - vectors @ vectors.T).clamp(0, 2).square()
        table = (torch.triu(table, 1) + torch.triu(table, 1).T).double()
        for size in {1, 2, len(table) // 4 + 1, len(table)}:
            native = trees.cut_trees(
                table[None].clone(),
                torch.tensor([len(table)]),
                torch.tensor([size]),
                linkage,
                ties=ties,
            )
            whole = trees._cut(table.numpy(), size, linkage, ties)
            assert partition(native[0].tolist()) == partition(whole.tolist())


def test_tokens_that_are_the_same_end_in_one_vector() -> None:
    vectors = clustered(10)
    batch = Ragged.pack([torch.cat([vectors, vectors, vectors])])
    left = Ward(size=20).reduce(batch, {})
    assert left.batch.lengths.tolist() == [10]
    assert left.assignment.tolist() == [*range(10)] * 3
    assert torch.allclose(left.batch.tokens, vectors, atol=1e-6)


@pytest.mark.parametrize("protect", [0, 1, 3])
@pytest.mark.parametrize("factor", [1.1, 2, 3, 4, 7.5])
def test_mode_condensed_leaves_what_sentence_transformers_leaves(
    factor: float, protect: int
) -> None:
    documents = [clustered(length, 32) for length in (1, 2, 5, 11, 40, 125, 300)]
    theirs = HierarchicalTokenPooling(factor, num_protected_tokens=protect).pool(documents)
    ours = Ward(mode="condensed", factor=factor, protect=protect).reduce(Ragged.pack(documents), {})
    for one, other in zip(ours.batch.unpack(), theirs, strict=True):
        assert len(one) == len(other)
        assert torch.equal(one[:protect], other[:protect]) or torch.allclose(
            one[:protect], other[:protect], atol=1e-6
        )
        assert torch.allclose(in_any_order(one), in_any_order(other), atol=2e-5)


def test_mode_condensed_without_scaling_leaves_plain_means_as_sentence_transformers_does() -> None:
    documents = [clustered(length, 32) for length in (40, 125)]
    pooling = HierarchicalTokenPooling(4, num_protected_tokens=1, normalize_embeddings=False)
    ours = Ward(mode="condensed", protect=1, renormalise=False).reduce(Ragged.pack(documents), {})
    for one, other in zip(ours.batch.unpack(), pooling.pool(documents), strict=True):
        assert torch.allclose(in_any_order(one), in_any_order(other), atol=2e-5)


def test_mode_condensed_merges_repeated_tokens_as_sentence_transformers_does() -> None:
    vectors = clustered(12, 32)
    documents = [torch.cat([vectors, vectors])]
    theirs = HierarchicalTokenPooling(1.5, num_protected_tokens=0).pool(documents)[0]
    ours = Ward(mode="condensed", factor=1.5).reduce(Ragged.pack(documents), {}).batch.tokens
    assert len(ours) == len(theirs)
    assert torch.allclose(in_any_order(ours), in_any_order(theirs), atol=2e-5)


@pytest.mark.parametrize("factor", [2, 3, 9])
def test_mode_rows_leaves_what_colpali_engine_leaves(factor: int) -> None:
    documents = [clustered(length, 32) for length in (2, 3, 11, 40, 125, 300)]
    ours = Ward(mode="rows", factor=factor).reduce(Ragged.pack(documents), {})
    for one, document in zip(ours.batch.unpack(), documents, strict=True):
        other = colpali_engine(document, factor)
        assert len(one) == len(other)
        assert torch.allclose(in_any_order(one), in_any_order(other), atol=2e-5)


def test_real_pages_and_passages_are_pooled_alike(real_data: Path) -> None:
    with np.load(real_data / "vectors" / "lotte500_colbertv2.npz") as lotte:
        ends = np.cumsum(lotte["doclens"])[:40]
        rows = torch.from_numpy(lotte["doc_vectors"][: ends[-1]].astype(np.float32))
    rows = torch.nn.functional.normalize(rows, dim=1)
    documents = [part.clone() for part in torch.tensor_split(rows, torch.from_numpy(ends[:-1]))]
    batch = Ragged.pack(documents)
    theirs = HierarchicalTokenPooling(4, num_protected_tokens=1).pool(documents)
    ours = Ward(mode="condensed", protect=1).reduce(batch, {}).batch.unpack()
    pages = Ward(mode="rows").reduce(batch, {}).batch.unpack()
    for number, document in enumerate(documents):
        assert torch.allclose(in_any_order(ours[number]), in_any_order(theirs[number]), atol=2e-5)
        wanted = colpali_engine(document, 4)
        assert torch.allclose(in_any_order(pages[number]), in_any_order(wanted), atol=2e-5)
