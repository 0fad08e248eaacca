"""The planner: what it shares, whom it believes, and that its estimates are those of an index."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from colreduce.candidates.base import Found
from colreduce.candidates.fusion import Rrf
from colreduce.errors import BadInput
from colreduce.evaluate.build import Corpus
from colreduce.evaluate.embeddings import EmbeddingStore
from colreduce.evaluate.progress import silent
from colreduce.evaluate.records import Record
from colreduce.evaluate.statistics import Interval
from colreduce.plan.belief import Belief, tempered
from colreduce.plan.bench import Bench
from colreduce.plan.built import build, catalogue_bytes
from colreduce.plan.choice import Choice, level_after
from colreduce.plan.exact import exact_best
from colreduce.plan.finders import Finder, make_finders, worth_trying
from colreduce.plan.halving import in_fronts
from colreduce.plan.measure import Measure
from colreduce.plan.options import Halves, Option, halve, options
from colreduce.plan.planner import plan_for
from colreduce.plan.pool import make_pool
from colreduce.plan.recipe_file import recipe_file
from colreduce.plan.report import page, write_plan
from colreduce.plan.result import Plan
from colreduce.plan.search import Size
from colreduce.plan.space import Arm, Space
from colreduce.plan.target import Target
from colreduce.plan.task import JUDGED, NONE, Task
from colreduce.plan.words import expected
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe
from tests.chromium import chromium
from tests.unit.test_report import CONTRAST

DIM, DOCUMENTS, QUERIES = 24, 160, 40
SMALL = (Size(12, 100, 60, 4, 4),)


def vectors(seed: int = 0) -> tuple[Ragged, Ragged]:
    """Documents about six of forty themes each, and queries about two that a document has."""
    chance = torch.Generator().manual_seed(seed)
    themes = torch.nn.functional.normalize(torch.randn(40, DIM, generator=chance), dim=1)
    about = torch.randint(40, (DOCUMENTS, 6), generator=chance)

    def noisy(tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + 0.2 * torch.randn(tokens.shape, generator=chance)
        return torch.nn.functional.normalize(tokens, dim=1)

    documents = [noisy(themes[some].repeat_interleave(3, 0)) for some in about]
    queries = [noisy(themes[about[number, :3]]) for number in range(QUERIES)]
    return Ragged.pack(documents), Ragged.pack(queries)


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Task:
    """A judged task: a query's own document is its answer."""
    documents, queries = vectors()
    store = EmbeddingStore(tmp_path_factory.mktemp("vectors"))
    ids = [f"d{number:03}" for number in range(DOCUMENTS)]
    names = [f"q{number:02}" for number in range(QUERIES)]
    return Task(
        name="themes",
        kind=JUDGED,
        corpus=Corpus(ids, store.write("themes", [documents], DOCUMENTS)),
        queries=queries,
        query_ids=names,
        query_texts=[None] * QUERIES,
        hidden=np.full(QUERIES, NONE, dtype=np.int64),
        qrels={name: {ids[number]: 1} for number, name in enumerate(names)},
        text_bytes=0,
        encoder=None,
    )


@pytest.fixture(scope="module")
def measure(task: Task) -> Measure:
    return Measure(task, "nDCG@10", exact_best(task, 20, silent))


def test_exact_search_is_every_score_sorted(task: Task):
    best = exact_best(task, 10, silent)
    documents, queries = vectors()
    for query in (0, QUERIES - 1):
        products = queries.unpack()[query] @ documents.tokens.T
        scores = torch.stack([part.amax(1).sum() for part in products.split(18, dim=1)])
        assert best[query].tolist() == scores.argsort(descending=True)[:10].tolist()


def test_a_hidden_document_is_never_found(task: Task):
    first = exact_best(task, 10, silent)[:, 0]
    hidden = exact_best(replace(task, hidden=first), 10, silent)
    assert not (hidden == first[:, None]).any()


def test_exact_search_is_judged_by_documents_that_there_are(task: Task):
    last = len(task.documents) - 1
    best = np.full((len(task), 20), NONE, dtype=np.int64)
    best[:, :3] = last, 0, 1
    ids = task.corpus.ids
    judged = {name: {ids[0]: 1, ids[last]: 1} for name in task.query_ids}
    measure = Measure(replace(task, qrels=judged), "nDCG@20", best)
    assert measure.exact.tolist() == pytest.approx([1.0] * len(task))


