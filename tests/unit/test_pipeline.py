from __future__ import annotations

import pytest
import torch

import colreduce
from colreduce.pipeline import BLOCK_TOKENS, Pipeline
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe


def unit(count: int, dim: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, dim, generator=draw), dim=1)


def batch(lengths: list[int], dim: int = 8) -> Ragged:
    return Ragged.pack([unit(length, dim, seed) for seed, length in enumerate(lengths)])


def fitted(line: str, documents: Ragged) -> Pipeline:
    return Pipeline.fit(Recipe.parse(line), documents, seed=0)


def test_assignments_lead_from_the_tokens_given_to_the_vectors_left():
    documents = Ragged.pack([torch.eye(8)])
    pipeline = fitted("window(factor=2, renormalise=false) | window(factor=2)", documents)
    first, second = (step for _, step in pipeline.reduce_steps(documents))
    assert first.assignment.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert second.assignment.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert second.batch.weights is not None
    assert second.batch.weights.tolist() == [4, 4]
    half = 0.5
    assert torch.allclose(second.batch.tokens[0], torch.tensor([half] * 4 + [0.0] * 4))


def test_the_assignment_holds_for_every_document_of_a_batch():
    documents = batch([5, 1, 12, 7])
    whole = fitted("ward(factor=2) | window(factor=2)", documents).reduce(documents)
    alone = [
        fitted("ward(factor=2) | window(factor=2)", documents).reduce(
            documents.take(slice(i, i + 1))
        )
        for i in range(4)
    ]
    assert whole.assignment.tolist() == [n for one in alone for n in one.assignment.tolist()]
    assert torch.allclose(whole.batch.tokens, torch.cat([one.batch.tokens for one in alone]))


def test_without_reducers_every_token_is_its_own():
    documents = batch([3, 2])
    step = fitted("int8", documents).reduce(documents)
    assert step.assignment.tolist() == [0, 1, 2, 0, 1]
    assert step.batch is documents


def test_documents_and_queries_go_through_the_same_transforms():
    documents = batch([30, 40])
    pipeline = fitted("pca(dim=4)", documents)
    assert torch.equal(pipeline.transform(documents).tokens, pipeline.query(documents.tokens))
    assert pipeline.query(documents.tokens).shape == (70, 4)


def test_a_large_batch_is_reduced_in_blocks_with_the_same_result():
    documents = batch([50_000, 60_000, 40_000, 3], dim=2)
    assert len(documents.tokens) > BLOCK_TOKENS
    pipeline = fitted("window(factor=4)", documents)
    in_blocks = pipeline.reduce(documents)
    alone = [pipeline.reduce(documents.take(slice(i, i + 1))) for i in range(4)]
    assert in_blocks.assignment.tolist() == [n for one in alone for n in one.assignment.tolist()]
    assert torch.allclose(in_blocks.batch.tokens, torch.cat([one.batch.tokens for one in alone]))


def test_reduced_takes_a_list_of_matrices_and_returns_one():
    items = [unit(length, 8, length) for length in (1, 9, 16)]
    small = colreduce.reduced(items, "ward(factor=4)")
    assert [tuple(item.shape) for item in small] == [(1, 8), (2, 8), (4, 8)]
    assert torch.equal(small[0], items[0])
    assert [item.dtype for item in colreduce.reduced([items[1].half()], "window(factor=3)")] == [
        torch.float16
    ]


def test_reduced_refuses_what_is_not_a_recipe():
    with pytest.raises(colreduce.ColreduceError, match="Did you mean 'ward'"):
        colreduce.reduced([unit(4, 8, 0)], "wardd(factor=4)")
