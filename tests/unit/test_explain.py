from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from colreduce import Index, Ragged, load_encoder
from colreduce.errors import BadInput, ModelMismatch, NotFound
from colreduce.results import Explanation
from tests.golden.rewrite import documents as golden_documents
from tests.hashing_encoder import HashingEncoder
from tests.reference.maxsim import maxsim as slow_maxsim

TEXTS = {
    "tides": "The Moon raises two bulges in the oceans, so most coasts have two tides a day.",
    "bread": "Wild yeasts, naïve or not, give off carbon dioxide in a dough — and that raises it.",
    "eight": "one two three four five six",
    "slugs": "Slugs feed at night. Watering lettuce in the morning leaves them a dry bed.",
}
RECIPES = [
    "exact",
    "ward(factor=3) | int8",
    "pca(dim=32) | stopwords | ward(factor=2) | window(size=2) | int4",
    "norm(keep=0.5) | binary | mean | maxsim",
    "ward(factor=3) | fp16 | query_top(size=4) | exhaustive | maxsim",
]


@pytest.fixture(scope="module")
def encoder(demo_model):
    return load_encoder(demo_model, device="cpu")


def filled(path: Path, recipe: str, encoder, **options) -> Index:
    index = Index.create(path, recipe=recipe, encoder=encoder, **options)
    index.add(list(TEXTS), list(TEXTS.values()))
    return index


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_shares_add_up_to_the_score_of_the_hit(tmp_path, encoder, recipe):
    query = "why does bread rise without yeast?"
    with filled(tmp_path / "idx", recipe, encoder) as index:
        for hit in index.search(query, k=3):
            found = index.explain(query, hit.id)
            assert found.score == pytest.approx(hit.score, abs=1e-4)
            assert sum(match.share for match in found.matches) == pytest.approx(found.score)


def test_every_token_is_shown_where_it_stands_in_the_text(tmp_path, encoder):
    with filled(tmp_path / "idx", "ward(factor=3) | int8", encoder) as index:
        found = index.explain("How is DOUGH raised?", "bread")
    words = {found.text[slice(*t.span)]: t.text for t in found.tokens if t.span}
    assert words["Wild"] == "wild"
    assert (words["naïve"], words["—"], words["dioxide"]) == ("naive", "—", "dioxide")
    assert [t.text for t in found.tokens if t.span is None] == ["[CLS]", "[SEP]"]
    assert [t.text for t in found.tokens if t.special] == ["[CLS]", "[SEP]"]
    asked = [found.query[slice(*t.span)] for t in found.query_tokens if t.span]
    assert asked == ["How", "is", "DOUGH", "raised", "?"]


def test_a_query_token_meets_the_most_similar_stored_vector_with_all_that_went_into_it(tmp_path):
    encoder = HashingEncoder()
    with filled(tmp_path / "idx", "window(factor=2) | fp32", encoder) as index:
        found = index.explain("six seven", "eight")
        [stored] = index.get(["eight"], vectors=True)
    query = encoder.queries(["six seven"])[0]
    best = (query @ stored.vectors.T).max(1)
    assert [match.vector for match in found.matches] == best.indices.tolist()
    assert [match.share for match in found.matches] == pytest.approx(best.values.tolist())
    assert [match.tokens for match in found.matches] == [
        (2 * n, 2 * n + 1) for n in best.indices.tolist()
    ]
    assert found.score == pytest.approx(slow_maxsim(query.numpy(), stored.vectors.numpy()))


def test_what_a_token_would_have_added_unreduced_is_its_best_product_with_any_token(tmp_path):
    encoder = HashingEncoder()
    with filled(tmp_path / "idx", "window(size=3) | fp32", encoder) as index:
        found = index.explain("two yeasts", "tides")
    query, document = encoder.queries(["two yeasts", TEXTS["tides"]])
    wanted = (query @ document.T).max(1).values.tolist()
    assert [match.unreduced for match in found.matches] == pytest.approx(wanted)


def test_tokens_are_followed_through_composed_reducers(tmp_path):
    recipe = "window(factor=2) | window(factor=2) | fp32"
    with filled(tmp_path / "idx", recipe, HashingEncoder()) as index:
        found = index.explain("six", "eight")
    assert [token.vector for token in found.tokens] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert found.pruned == ()


