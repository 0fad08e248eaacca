"""A device that is asked for by name is there, or the asking is an error."""

from __future__ import annotations

import pytest
import torch

from colreduce.candidates import FIRST_STAGES
from colreduce.device import chosen
from colreduce.errors import BadInput
from colreduce.pipeline import Pipeline
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe
from tests.contract.reducer_samples import documents

COUNT = torch.cuda.device_count() if torch.cuda.is_available() else 0


def test_the_processor_is_always_there():
    assert chosen("cpu") == "cpu"


def test_auto_is_the_first_device_or_the_processor():
    assert chosen("auto") == ("cuda:0" if COUNT else "cpu")


def test_a_device_that_is_not_there_is_never_replaced():
    with pytest.raises(BadInput, match="was asked for, and there is"):
        chosen(f"cuda:{COUNT}")
    if not COUNT:
        with pytest.raises(BadInput, match="no CUDA device here"):
            chosen("cuda")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "cuda0", "CPU"])
def test_a_name_of_no_device_is_refused(name):
    if name == "cuda:" and COUNT:
        pytest.skip("read as cuda")
    with pytest.raises(BadInput) as told:
        chosen(name)
    assert told.value.field == "device"


def test_a_pipeline_says_what_runs_where():
    recipe = Recipe.parse("pca(dim=8) | ward(factor=2) | int8 | fde | bm25 | rrf | maxsim")
    places = Pipeline(recipe).on("cuda:1").places()
    assert places == {
        "transform.0": "cuda:1",
        "reduce.0": "cuda:1",
        "codec.0": "cuda:1",
        "first_stage.0": "cuda:1",
        "first_stage.1": "cpu",
    }
    assert set(Pipeline(recipe).places().values()) == {"cpu"}


def test_first_stages_say_whether_they_take_vectors_on_a_device():
    assert sorted(name for name, row in FIRST_STAGES.items() if row.on_device) == ["fde", "mean"]


@pytest.mark.gpu
@pytest.mark.skipif(not COUNT, reason="there is no CUDA device")
@pytest.mark.parametrize("codec", ["fp16", "int8", "residual(bits=2)"])
def test_documents_leave_a_device_as_they_leave_the_processor(codec):
    batch = documents()
    recipe = (
        f"pca(dim=8) | ward(factor=2) | {codec} | fde(repetitions=2, bits=2, inner_dim=4) | maxsim"
    )
    learned = Pipeline.fit(Recipe.parse(recipe), batch)
    assert all(
        tensor.device.type == "cpu"
        for state in learned.states.values()
        for tensor in state.values()
    )
    here, there = learned.passed(batch), learned.on("cuda:0").passed(batch)
    assert there.left.batch.tokens.device.type == "cuda"
    there = there.to("cpu")
    assert torch.equal(there.left.assignment, here.left.assignment)
    assert torch.allclose(there.left.batch.tokens, here.left.batch.tokens, atol=1e-5)
    assert float((learned.decode(there.codes) - learned.decode(here.codes)).abs().max()) < 0.02


@pytest.mark.gpu
@pytest.mark.skipif(not COUNT, reason="there is no CUDA device")
def test_what_is_learned_on_a_device_is_kept_off_it():
    draw = torch.Generator().manual_seed(1)
    batch = Ragged(torch.randn(600, 24, generator=draw), torch.full((20,), 30))
    narrow = "pca(dim=8) | voronoi | pq(parts=4) | fde(inner_dim=4)"
    for line in (narrow, "rotate | kmeans | residual | tokens"):
        learned = Pipeline.fit(Recipe.parse(f"{line} | maxsim"), batch, device="cuda:0")
        assert learned.device == "cuda:0"
        kept = [tensor for state in learned.states.values() for tensor in state.values()]
        assert {tensor.device.type for tensor in kept} == {"cpu"}
