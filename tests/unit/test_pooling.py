"""A recipe's reducers as a module of a sentence-transformers model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.modules import BaseTokenPooling

from colreduce.errors import BadRecipe
from colreduce.pooling import RecipePooling, token_pooling
from colreduce.ragged import Ragged
from colreduce.reduce import REDUCERS
from tests.reference.documents import clustered, some_documents

TEXTS = [
    "The wing of an aeroplane is a lifting surface.",
    "A short one.",
    "Shear flow past a flat plate in an incompressible fluid of small viscosity, with heat.",
]


def test_a_list_is_reduced_as_by_the_reducer_itself() -> None:
    batch = some_documents()
    pooled = token_pooling("ward(factor=3) | window(factor=2)").pool(batch.unpack())
    step = REDUCERS["ward"](factor=3).reduce(batch, {}).batch
    wanted = REDUCERS["window"](factor=2).reduce(step, {}).batch
    assert [len(vectors) for vectors in pooled] == wanted.lengths.tolist()
    assert torch.equal(torch.cat(pooled), wanted.tokens)


def test_a_padded_batch_goes_through_forward_all_at_once() -> None:
    documents = [clustered(length) for length in (12, 5, 1)]
    padded, mask = Ragged.pack(documents).pad()
    pooling = token_pooling("kmeans(size=3)")
    features = pooling({"token_embeddings": padded, "attention_mask": mask.long()}, task="document")
    assert features["attention_mask"].sum(1).tolist() == [3, 3, 1]
    assert features["token_embeddings"].shape == (3, 3, 16)
    for row, document in zip(features["token_embeddings"], documents, strict=True):
        alone = pooling.pool_one(document)
        assert torch.equal(row[: len(alone)], alone)
        assert float(row[len(alone) :].abs().sum()) == 0


def test_padded_vectors_are_pooled_like_the_parent_class_pools_them() -> None:
    documents = [clustered(length) for length in (12, 5)]
    padded, mask = Ragged.pack(documents).pad()
    pooled = token_pooling("first(size=4)").pool(padded, attention_mask=mask)
    assert torch.equal(pooled[0], documents[0][:4])
    assert torch.equal(pooled[1], documents[1][:4])


def test_queries_pass_unchanged_unless_asked_for() -> None:
    vectors = [clustered(12)]
    assert token_pooling("window(size=2)").pool(vectors, task="query")[0] is vectors[0]
    both = token_pooling("window(size=2)", tasks=["query", "document"])
    assert len(both.pool(vectors, task="query")[0]) == 2
    assert token_pooling("window(size=2)").pool([]) == []


def test_gradients_flow_through_the_means() -> None:
    vectors = clustered(8).requires_grad_()
    token_pooling("ward(factor=4)").pool_one(vectors).sum().backward()
    assert vectors.grad is not None
    assert bool((vectors.grad.abs().sum(1) > 0).all())


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ("ward | int8", "int8 is no reducer"),
        ("pca(dim=8) | ward", "is no reducer"),
        ("fp32", "names no reducer"),
        ("idf_types", "needs token_ids"),
        ("ward(average=20)", "learns from a corpus"),
    ],
)
def test_what_a_model_cannot_run_is_refused_with_the_reason(recipe: str, reason: str) -> None:
    with pytest.raises(BadRecipe, match=reason):
        token_pooling(recipe)


def test_the_module_is_saved_and_loaded_with_the_model(demo_model: str, tmp_path: Path) -> None:
    model = MultiVectorEncoder(demo_model, device="cpu")
    full = model.encode_document(TEXTS)
    once = model.encode_document(TEXTS, token_pooling=token_pooling("ward(factor=4, protect=1)"))
    model.append(token_pooling("ward(factor=4, protect=1)"))
    inside = model.encode_document(TEXTS)
    model.save(str(tmp_path / "model"))
    loaded = MultiVectorEncoder(str(tmp_path / "model"), device="cpu", trust_remote_code=True)
    last = loaded[-1]
    assert isinstance(last, RecipePooling)
    assert isinstance(last, BaseTokenPooling)
    assert (last.recipe, last.tasks) == ("ward(factor=4, protect=1)", ["document"])
    again = loaded.encode_document(TEXTS)
    for vectors, *others in zip(full, once, inside, again, strict=True):
        left = 1 + max((len(vectors) - 1) // 4, 1)
        assert [len(other) for other in others] == [left, left, left]
        for other in others[1:]:
            assert torch.allclose(torch.as_tensor(others[0]), torch.as_tensor(other), atol=1e-5)
    query = loaded.encode_query(TEXTS[:1])[0]
    assert torch.allclose(torch.as_tensor(query), torch.as_tensor(model.encode_query(TEXTS[:1])[0]))