def test_pruned_tokens_are_named(tmp_path):
    with filled(tmp_path / "idx", "first(size=3) | fp32", HashingEncoder()) as index:
        found = index.explain("two", "tides")
    assert [found.tokens[one].text for one in found.pruned[:2]] == ["raises", "two"]
    assert {token.vector for token in found.tokens} == {0, 1, 2, None}
    assert all(one not in match.tokens for match in found.matches for one in found.pruned)


def test_recomputing_finds_what_was_stored(tmp_path, encoder):
    recipe, query = "stopwords | ward(factor=3) | int8", "coasts and oceans"
    with (
        filled(tmp_path / "a", recipe, encoder) as bare,
        filled(tmp_path / "b", recipe, encoder, store_assignment=True) as storing,
    ):
        for one in TEXTS:
            again, stored = bare.explain(query, one), storing.explain(query, one)
            assert (again.traced, stored.traced) == ("recomputed", "stored")
            assert again.likeness == pytest.approx(1.0, abs=1e-3)
            assert again.tokens == stored.tokens
            assert again.matches == stored.matches


def test_where_nothing_is_reduced_every_token_is_its_own_vector(tmp_path):
    with filled(tmp_path / "idx", "exact", HashingEncoder(), store_assignment=True) as index:
        found = index.explain("two", "tides")
        assert index.describe()["bytes"]["assignment"] == 0
    assert found.traced == "unreduced"
    assert [token.vector for token in found.tokens] == list(range(len(found.tokens)))


def test_vectors_that_do_not_come_from_the_text_are_not_explained_by_it(tmp_path):
    encoder = HashingEncoder()
    with Index.create(tmp_path / "idx", recipe="window(size=2) | fp32", encoder=encoder) as index:
        other = encoder.queries(["five words of another text"])
        index.add(["same"], ["five words of this text"], embeddings=other)
        index.add(["shorter"], ["two words"], embeddings=other)
        with pytest.raises(ModelMismatch, match="came from elsewhere"):
            index.explain("words", "same")
        with pytest.raises(BadInput, match=r"gives 4 vectors, .* stored from 7"):
            index.explain("words", "shorter")


def test_without_texts_and_without_assignment_the_message_says_what_to_do(tmp_path):
    made = filled(
        tmp_path / "idx", "window(size=2) | fp32", HashingEncoder(), store_texts=False,
        store_assignment=False,
    )  # fmt: skip
    with made as index, pytest.raises(BadInput, match=r"holds no text.*store_assignment=True"):
        index.explain("two", "tides")


def test_the_assignment_is_stored_by_default_where_it_cannot_be_worked_out_again(tmp_path):
    encoder = HashingEncoder()
    recipe = "window(size=2) | fp32"
    with filled(tmp_path / "texts", recipe, encoder) as index:
        assert index.describe()["bytes"]["assignment"] == 0
    with filled(tmp_path / "no texts", recipe, encoder, store_texts=False) as index:
        assert index.describe()["bytes"]["assignment"] > 0
        found = index.explain("two", "tides")
        assert (found.traced, found.text) == ("stored", None)
    with Index.create(tmp_path / "vectors", recipe=recipe, dim=16) as index:
        index.add(["a"], embeddings=[encoder.queries(["one two"])[0]])
        query = encoder.queries(["two"])[0]
        found = index.explain(query, "a")
    assert found.traced == "stored"
    assert [token.vector for token in found.tokens] == [0, 0, 1, 1]
    assert (found.query, found.tokens[0].text, found.tokens[0].span) == (None, None, None)


def page(first: int, rows: int, columns: int, seed: int) -> Ragged:
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.nn.functional.normalize(
        torch.randn(first + rows * columns + 2, 16, generator=draw), dim=1
    )
    return Ragged.pack([tokens], grid=[torch.tensor([first, rows, columns])])


def test_the_tokens_of_a_page_are_its_patches(tmp_path):
    with Index.create(tmp_path / "idx", recipe="ward(factor=4) | int8", dim=16) as index:
        index.add(["text"], embeddings=[page(0, 2, 2, 9).tokens])
        with index.batch() as batch:
            batch.add(["no page"], embeddings=[page(0, 2, 2, 8).tokens])
            batch.add(["page"], embeddings=page(1, 2, 3, 1))
        query = page(0, 1, 1, 5).tokens
        before = index.explain(query, "page")
        index.compact()
        after = index.explain(query, "page")
        assert index.explain(query, "text").grid is None
    assert before == after
    assert before.grid == (2, 3)
    assert [token.patch for token in before.tokens] == [
        None, (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), None, None,
    ]  # fmt: skip


