"""The best documents are scored once more over the vectors they had before any reducer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from colreduce.errors import BadParameter
from colreduce.index import Index
from colreduce.index.shards import split
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe
from tests.reference.maxsim import maxsim
from tests.reference.rerankers import once_more

DIM, COUNT = 12, 40
RECIPE = "rotate | ward(factor=6) | int8 | exhaustive | maxsim(whole={})"


def documents() -> list[Tensor]:
    draw = torch.Generator().manual_seed(4)
    lengths = torch.randint(3, 25, (COUNT,), generator=draw)
    made = [torch.randn(int(length), DIM, generator=draw) for length in lengths]
    return [torch.nn.functional.normalize(one, dim=1) for one in made]


def query() -> Tensor:
    drawn = torch.randn(4, DIM, generator=torch.Generator().manual_seed(9))
    return torch.nn.functional.normalize(drawn, dim=1)


@pytest.fixture
def built(request, tmp_path):
    recipe = getattr(request, "param", RECIPE.format(8))
    with Index.create(tmp_path / "idx", recipe=recipe, dim=DIM, device="cpu") as index:
        for start in (0, 25):
            some = documents()[start : start + 25]
            ids = [f"d{start + number:02}" for number in range(len(some))]
            index.add(ids, embeddings=some)
        yield index


def stored_scores(index: Index) -> dict[str, float]:
    """Score every document over its reduced, stored vectors."""
    asked = index.pipeline.query(query()).numpy()
    found = index.get([f"d{number:02}" for number in range(COUNT)], vectors=True)
    return {one.id: maxsim(asked, one.vectors.numpy()) for one in found}


def whole_scores(index: Index) -> dict[str, float]:
    """Score every document over its vectors before any reducer, in half precision."""
    asked = index.pipeline.query(query()).numpy()
    kept = [index.pipeline.transform(Ragged.pack([one])).tokens.half() for one in documents()]
    return {f"d{n:02}": maxsim(asked, one.float().numpy()) for n, one in enumerate(kept)}


@pytest.mark.parametrize("built", [RECIPE.format(n) for n in (1, 8, 30)], indirect=True)
@pytest.mark.parametrize("k", [3, 10])
def test_the_best_are_those_of_the_reference(built, k):
    stored, whole = stored_scores(built), whole_scores(built)
    names = sorted(stored)
    second = built.recipe.reranker.second
    wanted = once_more(
        [stored[one] for one in names], [whole[one] for one in names], second.count, k
    )
    hits = built.search(query(), k)
    assert [hit.id for hit in hits] == [names[place] for place, _ in wanted]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in wanted], abs=1e-5)


def test_what_was_lost_by_reducing_is_found_again(built):
    whole = whole_scores(built)
    best = sorted(whole, key=lambda one: -whole[one])[:3]
    with_all = built.search(query(), 3)
    assert with_all[0].id in best
    assert all(hit.score == pytest.approx(whole[hit.id], abs=1e-5) for hit in with_all)


def test_changes_carry_the_whole_vectors_along(built, tmp_path):
    before = {hit.id: hit.score for hit in built.search(query(), COUNT)}
    assert len(before) == COUNT
    built.delete(["d03", "d30"])
    built.compact(purge=True)
    after = {hit.id: hit.score for hit in built.search(query(), COUNT)}
    assert after == {one: score for one, score in before.items() if one not in ("d03", "d30")}
    built.snapshot(tmp_path / "idx.tar")
    assert Index.verify(tmp_path / "idx").sound
    with Index.restore(tmp_path / "idx.tar", tmp_path / "again") as again:
        assert {hit.id: hit.score for hit in again.search(query(), COUNT)} == after


def test_shards_carry_the_whole_vectors_along(built, tmp_path):
    before = {hit.id: hit.score for hit in built.search(query(), COUNT)}
    shown = split(built.path, tmp_path / "shards", 2)
    found = {}
    for name in shown.folders:
        with Index.open(tmp_path / "shards" / name) as shard:
            found |= {hit.id: hit.score for hit in shard.search(query(), COUNT)}
    assert found == before


def test_filters_and_candidates_are_scored_once_more_too(tmp_path):
    recipe = "ward(factor=6) | int8 | mean | maxsim(candidates=20, whole=20)"
    with Index.create(tmp_path / "idx", recipe=recipe, dim=DIM, device="cpu") as index:
        told = [{"even": number % 2 == 0} for number in range(COUNT)]
        ids = [f"d{number:02}" for number in range(COUNT)]
        index.add(ids, embeddings=documents(), metadata=told)
        whole = whole_scores(index)
        for hits in (index.search(query(), 5), index.search(query(), 5, filter={"even": True})):
            assert len(hits) == 5
            assert [hit.score for hit in hits] == pytest.approx(
                [whole[hit.id] for hit in hits], abs=1e-5
            )
        exact = index.search(query(), 5, exact=True)
        assert [hit.score for hit in exact] == pytest.approx(
            [whole[hit.id] for hit in exact], abs=1e-5
        )


def test_the_bytes_of_whole_vectors_are_counted_among_the_vectors(tmp_path, built):
    plain = RECIPE.replace("(whole={})", "")
    with Index.create(tmp_path / "plain", recipe=plain, dim=DIM, device="cpu") as index:
        index.add([f"d{number:02}" for number in range(COUNT)], embeddings=documents())
        bare = index.describe()["bytes"]["vectors"]
    tokens = sum(map(len, documents()))
    assert built.describe()["bytes"]["vectors"] - bare == pytest.approx(tokens * DIM * 2, rel=0.05)


def test_the_explanation_says_which_vectors_it_is_about(built):
    told = built.explain(query(), built.search(query(), 1)[0].id)
    assert any("ranked by whole ones" in note for note in told.notes)


def test_int8_keeps_half_of_the_bytes_and_nearly_the_scores(tmp_path):
    found = {}
    for kept in ("fp16", "int8"):
        recipe = RECIPE.format(f'8, kept="{kept}"')
        with Index.create(tmp_path / kept, recipe=recipe, dim=DIM, device="cpu") as index:
            index.add([f"d{number:02}" for number in range(COUNT)], embeddings=documents())
            found[kept] = {hit.id: hit.score for hit in index.search(query(), 8)}
    assert found["int8"].keys() == found["fp16"].keys()
    gaps = [abs(found["int8"][one] - score) for one, score in found["fp16"].items()]
    assert 0 < max(gaps) < 0.05


def test_what_no_recipe_can_mean_is_refused():
    with pytest.raises(BadParameter, match="at least 1"):
        Recipe.parse("fp16 | maxsim(whole=0)")
    with pytest.raises(BadParameter):
        Recipe.parse('fp16 | maxsim(whole=5, kept="pq")')
    assert Recipe.parse("fp16 | maxsim").reranker.second is None
    assert np.isclose(Recipe.parse("fp16 | maxsim(whole=5)").reranker.second.count, 5)


@pytest.mark.parametrize(("rerank", "read"), [("maxsim", False), ("maxsim(whole=5)", True)])
def test_only_a_search_for_whole_vectors_counts_them(rerank, read, tmp_path):
    """Their lengths and offsets take 16 bytes of memory a document: nobody else pays for that."""
    recipe = f"ward(factor=6) | int8 | exhaustive | {rerank}"
    with Index.create(tmp_path / "idx", recipe=recipe, dim=DIM, device="cpu") as index:
        index.add([f"d{number:02}" for number in range(COUNT)], embeddings=documents())
        [segment] = index.view.segments.values()
        assert "whole" not in vars(segment)
        assert len(index.search(query(), 3)) == 3
        assert ("whole" in vars(segment)) is read


def test_how_whole_vectors_are_kept_is_refused_where_none_are():
    with pytest.raises(BadParameter, match="name whole"):
        Recipe.parse("int8 | maxsim(kept=int8)")
