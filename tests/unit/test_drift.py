"""Quality that is measured again: on which documents, beside what, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from colreduce import Index
from colreduce.errors import BadInput
from colreduce.evaluate.drift import FEWEST, quality
from colreduce.evaluate.fidelity import LedgerMaker, RunWatch
from colreduce.evaluate.held_out import draw
from colreduce.index.sample import FILE, encoded_sample, kept_sample, places_of
from colreduce.ragged import Ragged
from tests.hashing_encoder import HashingEncoder

RECIPE = "pca(dim=8) | int8 | mean | maxsim(candidates=500)"


def documents(count: int, dims: slice, seed: int) -> list[torch.Tensor]:
    """Make documents whose vectors lie in some of 32 dimensions."""
    draws = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        vectors = np.zeros((int(draws.integers(12, 20)), 32), np.float32)
        vectors[:, dims] = draws.standard_normal(vectors[:, dims].shape)
        made.append(torch.from_numpy(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)))
    return made


def built(path: Path, items: list[torch.Tensor], recipe: str = RECIPE) -> Index:
    """Build an index of vectors, with its ledger, as the command does."""
    index = Index.create(path, recipe=recipe, dim=32)
    ids = [f"old-{number}" for number in range(len(items))]
    batch = Ragged.pack(items)
    index.fit(batch)
    asking = draw(ids, batch, None, None, 0)
    maker, watch = LedgerMaker(index, asking), RunWatch(index.pipeline, asking, 0)
    with index.batch(watch) as adding:
        adding.add(ids, embeddings=items)
    maker.take(watch.finish(), len(items))
    maker.finish(0)
    return index


def test_documents_that_the_methods_never_saw_make_a_rebuild_pay(tmp_path: Path) -> None:
    with built(tmp_path / "idx", documents(200, slice(0, 8), 1)) as index:
        before = quality(index)
        assert before.written_since == 0
        assert not before.rebuild
        assert all(stage.change is not None for stage in before.stages)
        assert all(stage.change.value == 0 for stage in before.stages if stage.change)

        new = documents(300, slice(16, 24), 2)
        index.add([f"new-{number}" for number in range(300)], embeddings=new)
        after = quality(index)
    assert after.written_since == 300
    assert after.rebuild
    assert after.relearned is not None
    assert after.relearned.low > 0.03
    blamed = {stage.kind: stage for stage in after.stages}["transform"]
    assert blamed.change is not None
    assert blamed.change.low > 0.1
    assert "learn anew" in after.why


def test_more_documents_of_the_same_kind_change_nothing(tmp_path: Path) -> None:
    with built(tmp_path / "idx", documents(200, slice(0, 8), 1)) as index:
        index.add([f"new-{i}" for i in range(200)], embeddings=documents(200, slice(0, 8), 3))
        found = quality(index)
    assert found.written_since == 200
    assert not found.rebuild


def test_a_first_stage_that_loses_more_in_a_larger_index_asks_for_more_candidates(
    tmp_path: Path,
) -> None:
    recipe = RECIPE.replace("500", "60")
    with built(tmp_path / "idx", documents(60, slice(0, 8), 1), recipe) as index:
        index.add([f"new-{i}" for i in range(400)], embeddings=documents(400, slice(0, 8), 3))
        found = quality(index)
    assert found.stages[-1].kind == "search"
    change = found.stages[-1].change
    assert change is not None
    assert change.low > 0.05
    assert not found.rebuild
    assert "more candidates" in found.why


def test_a_method_that_learns_nothing_cannot_learn_anew(tmp_path: Path) -> None:
    items = documents(60, slice(0, 32), 1)
    with built(tmp_path / "idx", items, "ward(factor=4) | int8 | mean | maxsim") as index:
        assert quality(index).relearned is None


def test_too_few_documents_are_refused_and_told(tmp_path: Path) -> None:
    wanted = f"wanted at least {FEWEST} sampled documents"
    few = documents(FEWEST - 1, slice(0, 8), 1)
    with built(tmp_path / "idx", few) as index, pytest.raises(BadInput, match=wanted):
        quality(index)


def test_an_index_without_a_sample_says_how_to_get_one(tmp_path: Path) -> None:
    with Index.create(tmp_path / "idx", recipe=RECIPE, dim=32, keep_sample=False) as index:
        index.add([str(i) for i in range(50)], embeddings=documents(50, slice(0, 8), 1))
        with pytest.raises(BadInput, match="keep_sample=True"):
            quality(index)


def test_the_sample_follows_deletes_compaction_and_purge(tmp_path: Path) -> None:
    items = documents(90, slice(0, 8), 1)
    with built(tmp_path / "idx", items) as index:
        chosen = kept_sample(index.view.snapshot)
        assert chosen is not None
        assert len(chosen) == int((places_of([f"old-{i}" for i in range(90)]) < 64 / 90).sum())
        gone = chosen.ids[0]
        index.delete([gone])
        index.add(["late"], embeddings=documents(1, slice(0, 8), 9))
        index.compact(purge=True)
        left = kept_sample(index.view.snapshot)
        assert left is not None
        assert gone not in left.ids
        assert list(places_of(left.ids)) == sorted(places_of(left.ids))
        for one, kept in zip(left.ids, left.vectors.unpack(), strict=True):
            if one != "late":
                whole = items[int(one.removeprefix("old-"))]
                assert float((kept - whole).abs().max()) < 0.01


def test_texts_are_their_own_sample_and_take_no_place(tmp_path: Path) -> None:
    texts = [
        f"Document {i} speaks of {chr(97 + i % 26)}{i} and of nothing else." for i in range(80)
    ]
    encoder = HashingEncoder()
    with Index.create(tmp_path / "idx", recipe="int8 | mean", encoder=encoder) as index:
        index.add([str(i) for i in range(80)], documents=texts)
        assert all(FILE not in segment.buffers for segment in index.view.snapshot.segments)
        sample = encoded_sample(index.view.snapshot, encoder)
        assert sample is not None
        assert sample.texts == [texts[int(one)] for one in sample.ids]
        found = quality(index)
    assert found.kind == "sentences"
    assert all(stage.at_build is None for stage in found.stages)


def test_what_is_drawn_from_a_document_does_not_depend_on_the_others() -> None:
    items = documents(40, slice(0, 32), 1)
    ids = [str(i) for i in range(40)]
    whole = draw(ids, Ragged.pack(items), None, None, 0, count=40)
    some = draw(ids[7:], Ragged.pack(items[7:]), None, None, 0, count=40)
    known = dict(zip(whole.sources, whole.vectors.unpack(), strict=True))
    assert some.sources == [one for one in whole.sources if int(one) >= 7]
    for one, vectors in zip(some.sources, some.vectors.unpack(), strict=True):
        assert torch.equal(vectors, known[one])