def test_prompts_markers_and_skipped_words_stand_nowhere_and_shift_nothing(tmp_path, demo_model):
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    from colreduce.embed.sentence_transformer import _plain_modules

    transformer, _, scale = _plain_modules(demo_model)
    model = MultiVectorEncoder(
        modules=[transformer, MultiVectorMask(skiplist_words=[",", "the"]), scale],
        device="cpu",
        prompts={"query": "query: ", "document": "a passage: "},
    )
    with filled(tmp_path / "idx", "ward(factor=2) | fp32", model) as index:
        found = index.explain("two tides", "tides")
    written = [found.text[slice(*token.span)] if token.span else None for token in found.tokens]
    read = [w for w in TEXTS["tides"].replace(",", "").replace(".", " .").split() if w != "the"]
    whole = "".join(word for word in written if word)
    assert whole == "".join(word for word in read if word != "The")
    assert [t.text for t in found.tokens][:4] == ["[CLS]", "a", "passage", ":"]
    assert written[:4] == [None] * 4
    asked = [t.text for t in found.query_tokens if t.span]
    assert asked == ["two", "tides"]


def test_a_text_that_is_cut_is_explained_as_far_as_it_was_read(tmp_path, encoder):
    long = "The tide comes in. " * 200
    with Index.create(tmp_path / "idx", recipe="ward(factor=8) | int8", encoder=encoder) as made:
        made.add(["long"], [long])
        found = made.explain("tide", "long")
    last = max(token.span[1] for token in found.tokens if token.span)
    assert len(found.tokens) == 256
    assert last < len(long) / 2
    assert found.text == long


def test_every_token_of_a_shrunk_query_is_shown_with_the_vector_nearest_to_it(tmp_path):
    recipe = "window(size=2) | fp32 | query_kmeans(size=2) | exhaustive | maxsim"
    with filled(tmp_path / "idx", recipe, HashingEncoder()) as index:
        found = index.explain("two two two tides", "tides")
    owners = sorted(one for match in found.matches for one in match.query_tokens)
    assert owners == list(range(6))
    assert len(found.matches) == 2
    assert "query_kmeans(size=2)" in found.notes[0]
    assert all(match.unreduced is None for match in found.matches)


def test_a_recipe_that_ranks_by_its_first_stage_is_said_to(tmp_path):
    with filled(tmp_path / "idx", "fp32 | mean | none", HashingEncoder()) as index:
        found = index.explain("two", "tides")
    assert any("ranks by its first stage" in note for note in found.notes)


def test_an_explanation_survives_json(tmp_path):
    with filled(tmp_path / "idx", "first(size=3) | fp32", HashingEncoder()) as index:
        found = index.explain("two tides", "tides")
    plain = json.loads(json.dumps(found.to_dict()))
    assert Explanation.from_dict(plain) == found
    assert plain["pruned"] == list(found.pruned)


def test_neighbouring_tokens_make_one_span(tmp_path):
    with filled(tmp_path / "idx", "window(size=3) | fp32", HashingEncoder()) as index:
        found = index.explain("Moon", "tides")
    assert [found.text[slice(*span)] for span in found.spans((0, 1, 2))] == ["The Moon"]
    assert [found.text[slice(*span)] for span in found.spans((1, 4))] == ["The", "two"]


def test_a_document_that_is_not_there_and_a_query_that_does_not_fit_are_refused(tmp_path):
    with filled(tmp_path / "idx", "window(size=3) | fp32", HashingEncoder()) as index:
        with pytest.raises(NotFound, match="'nobody'"):
            index.explain("Moon", "nobody")
        with pytest.raises(BadInput, match="wanted query vectors"):
            index.explain(torch.ones(2, 3), "tides")


@pytest.mark.parametrize("name", ["format-1", "format-2"])
def test_hits_of_older_indexes_are_explained(tmp_path, name):
    source = Path(__file__).parents[1] / "golden" / name
    shutil.copytree(source, tmp_path / "idx", ignore=shutil.ignore_patterns("answers.json"))
    [query] = golden_documents(1, 20)
    with Index.open(tmp_path / "idx") as index:
        [hit] = index.search(query, k=1)
        found = index.explain(query, hit.id)
        assert found.score == pytest.approx(hit.score, abs=1e-5)
        assert found.traced == "stored"
