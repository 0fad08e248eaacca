from __future__ import annotations

import random

import pytest
import torch

from benchmarks import common
from benchmarks.quality.trained import SIZES, ndcg
from benchmarks.quality.trained_models import reduced, ward_in_step
from benchmarks.quality.trained_report import Gap, size_of, verdict, write_report
from benchmarks.speed.training import GOAL, LINES
from colreduce.evaluate.metrics import scored
from colreduce.ragged import Ragged
from colreduce.reduce.merging import Groups, merge


def test_the_benchmark_ranks_as_ir_measures_does():
    draw = random.Random(0)
    qrels, run, ours = {}, {}, []
    for query in range(20):
        order = draw.sample(range(40), 40)
        grades = {one: draw.choice([0, 1, 2]) for one in draw.sample(range(40), 12)} | {order[3]: 1}
        qrels[str(query)] = {str(one): grade for one, grade in grades.items()}
        run[str(query)] = [(str(one), 40.0 - place) for place, one in enumerate(order[:10])]
        ours.append(ndcg(order[:10], grades))
    _, theirs = scored(["nDCG@10"], qrels, run)
    assert ours == pytest.approx(list(theirs["nDCG@10"].values()))


@pytest.mark.parametrize("size", SIZES)
def test_merging_in_step_is_wards_method(size):
    torch.manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn(6, 32), dim=1)
    lengths = [3, 40, 9, 64]
    documents = [
        torch.nn.functional.normalize(
            centres[torch.randint(6, (n,))] + 0.1 * torch.randn(n, 32), dim=1
        )
        for n in lengths
    ]
    batch = Ragged.pack(documents)
    found = merge(batch, Groups(ward_in_step(batch, size)), renormalise=True).batch
    wanted = reduced(batch, f"ward(size={size})")
    assert found.lengths.tolist() == wanted.lengths.tolist()
    near = (found.tokens * wanted.tokens).sum(1)
    # The library rounds vectors to 8 bits before it compares them: near ties may fall elsewhere.
    assert float((near > 0.999).float().mean()) > 0.8


@pytest.mark.parametrize(
    ("values", "p", "word"),
    [
        ((0.1, 0.2), 0.01, "confirmed"),
        ((0.1, 0.2), 0.2, "not confirmed"),
        ((0.1, -0.2), 0.01, "refuted"),
    ],
)
def test_the_claim_is_judged_by_every_comparison(values, p, word):
    gaps = [Gap("scifact", 8, "crisp 4x8", "ward", 0, value, 0, p) for value in values]
    assert f"**{word}**" in verdict(gaps, "CRISP", False)
    assert "not measured" in verdict(gaps, "CRISP", True)


def test_a_name_tells_the_size():
    assert size_of("crisp 8x32") == 32
    assert size_of("crisp 16, documents only") == 16


def test_a_report_says_by_how_much_crisp_is_ahead():
    def row(
        model: str, documents: str | None, queries: str | None, values: str
    ) -> dict[str, object]:
        return {
            "model": model,
            "dataset": "scifact",
            "documents": documents,
            "queries": queries,
            "values": values,
        }

    lines = [f"{method}(size=8)" for method in ("ward", "kmeans", "cover")]
    few = " ".join(["0.5"] * 20)
    rows = [row(model, line, None, few) for model in ("frozen", "plain") for line in lines]
    rows += [row("crisp 4x8", "kmeans(size=8)", "kmeans(size=4)", " ".join(["0.75"] * 20))]
    result = {
        "rows": rows,
        "encoder": "tiny",
        "batch": 4,
        "examples": 9,
        "rate": 1e-5,
        "seed": 0,
        "steps": 10,
        "machine": {"device": "cpu"},
        "documents": {"scifact": 5},
        "queries": {"scifact": 20},
        "models": {"crisp 4x8": {"seconds": 1.0, "steps": 10}},
    }
    page = write_report(result)
    assert "| scifact | crisp 4x8 | ward | +25.0 (+25.0 to +25.0) |" in page
    assert "CRISP as published (queries are reduced, too): the claim is **confirmed**" in page
    assert "crisp 4x8 100 ms" in page


def test_a_step_of_every_objective_took_no_longer_than_is_promised():
    found = common.load("training-speed")
    assert found is not None
    assert {row["objective"] for row in found["rows"]} == set(LINES)
    late = {row["objective"]: row for row in found["rows"] if row["processor_seconds"] > GOAL}
    assert late == {}
