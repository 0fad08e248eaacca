"""What a model is trained on: queries with a document that answers each, and some that do not.

Three sources: the training judgements of a folder in BEIR's layout, its titles as queries for
their texts, and JSONL files of pairs or triplets. A batch never holds a document that is known to
answer another of its queries, for in training every other document of the batch counts as wrong.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colreduce.errors import BadData, BadInput
from colreduce.evaluate.beir import BeirFolder, check_judged
from colreduce.evaluate.records import numbered_lines, object_of

SPLIT = "train"
# The names that fields of a JSONL file go by, the first one that is there counts.
QUERY = ("query", "anchor", "question", "title")
POSITIVE = ("positive", "document", "answer", "text")
NEGATIVE = ("negative", "negatives")


@dataclass(frozen=True, slots=True)
class Example:
    """A query, a document that answers it, and documents that look as if they did.

    answers  further documents that are known to answer it, and are never taken for wrong ones
    """

    query: str
    positive: str
    negatives: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()


def known_answers(examples: Sequence[Example]) -> dict[str, set[str]]:
    """Return all documents that are known to answer each query."""
    found: dict[str, set[str]] = defaultdict(set)
    for one in examples:
        found[one.query].update((one.positive, *one.answers))
    return found


def read_examples(
    source: Path,
    *,
    split: str = SPLIT,
    per_query: int = 8,
    titles: bool = False,
    seed: int = 0,
) -> list[Example]:
    """Read a folder in BEIR's layout with judgements, or a JSONL file of pairs or triplets.

    With ``titles`` a folder's titles are queries, too, and it needs no training judgements.
    """
    if source.is_dir():
        folder = BeirFolder(source)
        asked = title_examples(folder) if titles else []
        # A split that was named must be there; the usual one need not where titles are asked for.
        if asked and split == SPLIT and split not in folder.splits():
            return asked
        return judged_examples(folder, split, per_query=per_query, seed=seed) + asked
    if not source.exists():
        raise BadInput(
            f"{source} is not there. Wanted a folder in BEIR's layout with judgements, or a JSONL "
            "file of pairs.",
            field="source",
        )
    return list(written_examples(source))


def judged_examples(
    folder: BeirFolder, split: str = SPLIT, *, per_query: int = 8, seed: int = 0
) -> list[Example]:
    """Return one example for each query and document judged relevant, ``per_query`` at most.

    Where a query has more relevant documents, some are drawn: a few broad queries would otherwise
    be most of what is learned. The others are kept as further answers.
    """
    qrels, queries = folder.qrels(split), folder.queries()
    texts = {record.id: record.text for record in folder.corpus()}
    check_judged(qrels, folder.qrels_path(split), set(queries), set(texts))
    draw = random.Random(seed)
    found = []
    for query, grades in qrels.items():
        relevant = [one for one, grade in grades.items() if grade > 0 and texts[one]]
        drawn = draw.sample(relevant, per_query) if len(relevant) > per_query else relevant
        rest = tuple(texts[one] for one in relevant if one not in drawn)
        found += [
            _encodable(Example(queries[query], texts[one], answers=rest), f"{query!r} with {one!r}")
            for one in drawn
        ]
    return found


def title_examples(folder: BeirFolder) -> list[Example]:
    """Return every document's title as a query for its text."""
    found = []
    for file in folder.corpus_files():
        for number, line in numbered_lines(file):
            given = object_of(line, f"{file} line {number}")
            title, text = given.get("title"), given.get("text")
            if isinstance(title, str) and isinstance(text, str) and title and text:
                found.append(_encodable(Example(title, text), f"{file} line {number}"))
    return found


def written_examples(path: Path) -> Iterator[Example]:
    """Yield the pairs or triplets of a JSONL file."""
    for number, line in numbered_lines(path):
        where = f"{path} line {number}"
        given = object_of(line, where)
        query, positive = _field(given, QUERY, where), _field(given, POSITIVE, where)
        yield _encodable(Example(query, positive, _negatives(given, where)), where)


def batches(examples: Sequence[Example], size: int, *, seed: int) -> Iterator[list[int]]:
    """Yield the numbers of the examples of each batch, pass after pass, without an end.

    No batch holds a query or a document twice, nor a document that answers another query of it.
    An example that does not fit waits for a later batch; the last ones of a pass, too few for a
    batch, go into the next pass.
    """
    answers = known_answers(examples)
    draw = random.Random(seed)
    waiting: list[int] = []
    while True:
        order = list(range(len(examples)))
        draw.shuffle(order)
        waiting += order
        chosen, others = _fitting(examples, waiting, answers, size)
        if len(chosen) < size:
            raise BadInput(
                f"no {size} of {len(examples)} examples fit into one batch; {len(chosen)} do, for "
                "a query may come once and must not meet two of its answers. Wanted a smaller "
                "batch or more examples.",
                field="batch_size",
            )
        while len(chosen) == size:
            yield chosen
            waiting = others
            chosen, others = _fitting(examples, waiting, answers, size)


def _fitting(
    examples: Sequence[Example], numbers: list[int], answers: Mapping[str, set[str]], size: int
) -> tuple[list[int], list[int]]:
    """Return the first ``size`` examples that fit together, and the others in their order."""
    chosen: list[int] = []
    queries: set[str] = set()
    documents: set[str] = set()
    wrong: set[str] = set()  # documents that answer a query of the batch
    late: list[int] = []
    for place, number in enumerate(numbers):
        one = examples[number]
        if (
            one.query in queries
            or not wrong.isdisjoint((one.positive, *one.negatives))
            or not documents.isdisjoint(answers[one.query])
        ):
            late.append(number)
            continue
        chosen.append(number)
        queries.add(one.query)
        documents.update((one.positive, *one.negatives))
        wrong |= answers[one.query]
        if len(chosen) == size:
            return chosen, late + numbers[place + 1 :]
    return chosen, late


def _encodable(example: Example, where: str) -> Example:
    """Return the example, or say where half a character stands alone, as JSON allows."""
    for text in (example.query, example.positive, *example.negatives, *example.answers):
        try:
            text.encode()
        except UnicodeEncodeError as problem:
            raise BadData(
                f"{where}: {text[:40]!r} is not valid Unicode: {problem.reason}"
            ) from None
    return example


def _field(given: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    for name in names:
        if (value := given.get(name)) is not None:
            if isinstance(value, str) and value:
                return value
            raise BadData(f"{where}: {name!r} is not a string with something in it")
    raise BadData(f"{where}: wanted one of the fields {', '.join(names)}")


def _negatives(given: Mapping[str, Any], where: str) -> tuple[str, ...]:
    for name in NEGATIVE:
        if (value := given.get(name)) is not None:
            some = [value] if isinstance(value, str) else value
            if isinstance(some, list) and all(isinstance(one, str) and one for one in some):
                return tuple(some)
            raise BadData(f"{where}: {name!r} is neither a text nor a list of texts")
    return ()
