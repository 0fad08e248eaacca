from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from colreduce.cli import main
from colreduce.embed.sentence_transformer import load_encoder
from colreduce.errors import AlreadyExists, BadData, BadInput, MissingDependency, UnknownName
from colreduce.evaluate.beir import BeirFolder
from colreduce.maxsim import maxsim
from colreduce.pipeline import reduced
from colreduce.ragged import Ragged
from colreduce.train.data import FittingBatches
from colreduce.train.examples import (
    Example,
    batches,
    judged_examples,
    read_examples,
    title_examples,
)
from colreduce.train.mining import mine
from colreduce.train.run import train
from colreduce.train.settings import Settings
from colreduce.train.watch import Watch
from tests.hashing_encoder import HashingEncoder
from tests.reference.tiny_models import save_late_interaction

LINE = "crisp(documents=3, queries=2) | distill"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Train in one thread: the models are too small for two to be worth waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> str:
    return save_late_interaction(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a collection of twelve documents, each answering one query."""
    place = tmp_path / "corpus"
    (place / "qrels").mkdir(parents=True)
    rows = [
        {"_id": f"d{n}", "title": f"w{n}", "text": f"w{n} w{n + 20} w{n + 40} w{n + 60} shared"}
        for n in range(12)
    ]
    (place / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [{"_id": f"q{n}", "text": f"w{n + 20} w{n + 60}"} for n in range(12)]
    (place / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    for split, numbers in (("train", range(9)), ("dev", range(9, 12))):
        lines = ["query-id\tcorpus-id\tscore", *(f"q{n}\td{n}\t1" for n in numbers)]
        (place / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return place


def settings(**given) -> Settings:
    return Settings(**{"steps": 6, "batch_size": 3, "every": 2, "rate": 1e-3, **given})


def test_training_judgements_become_pairs_of_query_and_text(folder):
    found = read_examples(folder)
    assert len(found) == 9
    assert found[2] == Example("w22 w62", "w2 w2 w22 w42 w62 shared")


def test_a_query_with_many_answers_gives_as_many_as_asked(folder):
    judged = ["query-id\tcorpus-id\tscore", *(f"q0\td{n}\t{n % 2}" for n in range(12))]
    (folder / "qrels" / "train.tsv").write_text("\n".join(judged) + "\n")
    assert len(read_examples(folder, per_query=8)) == 6  # grade 0 is no answer
    few = read_examples(folder, per_query=4, seed=1)
    assert len({one.positive for one in few}) == 4
    assert few == read_examples(folder, per_query=4, seed=1)


def test_titles_ask_for_their_texts(folder):
    assert title_examples(BeirFolder(folder))[3] == Example("w3", "w3 w23 w43 w63 shared")


def test_titles_need_no_judgements_but_a_split_that_is_named_must_be_there(folder):
    (folder / "qrels" / "train.tsv").unlink()
    found = read_examples(folder, titles=True)
    assert found == title_examples(BeirFolder(folder))
    with pytest.raises(UnknownName, match="'train'"):
        read_examples(folder)
    with pytest.raises(UnknownName, match="'trian'"):
        read_examples(folder, split="trian", titles=True)


def test_half_a_character_is_refused_with_its_line(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = ['{"query": "a", "text": "b"}', '{"query": "c \\ud800", "text": "d"}']
    path.write_text("\n".join(rows))
    with pytest.raises(BadData, match=r"pairs.jsonl line 2: 'c \\ud800' is not valid Unicode"):
        read_examples(path)


def test_pairs_and_triplets_are_read_by_the_usual_names(tmp_path):
    rows = [
        {"query": "a", "text": "b"},
        {"anchor": "c", "positive": "d", "negative": "e"},
        {"question": "f", "answer": "g", "negatives": ["h", "i"]},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert read_examples(path) == [
        Example("a", "b"),
        Example("c", "d", ("e",)),
        Example("f", "g", ("h", "i")),
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"query": "a"}', "line 1: wanted one of the fields positive, document, answer, text"),
        ('{"query": "", "text": "b"}', "line 1: 'query' is not a string"),
        ('{"query": "a", "text": "b", "negative": 3}', "line 1: 'negative' is neither"),
        ("[1]", "line 1: wanted a JSON object, got list"),
    ],
)
def test_a_damaged_pair_names_the_line(tmp_path, line, says):
    (tmp_path / "pairs.jsonl").write_text(line)
    with pytest.raises(BadData, match=says):
        read_examples(tmp_path / "pairs.jsonl")


def test_no_batch_holds_a_document_that_answers_another_of_its_queries():
    # Every document answers two queries, every query has two answers.
    examples = [Example(f"q{n}", f"d{n + more}") for n in range(40) for more in (0, 1)]
    answers = {f"q{n}": {f"d{n}", f"d{n + 1}"} for n in range(40)}
    seen: list[int] = []
    for chosen in islice(batches(examples, 8, seed=0), 30):
        seen += chosen
        rows = [examples[number] for number in chosen]
        assert len({one.query for one in rows}) == 8
        for one in rows:
            others = {other.positive for other in rows if other is not one}
            assert others.isdisjoint(answers[one.query])
    assert set(seen) == set(range(80))  # and none is left out for good


def test_answers_that_were_not_drawn_are_never_wrong_documents():
    # One query has two answers; only the first is an example of its own.
    examples = [Example("q0", "d0", answers=("d1",)), Example("q1", "d1"), Example("q2", "d2")]
    for chosen in islice(batches(examples, 2, seed=0), 20):
        assert {examples[number].query for number in chosen} != {"q0", "q1"}
    documents = ["moon tide", "moon rock", "moon dust", "slug", "oven"]
    moon = Example("moon tide", documents[0], answers=("moon rock",))
    [found] = mine([moon], HashingEncoder(), 2, others=documents, recipe="exact")
    assert "moon rock" not in found.negatives


def test_a_query_keeps_the_answers_that_were_not_drawn(folder):
    few = judged_examples(BeirFolder(folder), per_query=1)
    every = judged_examples(BeirFolder(folder), per_query=8)
    known = {one.query: {one.positive, *one.answers} for one in few}
    assert known == {
        query: {one.positive for one in every if one.query == query} for query in known
    }


def test_examples_that_cannot_fill_a_batch_are_refused():
    same = [Example("q", f"d{n}") for n in range(10)]
    with pytest.raises(BadInput, match="no 4 of 10 examples fit into one batch; 1 do"):
        next(batches(same, 4, seed=0))


def test_a_pass_can_be_begun_again_without_those_before_it():
    examples = [Example(f"q{n}", f"d{n}") for n in range(30)]

    def sampler(epoch: int) -> FittingBatches:
        made = FittingBatches(examples, batch_size=4, drop_last=True, seed=7)
        made.set_epoch(epoch)
        return made

    assert list(sampler(1)) == list(sampler(1))
    assert list(sampler(1)) != list(sampler(0))
    assert len(list(sampler(0))) == len(sampler(0)) == 7


def test_hard_negatives_are_what_a_search_finds_and_no_answers():
    documents = ["moon tide", "moon rock", "bread yeast", "bread oven", "slug lettuce"]
    examples = [Example("moon tide", documents[0]), Example("bread yeast", documents[2])]
    found = mine(examples, HashingEncoder(), 1, others=documents, recipe="exact")
    assert [one.negatives for one in found] == [("moon rock",), ("bread oven",)]


def test_a_hit_as_good_as_the_answer_is_no_negative():
    documents = ["moon tide", "tide moon", "moon rock", "slug bread", "oven yeast"]
    [found] = mine(
        [Example("moon tide", documents[0])], HashingEncoder(), 1, others=documents, recipe="exact"
    )
    assert found.negatives == ("moon rock",)


def test_where_the_answer_is_not_found_no_hit_is_taken_for_wrong():
    documents = ["bread", *(f"moon {n}" for n in range(40))]
    [found] = mine(
        [Example("moon", "bread")], HashingEncoder(), 1, others=documents, depth=5, recipe="exact"
    )
    assert len(found.negatives) == 1  # drawn


def test_more_wrong_documents_than_there_are_is_refused():
    with pytest.raises(BadInput, match="of 3 documents 1 do not answer 'q'; wanted 2"):
        mine([Example("q", "a", answers=("b",))], HashingEncoder(), 2, others=["b", "c"])


def test_examples_with_and_without_wrong_documents_are_not_cut_in_silence(start, tmp_path):
    mixed = [Example(f"w{n}", f"w{n} w", ("x",) * (n % 2)) for n in range(8)]
    out = tmp_path / "out"
    with pytest.raises(BadInput, match="some examples bring 0 wrong documents, others 1"):
        train(mixed, start, out, settings=settings(steps=2), device="cpu")
    assert not out.exists()


def test_a_start_that_fails_leaves_nothing_behind(start, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(BadInput, match="fit into one batch"):
        train([Example("a", "b")], start, out, settings=settings(steps=2), device="cpu")
    assert not out.exists()


@pytest.mark.parametrize("given", [{"epochs": float("nan")}, {"rate": float("inf")}])
def test_numbers_that_are_none_are_refused(given):
    with pytest.raises(BadInput, match="wanted a finite number"):
        Settings(**given)


def test_a_watch_of_nothing_that_exists_is_refused(folder):
    with pytest.raises(UnknownName, match="no metric 'nDCG@@'"):
        Watch(folder, "train", metric="nDCG@@")


def test_negatives_that_came_with_an_example_come_first():
    examples = [Example("moon", "moon tide", ("bread",)), Example("slug", "slug lettuce")]
    found = mine(examples, HashingEncoder(), 2, others=["moon rock", "oven yeast"])
    assert found[0].negatives[0] == "bread"
    assert all(len(one.negatives) == 2 for one in found)


def test_a_training_lowers_the_loss_and_what_it_saves_can_be_an_index_encoder(
    start, folder, tmp_path
):
    examples = judged_examples_of(folder)
    told = train(
        examples,
        start,
        tmp_path / "out",
        objective="crisp(documents=3, queries=2)",
        settings=settings(steps=60),
        device="cpu",
    )
    losses = list(told.losses.values())
    assert sum(losses[-3:]) < sum(losses[:3]) / 2
    encoder = load_encoder(str(tmp_path / "out"))
    assert [len(one) for one in encoder.queries(["w1 w2 w3 w4 w5"])] == [2]
    [batch] = list(encoder.documents(["w1 w2 w3 w4 w5"]))
    assert batch.lengths.tolist() == [3]
    noted = json.loads((tmp_path / "out" / "training.json").read_text())
    assert noted["objective"] == "crisp(documents=3, queries=2)"
    assert noted["finished"] is True


def judged_examples_of(folder: Path) -> list[Example]:
    return judged_examples(BeirFolder(folder))


def test_an_interrupted_training_goes_on_to_the_same_losses_and_the_same_model(
    start, folder, tmp_path
):
    examples = judged_examples_of(folder)

    def run(out: str, **given):
        stop = given.pop("stop_after", None)
        return train(
            examples,
            start,
            tmp_path / out,
            objective=LINE,
            settings=settings(negatives=1, stop_after=stop),
            device="cpu",
            **given,
        )

    whole = run("whole")
    begun = run("parts", stop_after=3)
    assert not begun.finished
    assert begun.steps == 3
    finished = run("parts", resume=True)
    assert finished.finished
    assert finished.losses == whole.losses
    one, other = (load_encoder(str(tmp_path / name)).model for name in ("whole", "parts"))
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def found_by(model: Path, examples: list[Example], recipe: str | None = None) -> int:
    """Return how many queries find their own document first, and nothing else is there."""
    encoder = load_encoder(str(model), device="cpu")
    [batch] = list(encoder.documents([one.positive for one in examples], batch_size=64))
    if recipe is not None:
        batch = Ragged.pack(reduced(batch.unpack(), recipe))
    asked = encoder.queries([one.query for one in examples])
    best = [int(maxsim(one, batch.tokens, batch.lengths).argmax()) for one in asked]
    return sum(place == row for row, place in enumerate(best))


def test_one_trained_vector_finds_what_clustering_afterwards_loses(start, tmp_path):
    # 64 documents of eight random words, each asked for by two of them.
    draw = random.Random(0)
    texts = [[f"w{word}" for word in draw.sample(range(128), 8)] for _ in range(64)]
    examples = [Example(" ".join(draw.sample(words, 2)), " ".join(words)) for words in texts]
    how = Settings(steps=80, batch_size=16, rate=1e-2)
    for name, line in (("plain", "colbert"), ("crisp", "crisp(documents=1, queries=0)")):
        out = tmp_path / name
        train(examples, start, out, objective=line, settings=how, device="cpu")
    afterwards = found_by(tmp_path / "plain", examples, "kmeans(size=1)")
    trained = found_by(tmp_path / "crisp", examples)
    assert trained >= 60
    assert afterwards <= 45


def test_a_gate_learns_to_drop_the_words_that_decide_nothing(start, tmp_path):
    # Two words of a document are its own and are asked for; six are in every document.
    common = "shared w100 w101 w102 w103 w104"
    examples = [Example(f"w{n} w{n + 20}", f"w{n} w{n + 20} {common}") for n in range(16)]
    how = Settings(steps=100, batch_size=8, rate=2e-2)
    left = {}
    for sparsity in (0, 0.1):
        out = tmp_path / str(sparsity)
        line = f"words(sparsity={sparsity})"
        train(examples, start, out, objective=line, settings=how, device="cpu")
        [batch] = list(load_encoder(str(out)).documents([one.positive for one in examples]))
        left[sparsity] = len(batch.tokens) / 16
        assert found_by(out, examples) == 16
    assert left[0] > 7
    assert left[0.1] < 4


def test_what_training_needs_is_named_where_it_is_not_installed(
    start, folder, tmp_path, monkeypatch
):
    for name in ("colreduce.train.trainer", "colreduce.train.data"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependency, match=r"pip install 'colreduce\[train\]'"):
        train(judged_examples_of(folder), start, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_no_checkpoint_holds_pickled_settings(start, folder, tmp_path):
    examples = judged_examples_of(folder)
    train(examples, start, tmp_path / "out", settings=settings(steps=2), device="cpu")
    names = {one.name for one in (tmp_path / "out" / "checkpoints" / "checkpoint-2").iterdir()}
    assert "trainer_state.json" in names
    assert "training_args.bin" not in names


def test_a_training_is_not_begun_on_top_of_another_and_not_gone_on_with_otherwise(
    start, folder, tmp_path
):
    examples, out = judged_examples_of(folder), tmp_path / "out"
    train(examples, start, out, settings=settings(stop_after=2), device="cpu")
    with pytest.raises(AlreadyExists, match="or --resume to go on"):
        train(examples, start, out, settings=settings(), device="cpu")
    with pytest.raises(BadInput, match="was begun with objective 'colbert'"):
        train(examples, start, out, objective="xtr", settings=settings(), resume=True, device="cpu")
    with pytest.raises(BadInput, match="holds no training to go on with"):
        train(examples, start, tmp_path / "none", settings=settings(), resume=True, device="cpu")


def test_a_teacher_with_another_vocabulary_is_refused(start, folder, tmp_path, monkeypatch):
    from tests.reference import tiny_models

    monkeypatch.setattr(tiny_models, "WORDS", [*tiny_models.WORDS, "more"])
    other = save_late_interaction(tmp_path / "other")
    examples = judged_examples_of(folder)
    line = f'crisp(documents=2) | distill(teacher="{other}")'
    with pytest.raises(BadInput, match="has another vocabulary"):
        train(examples, start, tmp_path / "out", objective=line, settings=settings(), device="cpu")


def test_a_watch_measures_what_exact_search_finds(start, folder):
    watch = Watch(folder, "dev", documents=5)
    found = watch(load_encoder(start, device="cpu").model)
    assert list(watch.documents)[:3] == ["d9", "d10", "d11"]  # judged documents come first
    assert 0 <= found["nDCG@10"] <= 1


def test_what_is_saved_in_the_end_is_measured_however_few_the_steps(start, folder, tmp_path):
    told = train(
        judged_examples_of(folder),
        start,
        tmp_path / "out",
        settings=settings(steps=3, every=500),
        device="cpu",
        evaluate=Watch(folder, "dev"),
    )
    assert set(told.measured) == {3}


def test_the_command_trains_evaluates_stops_and_goes_on(start, folder, tmp_path):
    line = ["train", str(folder), "--model", start, "--out", str(tmp_path / "out"), "--json"]
    line += ["--objective", "crisp(documents=2)", "--batch-size", "3", "--steps", "4", "--titles"]
    line += ["--every", "2", "--evaluate", str(folder), "--negatives", "1", "--device", "cpu"]
    begun = CliRunner().invoke(main, [*line, "--stop-after", "2"])
    assert begun.exit_code == 0, begun.output
    assert json.loads(begun.stdout)["finished"] is False
    behind = CliRunner().invoke(main, [*line, "--resume", "--stop-after", "2"])
    assert behind.exit_code == 1
    assert "has taken 2 steps already" in behind.output
    done = CliRunner().invoke(main, [*line, "--resume"])
    told = json.loads(done.stdout)
    assert told["finished"] is True
    assert told["examples"] == 21
    assert set(told["measured"]) == {"2", "4"}
    again = CliRunner().invoke(main, line)
    assert again.exit_code == 1
    assert "--resume to go on" in again.output
