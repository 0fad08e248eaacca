"""TREC's own files: documents and topics in angle brackets, tables, and judgements.

    <DOC><DOCNO>FT911-3</DOCNO><TITLE>..</TITLE><TEXT>..</TEXT></DOC>
    <top><num> Number: 301 <title> International Organized Crime ... </top>
    301 0 FBIS3-10082 1

The markup is TREC's and not XML: tags need no end, and the text may hold bare ampersands. What is
read is the part between the tags that are named here; whatever else stands there is left out.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from colreduce.errors import BadData
from colreduce.evaluate.records import Record, numbered_lines

DOCUMENT = re.compile(r"<DOC>(.*?)</DOC>", re.DOTALL | re.IGNORECASE)
TOPIC = re.compile(r"<top(?:ic)?(?:\s[^>]*)?>(.*?)</top(?:ic)?>", re.DOTALL | re.IGNORECASE)
TOPIC_NUMBER = re.compile(r"<topic[^>]*\snumber\s*=\s*[\"']?([^\"'\s>]+)", re.IGNORECASE)
TAG = re.compile(r"</?[A-Za-z][^<>]*>")

# Where documents keep their title and their text; all that are there count, in this order.
TITLES = ("TITLE", "HEADLINE", "HL", "HEAD", "TI")
TEXTS = ("TEXT", "BODY", "ABSTRACT", "AB", "W")


def documents(path: Path) -> Iterator[Record]:
    """Yield the ``<DOC>`` records of a file one at a time; the file itself is never held whole."""
    block, start, found = "", 0, 0
    for number, line in numbered_lines(path):
        if not block and "<doc>" not in line.lower():
            continue
        start = start if block else number
        block += line + "\n"
        if "</doc>" not in line.lower():
            continue
        end = 0
        for whole in DOCUMENT.finditer(block):
            yield _document(whole.group(1), f"{path} line {start}")
            end, found = whole.end(), found + 1
        block = block[end:] if "<doc>" in block[end:].lower() else ""
    if block:
        raise BadData(f"{path} line {start}: the document that begins here has no </DOC>")
    if not found:
        raise BadData(f"{path}: there is no <DOC>; wanted TREC's markup")


def _document(body: str, where: str) -> Record:
    name = _between(body, "DOCNO")
    if not name:
        raise BadData(f"{where}: the document has no <DOCNO>")
    title = next(filter(None, (_between(body, tag) for tag in TITLES)), "")
    texts = [_between(body, tag) for tag in TEXTS]
    return Record(name, " ".join(part for part in (title, *texts) if part))


def topics(path: Path) -> dict[str, str]:
    """Read topics: the number and the title (or query) of each.

    A topic's description and narrative are for judges; the title is what was typed.
    """
    text = "\n".join(line for _, line in numbered_lines(path))
    found: dict[str, str] = {}
    for whole in TOPIC.finditer(text):
        attribute = TOPIC_NUMBER.match(whole.group(0))
        number = attribute.group(1) if attribute else _number(whole.group(1))
        words = _open(whole.group(1), "title") or _open(whole.group(1), "query")
        if not number or not words:
            missing = "number" if not number else "title"
            raise BadData(f"{path}: topic {number or len(found) + 1} has no {missing}")
        if number in found:
            raise BadData(f"{path}: topic {number} is there twice")
        found[number] = words
    if not found:
        raise BadData(f"{path}: there are no topics; wanted <top> or <topic number=...>")
    return found


def _number(body: str) -> str:
    return _open(body, "num").removeprefix("Number:").strip()


def _between(body: str, tag: str) -> str:
    """Return the text of all elements of one name."""
    parts = re.findall(rf"<{tag}>(.*?)</{tag}>", body, re.DOTALL | re.IGNORECASE)
    return " ".join(filter(None, map(_plain, parts)))


def _open(body: str, tag: str) -> str:
    """Return the text behind a tag that may have no end: it ends where the next tag begins."""
    found = re.search(rf"<{tag}>([^<]*)", body, re.IGNORECASE)
    return _plain(found.group(1)).removeprefix("Topic:").strip() if found else ""


def _plain(markup: str) -> str:
    return " ".join(html.unescape(TAG.sub(" ", markup)).split())


def table(path: Path) -> Iterator[Record]:
    """Yield the records of a table of ids and texts, as MS MARCO has them.

    The first column is the id; the others, two or more with the title first, are the text.
    """
    seen: dict[str, int] = {}
    for number, line in numbered_lines(path):
        name, tab, text = line.partition("\t")
        if not tab or not name:
            raise BadData(f"{path} line {number}: wanted an id, a tab and a text")
        if name in seen:
            raise BadData(f"{path} line {number}: the id {name!r} was on line {seen[name]} already")
        seen[name] = number
        yield Record(name, " ".join(text.split()))


def judgements(lines: Iterator[tuple[int, str]], path: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield where it stands, query, document and grade of every line of TREC's judgements."""
    for number, line in lines:
        columns = line.split("\t") if line.count("\t") == 3 else line.split()
        if len(columns) != 4:
            raise BadData(
                f"{path} line {number}: wanted query, iteration, document and grade, "
                f"got {len(columns)} columns"
            )
        yield f"{path} line {number}", columns[0], columns[2], columns[3]


def looks_judged(line: str) -> bool:
    """Say whether a line is one of TREC's judgements: four columns, the last one a whole number."""
    columns = line.split("\t") if line.count("\t") == 3 else line.split()
    return len(columns) == 4 and re.fullmatch(r"-?\d+", columns[3].strip()) is not None