def test_a_pool_holds_what_is_learned_from_and_the_best_of_every_query(task: Task):
    best = exact_best(task, 20, silent)
    asked = np.arange(4)
    pool = make_pool(task, best, asked, 80, seed=0, sample=30)
    assert len(pool.learned) == 30
    assert np.isin(best[asked, :10], pool.rows).all()
    assert len(pool.documents) == len(pool.rows) < DOCUMENTS


def test_arms_that_begin_alike_share_their_beginning(task: Task):
    best = exact_best(task, 20, silent)
    bench = Bench(make_pool(task, best, np.arange(8), 500, seed=0), seed=0, timed=False)
    for codec in ("int8", "fp16", "rotate | int4"):
        bench.scores(Arm(16, "", "ward", 3.0, codec))
    made = {"pca(dim=16)", "ward(factor=3)", "rotate"}
    assert {key[-1] for key in bench._made if key} == made
    assert len(bench._made) == 1 + len(made)


@pytest.mark.parametrize(
    ("arm", "first_stage", "candidates", "apart"),
    [
        (Arm(16, "", "ward", 3.0, "int8"), "exhaustive", 0, 0.0),
        (Arm(0, "", "cover", 6.0, "int4"), 'mean(store="fp16")', 100, 0.0),
        # Behind a rotation distances that are nearly the same may change places by rounding.
        (Arm(0, "", "cover", 6.0, "rotate | int4"), "exhaustive", 0, 0.03),
    ],
)
def test_an_estimate_is_what_a_real_index_costs_and_answers(
    task: Task, measure: Measure, arm: Arm, first_stage: str, candidates: int, apart: float
):
    every, best = np.arange(QUERIES), exact_best(task, 20, silent)
    pool = make_pool(task, best, every, 500, seed=0)
    tried = Bench(pool, seed=0, timed=True).scores(arm)
    finders = make_finders(task, arm.prepare, 0, silent)
    halves, catalogue = halve(QUERIES, 0), catalogue_bytes(task)
    found = {
        (one.first_stage, one.candidates): one
        for one in options(tried, pool, finders, measure, halves, catalogue, 0)
    }
    option = found[first_stage, candidates]
    built = build(task, option.recipe, measure, every, 0, silent)
    assert np.abs(option.values - built.values).mean() <= apart
    assert option.bytes_per_doc == pytest.approx(built.total, rel=0.08)
    assert str(Recipe.parse(str(option.recipe))) == str(option.recipe)


def found_by(name: str, size: float, lists: list[list[int]]) -> Finder:
    """A first stage that answers so."""
    found = [Found(np.array(rows), -np.arange(len(rows), dtype=np.float32)) for rows in lists]
    return Finder(name, size, 1.0, [found])


def test_a_first_stage_that_another_beats_is_not_tried():
    best = np.array([[1, 2], [3, 4]])
    small = found_by("small", 10, [[1, 2], [3, 4]])
    large = found_by("large", 20, [[1, 2], [3, 9]])
    blind = found_by("blind", 5, [[7, 8], [9, 6]])
    every = Finder("exhaustive", 0.0, 0.0)
    left = worth_trying([every, large, small, blind], best)
    assert [one.name for one in left] == ["exhaustive", "small", "blind"]


def test_lists_are_joined_at_the_number_of_candidates_that_a_search_takes():
    scores = np.array([3, 2, 1], np.float32)
    lists = [[Found(np.array(rows), scores)] for rows in ([5, 6, 7], [7, 8, 5])]
    both = Finder("both", 1.0, 1.0, lists, Rrf())
    assert both.rows(0, 1).tolist() == [5]  # of equal gains the first row
    assert both.rows(0, 3).tolist() == [5, 7, 6]


@pytest.mark.skipif(find_spec("bm25s") is None, reason="bm25s is not installed")
def test_words_are_tried_beside_vectors_where_there_are_texts(task: Task):
    ids = task.corpus.ids
    records = [Record(one, f"about thing{number}", {}) for number, one in enumerate(ids)]
    corpus = replace(task.corpus, records=lambda: iter(records))
    told = replace(task, corpus=corpus, query_texts=[f"thing{n}" for n in range(len(task))])
    names = [one.name for one in make_finders(told, "", 0, silent)]
    assert names[-2:] == ["bm25", 'mean(store="sq8") | bm25 | rrf']
    [words] = [one for one in make_finders(told, "", 0, silent) if one.name == "bm25"]
    assert words.rows(3, 5)[0] == 3
    assert not [one for one in make_finders(task, "", 0, silent) if "bm25" in one.name]


