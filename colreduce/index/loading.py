"""The encoder of an index, new or stored, and its methods as they learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from colreduce.candidates.vectors.gpu import gpus
from colreduce.device import CPU
from colreduce.embed import Encoder, load_encoder
from colreduce.errors import BadInput
from colreduce.index.identity import check_identity
from colreduce.maxsim import backend
from colreduce.method import State
from colreduce.pipeline import Pipeline
from colreduce.recipe import Recipe
from colreduce.store import Snapshot


def stored_pipeline(recipe: Recipe, snapshot: Snapshot) -> Pipeline:
    """Return a recipe with what its methods learned when the index was founded."""
    return known_pipeline(recipe, snapshot.models)


def known_pipeline(recipe: Recipe, models: Mapping[str, Mapping[str, NDArray[Any]]]) -> Pipeline:
    """Return a recipe with what its methods learned, as `learned` tells it."""
    keys = dict(recipe.keyed())
    states: dict[str, State] = {
        key: {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        for key, arrays in models.items()
        if key in keys
    }
    return Pipeline(recipe, states)


def learned(pipeline: Pipeline) -> dict[str, dict[str, NDArray[Any]]]:
    """Return what the methods learned as arrays, which `stored_pipeline` makes states of again."""
    return {
        key: {name: tensor.cpu().numpy() for name, tensor in state.items()}
        for key, state in pipeline.states.items()
        if state
    }


def places(pipeline: Pipeline) -> dict[str, Any]:
    """Return what an index notes of where its documents passed the stages: nothing of a CPU."""
    if pipeline.device == CPU:
        return {}
    name = torch.cuda.get_device_name(pipeline.device)
    stages = {**pipeline.places(), "maxsim": f"{pipeline.device} by {backend(pipeline.device)}"}
    if gpus():
        stages["faiss"] = f"the first of {gpus()} GPUs"
    return {"ran_on": {"device": name, "stages": stages}}


def new_encoder(encoder: Any, dim: int | None, device: str) -> Encoder | None:
    """Load the encoder of a new index; None for one that is given the width of its vectors."""
    if (encoder is None) == (dim is None):
        raise BadInput(
            "wanted either encoder= (a model) or dim= (an index for vectors only)",
            field="encoder",
        )
    return None if encoder is None else load_encoder(encoder, device=device)


def stored_encoder(config: Mapping[str, Any]) -> Encoder:
    """Load the model that the index was built with, or say why that cannot be."""
    source = config.get("encoder_source")
    if config.get("encoder") is None:
        raise BadInput(
            "this index was built from vectors, so it cannot encode text: "
            "give vectors instead of text",
            field="query",
        )
    if source is None:
        raise BadInput(
            "this index was built with a model that was already loaded: "
            "open it with Index.open(path, encoder=model) to use text",
            field="encoder",
        )
    loaded = load_encoder(source)
    check_identity(config["encoder"], loaded)
    return loaded
