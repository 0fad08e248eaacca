"""The whole page, and the file."""

from __future__ import annotations

from pathlib import Path

from colreduce.evaluate.evaluation import Evaluation
from colreduce.evaluate.report import sections
from colreduce.evaluate.report.words import headlines, scope
from colreduce.pages import page as pages
from colreduce.pages.markup import Html, tag

WORDS = {
    "nDCG@10": "How well the first ten hits are ordered, by graded judgements: 1 is perfect.",
    "R@100": "The share of all relevant documents that are among the first hundred hits.",
    "RR@10": "One over the rank of the first relevant hit; 0 if it is not among the first ten.",
    "of exact": "The value divided by that of exact search: MaxSim over all token vectors as they "
    "came from the encoder, none left out.",
    "agreement@10, top 10 kept": "The share of exact search's first ten hits that are still among "
    "the first ten.",
    "bytes a document": "All that a search needs on disk: vectors, first stage, ids, metadata and "
    "what the methods learned. Stored texts are not counted.",
    "raw": "The token vectors as 4-byte numbers.",
    "95 % interval": "Where the mean would lie in 95 of 100 cases if other queries of the same "
    "kind had been asked (bootstrap).",
    "median search": "Half of the searches take less time, one at a time, for ten hits, the "
    "encoding of the query not counted.",
}


def page(found: Evaluation) -> str:
    """Return the report as HTML."""
    names = ", ".join(one.judged.name for one in found.contests)
    parts = {
        "trade-offs": ("What quality costs", sections.trade_offs(found)),
        "stages": ("What every stage lost", sections.ledgers(found)),
        "data-sets": ("Data set by data set", sections.collections(found)),
        "significance": ("Which differences are more than chance", sections.significance(found)),
        "queries": ("Queries that got worse", sections.worst(found)),
        "machine": ("Machine and versions", sections.machine(found)),
        "terms": ("Terms", _terms(found)),
    }
    if not found.rows:
        del parts["trade-offs"], parts["stages"]
    return pages.report(f"Evaluation: {names}", scope(found), headlines(found), parts)


def _terms(found: Evaluation) -> Html:
    known = {name: WORDS[name] for name in found.metrics if name in WORDS}
    rest = {name: told for name, told in WORDS.items() if "@" not in name or "," in name}
    return tag(
        "dl", [[tag("dt", name), tag("dd", told)] for name, told in {**known, **rest}.items()]
    )


def write_report(found: Evaluation, path: str | Path) -> Path:
    """Write the report to a file, whole or not at all."""
    return pages.write(path, page(found))
