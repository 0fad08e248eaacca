from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from colreduce.embed.sentence_transformer import load_encoder
from colreduce.errors import BadInput, BadParameter, BadRecipe, UnknownName
from colreduce.ragged import Ragged
from colreduce.reduce.kmeans import KMeans
from colreduce.train.build import build, read_objectives
from colreduce.train.modules import AttentionGroups, GroupMeans, Slots
from colreduce.train.objectives import OBJECTIVES
from tests.reference.tiny_models import save_late_interaction

TEXTS = [
    "w1 w2 w3 w4 w5 w6 w7 w8 w9 w1 w2",
    "w20 w21 w22 w23 w24",
    "w30 w31 w30 w32 w33 w34 w35 w36",
]
QUERIES = ["w1 w9 w4", "w21 w24", "w36 w30 w31 w35"]

# Every objective that leaves fewer vectors, and those that change them.
REDUCING = (
    "crisp(documents=3, queries=2)",
    "crisp(keep=0.5)",
    'crisp(documents=3, method="ward")',
    'crisp(documents=3, method="cover", renormalise=false)',
    'crisp(documents=3, method="first")',
    "constant(size=3)",
    "constant(size=3, full=true)",
    "attention(size=3, heads=2)",
    "words",
    "words(gate=false, repeats=false)",
    "projection(width=8)",
    'projection(kind="deep", width=8)',
    'projection(kind="glu")',
    'projection(kind="glu", width=8, residual=false) | crisp(documents=3)',
)
LOSSES = (
    "colbert",
    "xtr(top=8)",
    "distill | crisp(documents=2)",
    'matryoshka(widths="4,8")',
    'attention(size=4) | nested(sizes="1,2")',
)


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> str:
    return save_late_interaction(tmp_path_factory.mktemp("tiny") / "model")


def features(model, texts: list[str], task: str) -> dict[str, Tensor]:
    return {**model.preprocess(texts), "task": task}


def vectors(model, texts: list[str], task: str = "document") -> list[Tensor]:
    out = model(features(model, texts, task), task=task)
    mask = out["attention_mask"].bool()
    return [one[kept] for one, kept in zip(out["token_embeddings"], mask, strict=True)]


def test_every_objective_is_tried_here():
    tried = {one.name for line in (*REDUCING, *LOSSES) for one in read_objectives(line)}
    assert tried == set(OBJECTIVES)


@pytest.mark.parametrize("line", REDUCING)
def test_gradients_through_a_reduction_are_what_finite_differences_say(start, line):
    torch.manual_seed(0)
    model = build(start, line, device="cpu").model.double().eval()
    weights = model[0].model.embeddings.word_embeddings.weight
    plain, step = weights.detach().clone(), 1e-6
    pull = [torch.randn_like(one) for one in vectors(model, TEXTS)]
    direction = torch.randn_like(plain)

    def worth() -> Tensor:
        made = vectors(model, TEXTS)
        return torch.stack([(a * b).sum() for a, b in zip(made, pull, strict=True)]).sum()

    worth().backward()
    said = float((weights.grad * direction).sum())
    with torch.no_grad():
        weights.copy_(plain + step * direction)
        after = worth()
        weights.copy_(plain - step * direction)
        seen = float(after - worth()) / (2 * step)
    assert abs(said) > 1e-3
    assert said == pytest.approx(seen, rel=1e-4)


@pytest.mark.parametrize("line", [*REDUCING, *LOSSES])
def test_the_loss_of_every_objective_reaches_every_weight_of_its_modules(start, line):
    torch.manual_seed(0)
    pupil = build(start, line, device="cpu")
    pupil.model.eval()
    for one in pupil.model.modules():
        if type(one).__name__ == "Head":  # a head starts as nothing beside the vector itself
            torch.nn.init.normal_(one.outward.weight, std=0.1)
    columns = [("query", QUERIES), ("document", TEXTS), ("document", TEXTS[1:] + TEXTS[:1])]
    loss = pupil.loss([features(pupil.model, texts, task) for task, texts in columns])
    loss.backward()
    assert torch.isfinite(loss)
    unreached = {
        name
        for name, weight in pupil.model.named_parameters()
        if (weight.grad is None or not weight.grad.any()) and "pooler" not in name
    }
    # A bias of keys adds the same to all a token's products, and the softmax takes it out.
    assert {name for name in unreached if not name.endswith("key.bias")} == set()


