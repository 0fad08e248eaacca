"""The batched encoding equals the one that goes token by token."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from colreduce.fde import FdeConfig, draw, encode_documents, encode_queries
from colreduce.ragged import Ragged
from tests.reference import fde as reference


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    dim=st.integers(1, 24),
    repetitions=st.integers(1, 4),
    bits=st.integers(0, 6),
    projection=st.sampled_from(["dense", "sparse", "none"]),
    fill=st.booleans(),
    weighted=st.booleans(),
    centred=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_batches_equal_the_token_by_token_encoding(
    lengths, dim, repetitions, bits, projection, fill, weighted, centred, seed
):
    rng = np.random.default_rng(seed)
    tokens = rng.standard_normal((sum(lengths), dim)).astype(np.float32)
    # Repeated tokens make ties of every kind.
    tokens[rng.integers(0, len(tokens), len(tokens) // 3)] = tokens[0]
    weights = rng.integers(1, 9, len(tokens)).astype(np.float32) if weighted else None
    config = FdeConfig(
        dim=dim,
        repetitions=repetitions,
        bits=bits,
        inner_dim=int(rng.integers(1, dim + 1)),
        projection=projection,
        fill=fill,
    )
    centre = torch.from_numpy(rng.standard_normal(dim).astype(np.float32)) if centred else None
    state = draw(config, seed, centre)
    batch = Ragged(
        torch.from_numpy(tokens),
        torch.tensor(lengths),
        weights=None if weights is None else torch.from_numpy(weights),
    )
    documents = encode_documents(batch, config, state).numpy()
    queries = encode_queries(batch, config, state).numpy()
    starts = np.cumsum([0, *lengths])
    for item, (start, end) in enumerate(pairwise(starts)):
        given = (
            tokens[start:end].astype(np.float64),
            state["planes"].double().numpy(),
            state["inner"].double().numpy() if config.projects else None,
        )
        shared = {
            "dense": projection == "dense",
            "centre": None if centre is None else centre.double().numpy(),
        }
        weight = None if weights is None else weights[start:end].astype(np.float64)
        expected = reference.encode(*given, document=True, fill=fill, weights=weight, **shared)
        np.testing.assert_allclose(documents[item], expected, atol=2e-5)
        expected = reference.encode(*given, document=False, **shared)
        np.testing.assert_allclose(queries[item], expected, atol=2e-5 * lengths[item])


@settings(max_examples=30, deadline=None)
@given(final_dim=st.integers(1, 64), seed=st.integers(0, 10_000))
def test_the_count_sketch_adds_every_input_to_its_output(final_dim, seed):
    config = FdeConfig(dim=8, repetitions=2, bits=2, inner_dim=8, final_dim=final_dim)
    state = draw(config, seed)
    whole = FdeConfig(dim=8, repetitions=2, bits=2, inner_dim=8)
    batch = Ragged.pack([np.random.default_rng(seed).standard_normal((5, 8)).astype(np.float32)])
    encoded = encode_documents(batch, whole, state)[0].double().numpy()
    expected = reference.count_sketch(
        encoded, state["final_columns"].numpy(), state["final_signs"].double().numpy(), final_dim
    )
    got = encode_documents(batch, config, state)[0].numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)
