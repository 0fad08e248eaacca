"""What every reducer keeps to. A new row in the table is tested without a new line here."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from colreduce.errors import BadInput
from colreduce.ragged import TOKEN_FIELDS, Ragged
from colreduce.recipe import Recipe
from colreduce.reduce import REDUCERS
from colreduce.reduce.base import Budgeted, Merger, Reducer, Selector
from tests.contract.reducer_samples import (
    BUDGETED,
    METHODS,
    document,
    documents,
    fitted,
    shuffled,
    told,
    vectors,
    weighed,
)

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
        ],
    ),
]

# Each of these leaves fewer vectors than its budget says, and why.
FEWER = {
    "ward": "tokens that are the same always end in one vector",
    "agglomerative": "tokens that are the same always end in one vector",
}
ANOTHER_BUDGET = {'voronoi(ranking="corpus")': "its budget holds on average over the corpus"}

# What is left depends on the order of the tokens, and why.
BY_ORDER = {
    "background": "the first of the patches that look alike takes in the others",
    "dart": "pivots are asked one after the other, in their order",
    "first": "by position",
    "grid": "by position",
    "idf_per_doc": "of equally rare tokens the first is kept",
    "kmeans": "centres start at equal distances over the document",
    "last": "by position",
    "norm": "of equally long vectors the first is kept",
    "random": "the draw is by position",
    "stride": "by position",
    "tome": "tokens at even places may merge into those at odd ones only",
    "visionzip": "targets stand at equal distances over the document",
    "voronoi": "of tokens that no query would miss the last is dropped first",
    "weighted_kmeans": "centres start at equal distances over the document",
    "weighted_medoids": "centres start at equal distances over the document",
    "window": "by position",
    "words": "words are runs of neighbours",
}
# A token that is there twice counts for more than one that is there once, and why.
BY_COUNT = {
    "dart": "a pivot is asked for so many tokens, which may be the same",
    "first": "by position",
    "grid": "by position",
    "idf_per_doc": "both copies are equally rare",
    "importance": "both copies are equally important",
    "last": "by position",
    "maxmin": "starts with the token least like any other, and a copy is like it",
    "mmr": "both copies are equally important",
    "norm": "both copies are equally long",
    "pitome": "a token with a copy stands in a crowd",
    "random": "the draw is by position",
    "stride": "by position",
    "visionzip": "both copies are equally strong",
    "window": "by position",
}
# These take more than two seconds for 8,192 tokens.
LONG = ("agglomerative", "dominance", "pitome", "voronoi", "ward(mode=")
# These make means without being told how many.
UNBUDGETED_MERGERS = ("background", "words")
# A vector of these is not the mean of its tokens by their weights, and why.
OTHER_MEANS = {
    "visionzip": "a target counts as much as all the tokens it takes in",
    "weighted_kmeans": "tokens count by how rare or important they are",
    "weighted_medoids": "a group becomes the token in its middle",
}


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Reducer:
    return METHODS[request.param]


@pytest.fixture(params=BUDGETED)
def budgeted(request: pytest.FixtureRequest) -> Budgeted:
    return BUDGETED[request.param]


def distinct(batch: Ragged) -> Tensor:
    """Return how many different tokens each document has."""
    return torch.tensor([len(torch.unique(rows.cpu(), dim=0)) for rows in batch.unpack()])


def in_any_order(rows: Tensor) -> Tensor:
    return torch.tensor(sorted(rows.double().round(decimals=4).tolist()))


def copied(batch: Ragged) -> dict[str, Tensor]:
    names = ("tokens", "lengths", *TOKEN_FIELDS, "grid")
    return {
        name: getattr(batch, name).clone() for name in names if getattr(batch, name) is not None
    }


def test_a_row_has_the_name_and_the_words_that_users_are_shown(method: Reducer) -> None:
    assert REDUCERS[method.name] is type(method)
    assert type(method).__doc__
    assert method.when
    assert all(field.metadata.get("says") for field in dataclasses.fields(method))


def test_parameters_survive_the_recipe_as_a_line_and_as_a_file(method: Reducer) -> None:
    parsed = Recipe.parse(str(method))
    assert parsed.reducers == (method,)
    assert Recipe.from_toml(parsed.to_toml()).reducers == (method,)
    assert Recipe.from_dict(parsed.to_dict()).reducers == (method,)


@pytest.mark.parametrize("budget", [{"factor": 4}, {"keep": 0.3}, {"size": 6}, {"factor": 1.7}])
@pytest.mark.parametrize("protect", [0, 2])
def test_exactly_as_many_vectors_are_left_as_the_budget_says(
    budgeted: Budgeted, budget: dict[str, float], protect: int
) -> None:
    if str(budgeted) in ANOTHER_BUDGET:
        pytest.skip(ANOTHER_BUDGET[str(budgeted)])
    batch = documents()
    method = told(budgeted, protect=protect, **budget)
    left = method.reduce(batch, fitted(method, batch)).batch.lengths
    wanted = method.sizes(batch.lengths)
    if method.name in FEWER:
        assert bool((left <= wanted).all())
        assert bool((left >= torch.minimum(wanted, distinct(batch))).all())
        full = distinct(batch) == batch.lengths
        assert left[full].tolist() == wanted[full].tolist()
    else:
        assert left.tolist() == wanted.tolist()


def test_every_token_goes_to_a_vector_that_is_there_or_is_pruned(
    method: Reducer, device: str
) -> None:
    batch = documents().to(device)
    reduced = method.reduce(batch, fitted(method, batch))
    assert reduced.batch.tokens.device.type == device
    assert reduced.batch.dim == batch.dim
    assert bool((reduced.batch.lengths >= 1).all())
    assert bool((reduced.batch.lengths <= batch.lengths).all())
    for places, count in zip(
        reduced.assignment.split(batch.lengths.tolist()),
        reduced.batch.lengths.tolist(),
        strict=True,
    ):
        assert set(places.tolist()) - {-1} == set(range(count))


def test_a_selector_keeps_tokens_bit_for_bit_and_in_their_order(method: Reducer) -> None:
    if isinstance(method, Merger) or method.name in UNBUDGETED_MERGERS:
        pytest.skip("a merger makes new vectors")
    batch = documents()
    reduced = method.reduce(batch, fitted(method, batch))
    starts = reduced.batch.offsets[:-1][batch.item_of]
    place = torch.where(reduced.assignment < 0, len(batch.tokens), starts + reduced.assignment)
    # The first token that goes to a vector is that vector.
    kept = [place.tolist().index(number) for number in range(len(reduced.batch.tokens))]
    assert kept == sorted(kept)
    assert torch.equal(reduced.batch.tokens, batch.tokens[kept])
    for name in ("token_ids", "word_ids", "special") if isinstance(method, Selector) else ():
        assert torch.equal(getattr(reduced.batch, name), getattr(batch, name)[kept])


@pytest.mark.parametrize("weights", [False, True])
def test_a_merger_counts_its_tokens_and_leaves_their_mean(method: Reducer, weights: bool) -> None:
    if not isinstance(method, Merger) and method.name not in UNBUDGETED_MERGERS:
        pytest.skip("a selector makes no means")
    batch = weighed(documents()) if weights else documents()
    method = told(method, renormalise=False)
    reduced = method.reduce(batch, fitted(method, batch))
    places = reduced.assignment + (reduced.batch.offsets[:-1])[batch.item_of]
    held = torch.ones(len(places)) if batch.weights is None else batch.weights
    zeros = torch.zeros(len(reduced.batch.tokens))
    counts = zeros.index_add(0, places, held)
    assert reduced.batch.weights is not None
    assert reduced.batch.weights.tolist() == counts.tolist()
    assert batch.importance is not None
    assert reduced.batch.importance is not None
    assert torch.allclose(reduced.batch.importance, zeros.index_add(0, places, batch.importance))
    if method.name not in OTHER_MEANS:
        sums = torch.zeros_like(reduced.batch.tokens)
        sums.index_add_(0, places, batch.tokens * held[:, None])
        assert torch.allclose(reduced.batch.tokens, sums / counts[:, None], atol=1e-6)


def test_the_input_is_left_untouched(method: Reducer, device: str) -> None:
    batch = weighed(documents()).to(device)
    before = copied(batch)
    method.reduce(batch, fitted(method, batch))
    for name, value in copied(batch).items():
        assert torch.equal(value, before[name]), name


def test_a_document_alone_leaves_what_it_leaves_in_a_batch(method: Reducer, device: str) -> None:
    batch = documents().to(device)
    state = fitted(method, batch)
    together = method.reduce(batch, state)
    places = together.assignment.split(batch.lengths.tolist())
    for item, rows in enumerate(together.batch.unpack()):
        alone = method.reduce(batch.take(slice(item, item + 1)), state)
        assert torch.equal(alone.assignment, places[item]), f"document {item}"
        assert torch.allclose(alone.batch.tokens, rows, atol=1e-5)


def test_the_same_documents_leave_the_same_bits(method: Reducer, device: str) -> None:
    batch = documents().to(device)
    first = method.reduce(batch, fitted(method, batch))
    second = method.reduce(batch, fitted(method, batch))
    assert torch.equal(first.batch.tokens, second.batch.tokens)
    assert torch.equal(first.assignment, second.assignment)


def test_the_order_of_the_tokens_does_not_matter(method: Reducer) -> None:
    if method.name in BY_ORDER:
        pytest.skip(BY_ORDER[method.name])
    batch = document(vectors(40, 5))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    state = fitted(method, batch)
    here = method.reduce(batch, state).batch.tokens
    there = method.reduce(shuffled(batch, order), state).batch.tokens
    assert torch.allclose(in_any_order(here), in_any_order(there), atol=2e-4)


def test_repeating_every_token_changes_nothing(budgeted: Budgeted) -> None:
    if budgeted.name in BY_COUNT:
        pytest.skip(BY_COUNT[budgeted.name])
    if str(budgeted) in ANOTHER_BUDGET:
        pytest.skip(ANOTHER_BUDGET[str(budgeted)])
    once = document(vectors(30, 10))
    twice = shuffled(once, torch.arange(30).repeat_interleave(2))
    method = told(budgeted, size=7)
    state = fitted(method, once)
    here = method.reduce(once, state).batch.tokens
    there = method.reduce(twice, state).batch.tokens
    assert torch.allclose(in_any_order(here), in_any_order(there), atol=2e-4)


def test_documents_short_enough_stay_as_they_are_bit_for_bit(budgeted: Budgeted) -> None:
    if str(budgeted) in ANOTHER_BUDGET:
        pytest.skip(ANOTHER_BUDGET[str(budgeted)])
    batch = documents()
    method = told(budgeted, size=65)
    reduced = method.reduce(batch, fitted(method, batch))
    assert torch.equal(reduced.batch.tokens, batch.tokens)
    assert torch.equal(reduced.assignment, batch.positions)
    for name in ("token_ids", "word_ids", "special", "importance"):
        assert torch.equal(getattr(reduced.batch, name), getattr(batch, name))


def test_protected_vectors_come_first_bit_for_bit(budgeted: Budgeted) -> None:
    batch = documents()
    method = told(budgeted, protect=3, factor=5)
    reduced = method.reduce(batch, fitted(method, batch))
    places = reduced.assignment.split(batch.lengths.tolist())
    for item, (rows, left) in enumerate(zip(batch.unpack(), reduced.batch.unpack(), strict=True)):
        count = min(3, len(rows))
        assert torch.equal(left[:count], rows[:count])
        assert places[item][:count].tolist() == list(range(count))


def test_one_token_and_one_token_over_and_over_leave_that_token(method: Reducer) -> None:
    token = vectors(1, 6)
    batch = Ragged.concat([document(token), document(token.expand(30, -1).clone())])
    left = method.reduce(batch, fitted(method, batch)).batch
    assert torch.equal(left.tokens[:1], token)
    assert torch.allclose(left.tokens, token.expand(len(left.tokens), -1), atol=1e-6)


def test_what_is_finite_stays_finite(method: Reducer, device: str) -> None:
    rows = vectors(24, 7)
    awkward = torch.cat([rows, -rows, torch.zeros(3, rows.shape[1]), rows[:4] * 1e4, rows * 1e-4])
    batch = Ragged.concat([document(awkward), document(torch.zeros(9, rows.shape[1]))]).to(device)
    left = method.reduce(batch, fitted(method, batch)).batch
    assert bool(torch.isfinite(left.tokens).all())
    assert left.weights is None or bool((left.weights > 0).all())


def test_means_have_unit_length_unless_told_otherwise(method: Reducer, device: str) -> None:
    batch = documents().to(device)
    left = method.reduce(batch, fitted(method, batch)).batch
    assert float((left.tokens.norm(dim=1) - 1).abs().max()) < 1e-6


def test_plain_means_and_kept_tokens_never_score_above_the_document(method: Reducer) -> None:
    batch = documents()
    method = told(method, renormalise=False)
    left = method.reduce(batch, fitted(method, batch)).batch
    query = vectors(20, 8)
    for full, small in zip(batch.unpack(), left.unpack(), strict=True):
        best, found = (query @ full.T).amax(1).sum(), (query @ small.T).amax(1).sum()
        assert float(found) <= float(best) + len(query) * 2**-20


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_go_in_and_come_out(method: Reducer, dtype: torch.dtype) -> None:
    batch = documents()
    batch = batch.with_tokens(batch.tokens.to(dtype))
    reduced = method.reduce(batch, fitted(method, batch))
    wide = batch.with_tokens(batch.tokens.float())
    same = method.reduce(wide, fitted(method, wide))
    assert reduced.batch.tokens.dtype == dtype
    assert torch.equal(reduced.assignment, same.assignment)
    step = {torch.float16: 2**-10, torch.bfloat16: 2**-7, torch.float64: 2**-22}[dtype]
    assert torch.allclose(reduced.batch.tokens.float(), same.batch.tokens, atol=step)


def test_what_it_needs_it_asks_for_by_name(method: Reducer) -> None:
    batch = documents()
    state = fitted(method, batch)
    for name in method.needs:
        with pytest.raises(BadInput, match=f"needs {name}"):
            method.reduce(dataclasses.replace(batch, **{name: None}), state)


def test_vectors_alone_are_enough_for_methods_that_need_no_more(method: Reducer) -> None:
    if method.needs or getattr(method, "weights", "") in ("idf", "importance"):
        pytest.skip("it needs more than vectors")
    if "importance" in method.parameters().values() or method.parameters().get("unique"):
        pytest.skip("this choice needs more than vectors")
    batch = documents()
    bare = Ragged(batch.tokens, batch.lengths)
    left = method.reduce(bare, fitted(method, bare))
    assert bool((left.batch.lengths <= batch.lengths).all())


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=[pytest.mark.slow] if line.startswith(LONG) else [])
        for line in METHODS
    ],
)
def test_a_document_of_8192_tokens_is_reduced(line: str, device: str) -> None:
    batch = document(vectors(8192, 9), grid=(0, 64, 128)).to(device)
    method = told(METHODS[line], size=64)
    reduced = method.reduce(batch, fitted(method, batch))
    assert 1 <= len(reduced.batch.tokens) <= 8192
    if isinstance(method, Budgeted) and line not in ANOTHER_BUDGET:
        assert len(reduced.batch.tokens) == 64


def test_the_exceptions_name_rows_that_are_there() -> None:
    assert {*FEWER, *BY_ORDER, *BY_COUNT, *OTHER_MEANS} <= set(REDUCERS)
    assert not any(issubclass(REDUCERS[name], Selector) for name in OTHER_MEANS)