@pytest.mark.parametrize("line", REDUCING)
def test_a_saved_model_gives_the_same_vectors_bit_for_bit(start, tmp_path, line):
    torch.manual_seed(1)
    model = build(start, line, device="cpu").model.eval()
    model.save(str(tmp_path / "saved"), create_model_card=False)
    loaded = load_encoder(str(tmp_path / "saved"), device="cpu")
    for task, texts in (("document", TEXTS), ("query", QUERIES)):
        with torch.no_grad():
            pairs = zip(
                vectors(model, texts, task), vectors(loaded.model, texts, task), strict=True
            )
            assert all(torch.equal(a, b) for a, b in pairs)
    [batch] = list(loaded.documents(TEXTS))
    assert batch.lengths.tolist() == [len(one) for one in vectors(model, TEXTS)]


def test_a_model_without_modules_of_ours_loads_with_plain_sentence_transformers(start, tmp_path):
    from sentence_transformers import MultiVectorEncoder

    model = build(start, "colbert", device="cpu").model.eval()
    model.save(str(tmp_path / "saved"), create_model_card=False)
    loaded = MultiVectorEncoder(str(tmp_path / "saved"), device="cpu")
    pairs = zip(model.encode_document(TEXTS), loaded.encode_document(TEXTS), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_model_with_modules_of_ours_loads_with_plain_sentence_transformers_that_trusts_it(
    start, tmp_path
):
    from sentence_transformers import MultiVectorEncoder

    model = build(start, "crisp(documents=3, queries=2)", device="cpu").model.eval()
    model.save(str(tmp_path / "saved"), create_model_card=False)
    with pytest.raises(ValueError, match="trust_remote_code"):
        MultiVectorEncoder(str(tmp_path / "saved"), device="cpu")
    loaded = MultiVectorEncoder(str(tmp_path / "saved"), device="cpu", trust_remote_code=True)
    pairs = zip(model.encode_document(TEXTS), loaded.encode_document(TEXTS), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_an_index_takes_a_trained_model_and_loads_it_again(start, tmp_path):
    from colreduce.index import Index

    torch.manual_seed(0)
    model = build(start, "attention(size=3, heads=2)", device="cpu").model.eval()
    model.save(str(tmp_path / "saved"), create_model_card=False)
    with Index.create(
        tmp_path / "idx", recipe="fp32", encoder=str(tmp_path / "saved"), device="cpu"
    ) as index:
        index.add(["a", "b", "c"], TEXTS)
        found = index.search("w20 w21 w22 w23 w24", k=3)
    with Index.open(tmp_path / "idx", device="cpu") as index:
        assert index.search("w20 w21 w22 w23 w24", k=3) == found
    assert found[0].id == "b"


def test_plain_late_interaction_has_the_loss_of_sentence_transformers(start):
    from sentence_transformers.multi_vector_encoder.losses import (
        MultiVectorMultipleNegativesRankingLoss,
    )
    from sentence_transformers.multi_vector_encoder.scoring import mean_colbert_scores

    pupil = build(start, "colbert(scale=20)", device="cpu")
    pupil.model.eval()
    theirs = MultiVectorMultipleNegativesRankingLoss(
        pupil.model, scale=20.0, similarity_fct=mean_colbert_scores
    )
    given = [features(pupil.model, QUERIES, "query"), features(pupil.model, TEXTS, "document")]
    assert torch.equal(pupil.loss(given), theirs(given))


def test_the_model_chooses_the_groups_that_an_index_would(start):
    whole = build(start, "colbert", device="cpu").model.eval()
    crisp = build(start, "crisp(documents=3, queries=0)", device="cpu").model.eval()
    with torch.no_grad():
        batch = Ragged.pack(vectors(whole, TEXTS))
        reducer = KMeans(size=3)
        wanted = reducer.reduce(batch, reducer.fit(batch, seed=0)).batch.unpack()
        found = vectors(crisp, TEXTS)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_two_opposite_clusters_become_their_means():
    tokens = torch.tensor([[[1.0, 0.0], [0.8, 0.6], [-1.0, 0.0], [0.0, 0.0]]])
    mask = torch.tensor([[1, 1, 1, 0]])
    given = {"token_embeddings": tokens, "attention_mask": mask, "input_ids": torch.ones(1, 4)}
    out = GroupMeans("kmeans(size=2)", renormalise=False)(given, task="document")
    expected = torch.tensor([[[0.9, 0.3], [-1.0, 0.0]]])
    torch.testing.assert_close(out["token_embeddings"], expected)
    assert "input_ids" not in out  # they would be taken for those of the two vectors


@pytest.mark.parametrize("line", ["kmeans(size=16, start=farthest)", "ward(size=16)"])
def test_mixed_precision_does_not_change_the_groups(line):
    torch.manual_seed(0)
    tokens = torch.nn.functional.normalize(torch.randn(8, 120, 64), dim=2)

    def means() -> Tensor:
        given = {"token_embeddings": tokens, "attention_mask": torch.ones(8, 120)}
        return GroupMeans(line)(given, task="document")["token_embeddings"]

    plain = means()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = means()
    assert torch.equal(plain, mixed)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_accelerator_makes_the_same_groups():
    torch.manual_seed(0)
    tokens = torch.nn.functional.normalize(torch.randn(4, 30, 64), dim=2)
    made = []
    for device in ("cpu", "cuda"):
        given = {"token_embeddings": tokens.to(device), "attention_mask": torch.ones(4, 30)}
        given["attention_mask"] = given["attention_mask"].to(device)
        out = GroupMeans("kmeans(size=3)")(given, task="document")
        made.append(out["token_embeddings"].cpu())
    torch.testing.assert_close(made[0], made[1], rtol=0, atol=1e-5)


def test_what_is_reduced_already_is_not_reduced_again(start, tmp_path):
    saved = str(tmp_path / "saved")
    build(start, "crisp(documents=3)", device="cpu").model.save(saved, create_model_card=False)
    with pytest.raises(BadInput, match="reduces already, by GroupMeans"):
        build(saved, "constant(size=2)", device="cpu")
    assert len(build(saved, "colbert", device="cpu").model) == 4  # trained further as it is


def test_slots_start_as_means_of_every_so_many_tokens():
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    made, kept = Slots(2, 8, 2).few(tokens, torch.ones(1, 5, dtype=torch.bool))
    assert made.tolist() == [[[1, 0], [0, 1]]]
    assert kept.tolist() == [[True, True]]


def test_a_document_longer_than_the_slots_know_is_refused():
    with pytest.raises(BadInput, match="mixes the first 4 by their positions"):
        Slots(2, 4, 2).few(torch.ones(1, 5, 2), torch.ones(1, 5, dtype=torch.bool))


def test_a_document_with_fewer_tokens_than_groups_keeps_them_all():
    tokens = torch.nn.functional.normalize(torch.randn(2, 4, 8), dim=2)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    made, kept = AttentionGroups(3, 8, 2).few(tokens * mask[:, :, None], mask)
    assert kept.sum(1).tolist() == [2, 3]
    # Ordered by weight, so either may come first; scaled to unit length once more.
    near = made[0, :2] @ tokens[0, :2].T
    assert sorted(near.amax(1).tolist()) == pytest.approx([1.0, 1.0])
    assert sorted(near.argmax(1).tolist()) == [0, 1]


def test_a_word_that_comes_twice_is_one_vector_and_the_mean_of_both_places(start):
    whole = build(start, "colbert", device="cpu").model.eval()
    words = build(start, "words(gate=false)", device="cpu").model.eval()
    with torch.no_grad():
        [tokens], [made] = vectors(whole, ["w1 w2 w1"]), vectors(words, ["w1 w2 w1"])
    mean = torch.nn.functional.normalize((tokens[0] + tokens[2]) / 2, dim=0)
    torch.testing.assert_close(made, torch.stack([mean, tokens[1]]))


def test_a_gate_that_is_shut_drops_its_word(start):
    model = build(start, "words", device="cpu").model.eval()
    gate = model[-1]
    with torch.no_grad():
        [before] = vectors(model, ["w1 w2 w3"])
        gate.scale.weight.copy_(-2.0 * before[1][None])  # 1 - 2 < 0 for the second word alone
        [after] = vectors(model, ["w1 w2 w3"])
    left = [row for row in range(3) if 1 - 2 * float(before[1] @ before[row]) > 0]
    assert 1 not in left
    assert len(after) == len(left)


@pytest.mark.parametrize(
    ("line", "error", "says"),
    [
        ("crips", UnknownName, "Did you mean 'crisp'"),
        ("crisp(document=4)", BadParameter, "no parameter 'document'"),
        ("crisp | crisp", BadRecipe, "names crisp twice"),
        ("colbert | xtr", BadRecipe, "two ways to score"),
        ('nested(sizes="four")', BadParameter, "whole numbers between commas"),
    ],
)
def test_a_line_that_means_nothing_says_what_was_wanted(line, error, says):
    with pytest.raises(error, match=says):
        read_objectives(line)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_page_on_training_names_every_objective_with_its_parameters(name):
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    [row] = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    told = re.findall(r"`(\w+)`", row.rsplit(" | ", 1)[1])
    assert told == list(OBJECTIVES[name]().parameters())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_survives_being_written_and_read(name):
    [one] = read_objectives(name)
    assert read_objectives(str(one)) == (one,)
    assert one.paper
    assert one.when