def test_fronts_are_counted_off_from_the_outside():
    assert in_fronts([1, 2, 3, 2], [0.5, 0.7, 0.6, 0.6]) == [0, 1, 3, 2]


def test_a_space_tries_stopwords_only_where_words_are_known():
    assert {arm.prune for arm in Space(384, words=False).first()} == {""}
    assert {arm.prune for arm in Space(384, words=True).first()} == {"", "stopwords"}
    assert Space(48, words=True).widths == (0,)


def test_rungs_lose_less_and_less_and_each_is_tried_with_a_small_codec():
    rungs = Space(384, words=True).rungs()
    assert [(one.width, one.factor) for one, _ in rungs] == [
        (128, 3.0), (128, 1.5), (0, 4.0), (0, 2.0), (0, 0.0)
    ]  # fmt: skip
    for large, small in rungs:
        assert (large.codec, small.codec) == ("int8", "rotate | pq(parts=64)")
        assert large.reduction == small.reduction
    narrow = Space(48, words=True).rungs()  # neither that wide nor that many parts
    assert [[str(arm) for arm in arms] for arms in narrow[:1]] == [["ward(factor=3) | int8"]]


def test_a_neighbour_differs_in_one_thing():
    arm = Arm(128, "", "ward", 6.0, "rotate | pq(parts=32)")
    for near in Space(384, words=True).neighbours(arm):
        pairs = [(getattr(arm, name), getattr(near, name)) for name in Arm.__slots__]
        assert sum(one != other for one, other in pairs) == 1


def test_few_queries_are_not_believed_over_what_agreement_says():
    few, many = tempered(Belief(1.0, 0.05), 0.6), tempered(Belief(1.0, 0.005), 0.6)
    assert few.value == pytest.approx(0.9674, abs=1e-4)  # guess 0.96 with an error of 0.024
    assert many.value == pytest.approx(0.9983, abs=1e-4)
    assert many.error < few.error < 0.024
    assert tempered(Belief(0.9, 0.05), 1.0).value == pytest.approx(1.0, abs=2e-4)


def test_halves_share_no_query():
    halves = halve(41, seed=3)
    assert sorted([*halves.choosing, *halves.held_back]) == list(range(41))


def lucky(task: Task, measure: Measure, halves: Halves) -> list[Option]:
    """Two recipes that the choosing queries like; the held-back ones like only the larger."""
    lost = measure.exact.copy()
    lost[halves.held_back] *= 0.5
    chosen_by = Interval(0.98, 1.0, 1.02)
    small = Arm(0, "", "first", 18.0, "binary")
    large = Arm(0, "", "", 1.0, "int8")
    return [
        Option(small, "exhaustive", 0, 1.0, 100.0, 1.0, lost, 0.5, chosen_by, 1.0),
        Option(large, "exhaustive", 0, 18.0, 500.0, 1.0, measure.exact, 0.9, chosen_by, 1.0),
    ]


def test_what_only_the_choosing_queries_like_is_refused(task: Task, measure: Measure):
    halves = halve(QUERIES, 0)
    choice = Choice(task, Target(keep=0.97), measure, halves, 0, silent)
    settled = choice.settle(lucky(task, measure, halves))
    assert settled.confirmed
    assert str(settled.option.arm) == "int8"
    [refused] = settled.refused
    assert refused.kept.value == pytest.approx(0.5)
    assert "keep 50.0%" in refused.reason
    assert "wanted 97.0%" in refused.reason
    assert settled.level == level_after(1) == pytest.approx(0.975)


def test_nothing_that_is_confirmed_is_said_and_the_best_is_taken(task: Task, measure: Measure):
    halves = halve(QUERIES, 0)
    choice = Choice(task, Target(keep=0.97), measure, halves, 0, silent)
    settled = choice.settle(lucky(task, measure, halves)[:1])
    assert not settled.confirmed


def test_a_bound_on_time_or_bytes_leaves_out_what_costs_more_by_estimate(
    task: Task, measure: Measure
):
    halves = halve(QUERIES, 0)
    small, large = lucky(task, measure, halves)
    slow = replace(small, milliseconds=9.0)
    choice = Choice(task, Target(max_bytes=300, max_ms=5), measure, halves, 0, silent)
    assert choice.in_order([slow, large, small]) == [small]


