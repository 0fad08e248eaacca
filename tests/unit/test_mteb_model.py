"""An index that mteb evaluates, on a task that is made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from colreduce.errors import BadInput
from colreduce.evaluate.mteb_model import MtebModel
from tests.hashing_encoder import HashingEncoder

mteb = pytest.importorskip("mteb", reason="mteb is not installed")
datasets = pytest.importorskip("datasets", reason="datasets is not installed")

TEXTS = {
    "tides": ("The sea", "The Moon raises two bulges in the oceans"),
    "bread": ("", "Wild yeasts give off carbon dioxide in a dough"),
    "slugs": ("In the garden", "Slugs feed at night and hide by day"),
    "bees": ("", "Bees dance to tell where flowers are"),
}
QUERIES = {"q1": "yeasts in a dough", "q2": "where do slugs hide", "q3": "the Moon and the sea"}
RELEVANT = {"q1": {"bread": 1}, "q2": {"slugs": 1}, "q3": {"tides": 1}}


def task() -> Any:
    """Make a retrieval task of mteb without any network."""
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class Small(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="SmallRetrieval",
            description="Four documents.",
            reference=None,
            dataset={"path": "none/none", "revision": "1"},
            type="Retrieval",
            category="t2t",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, *_: Any, **__: Any) -> None:
            from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData

            self.dataset = {
                "default": {
                    "test": RetrievalSplitData(
                        corpus=corpus(), queries=queries(), relevant_docs=RELEVANT, top_ranked=None
                    )
                }
            }
            self.data_loaded = True

    return Small()


def corpus() -> Any:
    rows = [{"id": one, "title": title, "text": text} for one, (title, text) in TEXTS.items()]
    return datasets.Dataset.from_list(rows)


def queries() -> Any:
    return datasets.Dataset.from_list([{"id": one, "text": text} for one, text in QUERIES.items()])


@pytest.fixture
def model(tmp_path: Path) -> Any:
    made = MtebModel(HashingEncoder(), "ward(factor=2) | int8", cache=tmp_path / "cache")
    yield made
    made.close()


def test_mteb_evaluates_the_index(model: MtebModel, tmp_path: Path) -> None:
    cache = mteb.ResultCache(cache_path=tmp_path / "results")
    found = mteb.evaluate(model, task(), cache=cache)
    [result] = found.task_results
    [scores] = result.scores["test"]
    assert scores["ndcg_at_10"] == pytest.approx(1.0)
    assert scores["main_score"] == scores["ndcg_at_10"]


def test_the_model_says_which_recipe_it_is(model: MtebModel) -> None:
    from mteb.models.models_protocols import SearchProtocol

    assert isinstance(model, SearchProtocol)
    meta = model.mteb_model_meta
    assert meta.name == "colreduce/hashing"
    assert meta.experiment_kwargs is not None
    assert meta.experiment_kwargs["recipe"].startswith("ward(factor=2)")


def test_only_the_documents_that_were_ranked_before_are_ranked_again(model: MtebModel) -> None:
    model.index(corpus())
    found = model.search(queries(), top_k=2, top_ranked={one: ["bees", "bread"] for one in QUERIES})
    assert set(found) == set(QUERIES)
    assert list(found["q1"]) == ["bread", "bees"]
    free = model.search(queries(), top_k=4)
    assert free["q1"]["bread"] == pytest.approx(found["q1"]["bread"], abs=1e-5)


def test_what_has_no_text_is_refused(model: MtebModel) -> None:
    with pytest.raises(BadInput, match="no text"):
        model.index(datasets.Dataset.from_list([{"id": "a", "text": None}]))
    with pytest.raises(BadInput, match="index"):
        model.search(queries(), top_k=1)
