"""Encoders of pages, on tiny models with random numbers that the real classes build."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from colreduce.embed import PageEncoder, load_encoder, reads_pages
from colreduce.embed.visual import VisualEncoder
from colreduce.errors import BadInput
from colreduce.ragged import Ragged
from tests.reference import tiny_page_models

images = pytest.importorskip("PIL.Image", reason="pillow is not installed")
drawing = pytest.importorskip("PIL.ImageDraw")

SAVE = {
    "colpali": tiny_page_models.save_colpali,
    "colqwen2": tiny_page_models.save_colqwen2,
    "colmodernvbert": tiny_page_models.save_colmodernvbert,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VisualEncoder]:
    folder = tmp_path_factory.mktemp("models")
    return {name: load_encoder(save(folder / name), device="cpu") for name, save in SAVE.items()}  # type: ignore[misc]


def pictures() -> list[Any]:
    """Return an upright page and a wide one, with something on them."""
    made = []
    for size in ((600, 800), (900, 500)):
        picture = images.new("RGB", size, "white")
        draw = drawing.Draw(picture)
        for row in range(9):
            draw.rectangle((40, 40 + 45 * row, 60 + 30 * row, 60 + 45 * row), fill=(20 * row, 0, 9))
        made.append(picture)
    return made


def pages(encoder: VisualEncoder) -> Ragged:
    return Ragged.concat(list(encoder.pages(pictures())))


@pytest.mark.parametrize("name", SAVE)
def test_a_folder_with_such_a_model_becomes_an_encoder_of_pages(models, name: str):
    encoder = models[name]
    assert isinstance(encoder, VisualEncoder)
    assert isinstance(encoder, PageEncoder)
    assert reads_pages(encoder)
    assert encoder.dim == 16
    with pytest.raises(BadInput, match="reads pages as pictures"):
        list(encoder.documents(["a text"]))


@pytest.mark.parametrize("name", ["colpali", "colqwen2"])
def test_vectors_are_those_of_sentence_transformers(models, name: str):
    encoder = models[name]
    for picture, ours in zip(pictures(), pages(encoder).unpack(), strict=True):
        [theirs] = encoder.model.encode_document([picture], show_progress_bar=False)
        torch.testing.assert_close(ours, theirs.float(), atol=2e-6, rtol=0)
    [ours] = encoder.queries(["what rises"])
    [theirs] = encoder.model.encode_query(["what rises"], show_progress_bar=False)
    torch.testing.assert_close(ours, theirs.float(), atol=2e-6, rtol=0)


def test_colpali_sees_every_page_as_one_square(models):
    batch = pages(models["colpali"])
    assert batch.grid is not None
    assert batch.grid.tolist() == [[0, 8, 8], [0, 8, 8]]
    assert batch.special is not None
    assert [int(part.sum()) for part in batch.special.split(batch.lengths.tolist())] == [5, 5]
    assert not batch.special[:64].any()


def test_colqwen2_sees_a_page_in_its_own_shape(models):
    batch = pages(models["colqwen2"])
    assert batch.grid is not None
    assert batch.special is not None
    upright, wide = batch.grid.tolist()
    assert upright[1] > upright[2]
    assert wide[1] < wide[2]
    for item, (first, rows, columns) in enumerate(batch.grid.tolist()):
        special = batch.take(torch.tensor([item])).special
        assert special is not None
        assert not special[first : first + rows * columns].any()
        assert int((~special).sum()) == rows * columns


def test_the_tiles_of_colmodernvbert_are_put_together_as_the_page_is(models):
    encoder = models["colmodernvbert"]
    picture = pictures()[1]
    [batch] = encoder.pages([picture])
    assert batch.grid is not None
    assert batch.special is not None
    assert batch.grid.tolist() == [[0, 4, 6]]  # 2 by 3 tiles of 2 by 2 patches
    features = encoder.model.processor.process_images([picture])
    with torch.inference_mode():
        raw = encoder.model({**features, "modality": "image"}, task="document")
    names = encoder.model.processor.tokenizer.convert_ids_to_tokens(
        features["input_ids"][0].tolist()
    )
    vectors = raw["token_embeddings"][0]
    for row in range(4):
        for column in range(6):
            tile = names.index(f"<row_{row // 2 + 1}_col_{column // 2 + 1}>")
            there = tile + 1 + row % 2 * 2 + column % 2
            torch.testing.assert_close(batch.tokens[row * 6 + column], vectors[there])
    # The small picture of the whole page stands behind, and is no part of the prompt.
    assert int((~batch.special).sum()) == 24 + 4
    assert len(batch.tokens) == len(names)


@pytest.mark.parametrize("name", SAVE)
def test_importance_is_the_attention_that_the_last_token_pays(models, name: str, tmp_path: Path):
    encoder = models[name]
    [batch] = encoder.pages(pictures()[:1])
    assert batch.importance is not None
    assert batch.special is not None
    other: Any = load_encoder(SAVE[name](tmp_path), device="cpu")
    model = other.model[0].model
    model.set_attn_implementation("eager")
    features = other.model.processor.process_images(pictures()[:1])
    features.pop("labels", None)
    with torch.inference_mode():
        attentions = model(**features, output_attentions=True).attentions
    wanted = attentions[-1 if name != "colmodernvbert" else 0][0, :, -1].mean(0)
    if name == "colmodernvbert":  # of its three layers the first one sees the whole page
        wanted = wanted[features["input_ids"][0] == other._image_token].sort().values
        found = batch.importance[~batch.special].sort().values
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
        return
    patches = ~batch.special
    torch.testing.assert_close(batch.importance[patches], wanted[patches], atol=1e-6, rtol=0)
    assert not batch.importance[batch.special].any()


@pytest.mark.parametrize("name", SAVE)
def test_a_page_is_the_same_alone_and_among_others(models, name: str):
    encoder = models[name]
    together = pages(encoder).unpack()
    alone = [next(iter(encoder.pages([picture]))).tokens for picture in pictures()]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SAVE)
def test_padding_on_the_left_changes_nothing(models, name: str, tmp_path: Path):
    other: Any = load_encoder(SAVE[name](tmp_path), device="cpu")
    other.model.processor.tokenizer.padding_side = "left"
    wanted, found = pages(models[name]), pages(other)
    torch.testing.assert_close(found.tokens, wanted.tokens, atol=1e-5, rtol=0)
    assert found.importance is not None
    assert wanted.importance is not None
    torch.testing.assert_close(found.importance, wanted.importance, atol=1e-6, rtol=0)
    asked = ["the moon", "what rises one two the page"]
    for one, same in zip(other.queries(asked), models[name].queries(asked), strict=True):
        torch.testing.assert_close(one, same, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SAVE)
def test_a_model_in_bfloat16_leaves_vectors_of_unit_length(models, name: str, tmp_path: Path):
    folder = SAVE[name](tmp_path)
    half: Any = load_encoder(folder, device="cpu")
    half.model[0].model.to(torch.bfloat16).save_pretrained(folder)
    again: Any = load_encoder(folder, device="cpu")
    assert next(again.model.parameters()).dtype == torch.bfloat16
    found = pages(again).tokens
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)), atol=1e-6, rtol=0)
    assert float((found * pages(models[name]).tokens).sum(1).min()) > 0.99
    assert again.queries(["the moon"])[0].dtype == torch.float32


def test_a_loaded_model_is_wrapped_and_again_and_after_it_was_saved(models, tmp_path: Path):
    from sentence_transformers import MultiVectorEncoder

    loaded = MultiVectorEncoder(SAVE["colpali"](tmp_path / "one"), device="cpu")
    loaded.save(str(tmp_path / "two"))
    for given in (loaded, loaded, tmp_path / "two"):
        encoder: Any = load_encoder(given, device="cpu")
        found, wanted = pages(encoder), pages(models["colpali"])
        torch.testing.assert_close(found.tokens, wanted.tokens, atol=1e-6, rtol=0)
        assert found.importance is not None
        assert wanted.importance is not None
        torch.testing.assert_close(found.importance, wanted.importance, atol=1e-6, rtol=0)


def test_pictures_are_taken_a_few_at_a_time(models):
    taken = 0

    def stream():
        nonlocal taken
        for _ in range(10):
            taken += 1
            yield pictures()[0]

    made = models["colpali"].pages(stream(), batch_size=32)
    next(made)
    assert taken == 4
    assert sum(len(batch) for batch in made) == 6


def test_what_is_read_of_a_query_stands_in_its_words(models):
    for name in SAVE:
        read = models[name].read("what rises", query=True)
        assert read is not None
        assert len(read.pieces) == len(read.vectors.tokens)
        spans = [piece.span for piece in read.pieces if piece.span is not None]
        assert spans == [(0, 4), (5, 10)]
        assert models[name].read("what rises") is None


def test_without_pillow_the_message_says_how_to_install_it(tmp_path: Path):
    folder = SAVE["colpali"](tmp_path)
    program = (
        "import importlib.util, sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'PIL':\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'PIL' else "
        "found(name, *more)\n"
        "from colreduce.embed import load_encoder\n"
        "from colreduce.errors import MissingDependency\n"
        "try:\n"
        f"    load_encoder({folder!r}, device='cpu')\n"
        "except MissingDependency as problem:\n"
        "    print(problem)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'colreduce[documents]'" in done.stdout, done.stderr