def test_of_recipes_that_are_alike_the_smallest_is_wanted_and_else_the_best(
    task: Task, measure: Measure
):
    halves = halve(QUERIES, 0)
    small, large = lucky(task, measure, halves)
    better, best = replace(large, believed=1.001), replace(large, believed=1.01)
    choice = Choice(task, Target(max_bytes=1000), measure, halves, 0, silent)
    assert choice.in_order([better, small]) == [small, better]
    assert choice.in_order([small, best]) == [best, small]


def test_a_plan_keeps_its_bounds_on_a_real_index(task: Task):
    found = plan_for(task, Target(max_bytes=700), sizes=SMALL)
    assert found.settled.confirmed
    assert found.settled.built.total <= 700
    assert found.settled.kept.value > 0.6


def test_a_bound_that_nothing_holds_is_said_with_the_smallest_there_is(task: Task):
    found = plan_for(task, Target(max_bytes=5), sizes=SMALL)
    assert not found.settled.confirmed
    assert found.settled.option.bytes_per_doc == min(one.bytes_per_doc for one in found.options)
    said = recipe_file(found).replace("\n# ", " ")
    assert "more than was wanted" in said
    assert "More queries" not in said


def test_a_plan_is_the_same_again_and_reads_back_from_its_file(task: Task):
    first = plan_for(task, Target(keep=0.9), sizes=SMALL)
    again = plan_for(task, Target(keep=0.9), sizes=SMALL)
    assert str(first.recipe) == str(again.recipe)
    assert first.settled.kept == again.settled.kept
    text = recipe_file(first)
    assert Recipe.from_toml(text) == first.recipe
    assert "held back" in text
    assert first.to_dict()["expected_loss"]["value"] == pytest.approx(1 - first.settled.kept.value)


def test_without_judgements_a_plan_goes_by_agreement(task: Task):
    found = plan_for(replace(task, qrels=None, kind="spans"), Target(keep=0.7), sizes=SMALL)
    assert found.metric == "agreement@10"
    assert found.exact == 1.0


@pytest.mark.parametrize(
    "bounds", [{}, {"keep": 0.0}, {"keep": 1.5}, {"max_bytes": -1}, {"max_ms": 0}]
)
def test_bounds_that_cannot_be_are_refused(bounds):
    with pytest.raises(BadInput):
        Target(**bounds)


def test_a_source_with_too_few_documents_is_refused(tmp_path: Path):
    from colreduce.plan.planner import plan

    file = tmp_path / "few.npz"
    np.savez(
        file,
        doc_ids=np.array(["a", "b"]),
        doclens=np.array([2, 1]),
        doc_vectors=np.eye(3, dtype=np.float32),
    )
    with pytest.raises(BadInput, match="2 queries"):
        plan(file, keep=0.9, cache=False)


def test_a_share_that_no_small_recipe_keeps_is_kept_by_a_larger_one(task: Task):
    found = plan_for(task, Target(keep=0.995), sizes=SMALL)
    assert found.settled.confirmed
    assert str(found.settled.option.recipe).startswith("int8 | ")  # all vectors, as encoded
    assert len(found.rounds) > len(SMALL) + 1


@pytest.fixture(scope="module")
def reported(task: Task) -> Plan:
    """A plan of a collection with a hostile name, in which something was refused."""
    hostile = replace(task, name="<script>window.hurt = 1</script> & co")
    return plan_for(hostile, Target(keep=0.97), sizes=SMALL)


def test_the_page_says_what_the_plan_says(reported: Plan):
    text = html.unescape(re.sub(r"<[^>]+>", "", page(reported)))
    assert str(reported.recipe) in text
    assert expected(reported) in text
    for one in [*reported.front(), *(refused.option for refused in reported.settled.refused)]:
        assert str(one.recipe) in text
    for refused in reported.settled.refused:
        assert refused.reason in text
    assert recipe_file(reported) in text
    assert "<script" not in page(reported)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_shows_the_page(reported: Plan, tmp_path: Path, dark: bool, width: int):
    written = write_plan(reported, tmp_path / "plan.html")
    with chromium() as browser:
        browser.show(written, dark=dark, width=width)
        assert browser.requests() == [written.resolve().as_uri()]
        assert browser.complaints() == []
        assert browser.value("document.querySelectorAll('svg').length") == 2
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value(CONTRAST) == []
