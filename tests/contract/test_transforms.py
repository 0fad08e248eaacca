"""What every transform keeps to. A new row in the table is tested without a new line here."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from colreduce.ragged import Ragged
from colreduce.transform import TRANSFORMS
from colreduce.transform.center import Center
from colreduce.transform.pca import Pca
from colreduce.transform.rotate import Rotate
from colreduce.transform.truncate import Truncate

DIM = 24
SMALL = {"pca": {"dim": 10}, "truncate": {"dim": 10}}


@pytest.fixture(scope="module")
def sample() -> Ragged:
    generator = torch.Generator().manual_seed(5)
    lean = torch.randn(DIM, generator=generator)
    items = [torch.randn(n, DIM, generator=generator) + lean for n in (1, 3, 40, 17, 60)]
    return Ragged.pack([normalize(item, dim=1) for item in items])


@pytest.fixture(params=TRANSFORMS)
def transform(request):
    return TRANSFORMS[request.param].build(SMALL.get(request.param, {}))


def test_vectors_keep_unit_length_and_get_the_width_that_was_promised(transform, sample):
    out = transform.apply(sample.tokens, transform.fit(sample, seed=1))
    assert out.dtype == torch.float32
    assert out.shape == (len(sample.tokens), transform.width(DIM))
    assert (out.norm(dim=1) - 1).abs().max() < 1e-5


def test_a_row_does_not_depend_on_the_rows_beside_it(transform, sample):
    state = transform.fit(sample, seed=1)
    together = transform.apply(sample.tokens, state)
    alone = torch.cat([transform.apply(row[None], state) for row in sample.tokens])
    assert (together - alone).abs().max() < 1e-5


def test_the_same_seed_gives_the_same_bytes_and_the_input_is_untouched(transform, sample):
    before = sample.tokens.clone()
    first = transform.apply(sample.tokens, transform.fit(sample, seed=3))
    second = transform.apply(sample.tokens, transform.fit(sample, seed=3))
    assert torch.equal(first, second)
    assert torch.equal(sample.tokens, before)


def test_what_was_learned_survives_a_file(transform, sample, tmp_path):
    state = transform.fit(sample, seed=1)
    save_file(dict(state), tmp_path / "state.safetensors")
    loaded = load_file(tmp_path / "state.safetensors")
    assert torch.equal(
        transform.apply(sample.tokens, state), transform.apply(sample.tokens, loaded)
    )


def test_zero_huge_tiny_and_half_precision_vectors_stay_finite(transform, sample):
    state = transform.fit(sample, seed=1)
    odd = torch.stack([torch.zeros(DIM), torch.full((DIM,), 1e15), torch.full((DIM,), 1e-30)])
    assert torch.isfinite(transform.apply(odd, state)).all()
    half = transform.apply(sample.tokens.half(), state)
    assert half.dtype == torch.float32
    assert (half - transform.apply(sample.tokens, state)).abs().max() < 0.01


def test_no_rows_give_no_rows(transform, sample):
    state = transform.fit(sample, seed=1)
    assert transform.apply(torch.empty(0, DIM), state).shape == (0, transform.width(DIM))


def test_pca_keeps_the_products_of_vectors_that_lie_in_a_smaller_space(sample):
    inside = sample.tokens[:, :10] @ sample.tokens[:10]
    batch = sample.with_tokens(normalize(inside, dim=1))
    pca = Pca(dim=10)
    out = pca.apply(batch.tokens, pca.fit(batch, seed=0))
    assert (out @ out.T - batch.tokens @ batch.tokens.T).abs().max() < 1e-5


def test_pca_and_truncate_leave_narrow_vectors_alone(sample):
    for transform in (Pca(dim=DIM), Truncate(dim=DIM + 1)):
        out = transform.apply(sample.tokens, transform.fit(sample, seed=0))
        assert torch.equal(out, sample.tokens)


def test_pca_says_so_when_there_are_too_few_tokens_and_leaves_them_alone(sample, caplog):
    few = sample.take(slice(0, 2))
    state = Pca(dim=20).fit(few, seed=0)
    assert "cannot be learned from 4 tokens" in caplog.text
    assert torch.equal(Pca(dim=20).apply(few.tokens, state), few.tokens)


def test_truncate_keeps_the_leading_numbers_and_scales_them_back():
    out = Truncate(dim=2).apply(torch.tensor([[3.0, 4.0, 12.0]]), {})
    assert torch.allclose(out, torch.tensor([[0.6, 0.8]]))
    plain = Truncate(dim=2, renormalise=False).apply(torch.tensor([[3.0, 4.0, 12.0]]), {})
    assert plain.tolist() == [[3.0, 4.0]]


def test_center_moves_the_mean_to_zero_and_leaves_a_vector_equal_to_it_alone():
    batch = Ragged.pack([torch.tensor([[1.0, 0.0], [0.0, 1.0]])])
    center = Center(renormalise=False)
    state = center.fit(batch, seed=0)
    assert center.apply(batch.tokens, state).tolist() == [[0.5, -0.5], [-0.5, 0.5]]
    mean = torch.tensor([[0.5, 0.5]])
    assert torch.equal(Center().apply(mean, state), mean)


def test_rotate_keeps_every_product_and_differs_by_seed(sample):
    rotate = Rotate()
    state = rotate.fit(sample, seed=1)
    out = rotate.apply(sample.tokens, state)
    assert (out @ out.T - sample.tokens @ sample.tokens.T).abs().max() < 1e-5
    assert not torch.equal(state["rotation"], rotate.fit(sample, seed=2)["rotation"])
