"""Vespa: an application package with a schema, and a feed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from colreduce.export.base import Exporter
from colreduce.export.source import Block, Source
from colreduce.store import fs

NAME = "colreduce"
FEED = "feed.jsonl"

SERVICES = """\
<?xml version="1.0" encoding="utf-8" ?>
<services version="1.0">
  <container id="default" version="1.0">
    <search/>
    <document-api/>
  </container>
  <content id="documents" version="1.0">
    <min-redundancy>1</min-redundancy>
    <documents>
      <document type="colreduce" mode="index"/>
    </documents>
  </content>
</services>
"""


class Vespa(Exporter):
    """A folder with ``services.xml``, ``schemas/colreduce.sd`` and ``feed.jsonl`` for Vespa."""

    name: ClassVar[str] = "vespa"

    def write(self, source: Source, place: Path) -> None:
        """Write the package; the feed block by block."""
        fs.mkdir(place)
        fs.mkdir(place / "schemas")
        fs.write_once(place / "services.xml", SERVICES.encode())
        fs.write_once(place / "schemas" / f"{NAME}.sd", schema(source).encode())
        sink = fs.Sink(place / FEED)
        try:
            for block in source.blocks():
                for operation in _operations(block, source):
                    sink.write(json.dumps(operation, ensure_ascii=False).encode() + b"\n")
            sink.finish()
        finally:
            sink.abandon()


def schema(source: Source) -> str:
    """Return the schema: fields, and a rank profile that reranks by MaxSim."""
    text = _field("text", "string", "index | summary", "index: enable-bm25") if source.texts else ""
    single = "".join(
        _field(name, f"tensor<float>(x[{width}])", "attribute | index", _NEAREST)
        for name, width in source.widths.items()
    )
    many = f"tensor<float>(token{{}}, x[{source.dim}])"
    fields = (
        _field("id", "string", "attribute | summary")
        + _field("metadata", "string", "summary")
        + _field("facets", "array<string>", "attribute", "attribute: fast-search")
        + text
        + _field("vectors", many, "attribute", "attribute: paged")
        + single
    )
    return _SCHEMA.format(
        name=NAME,
        fields=fields,
        inputs=_inputs(source),
        phases=_phases(source),
    )


_NEAREST = "attribute {\n                distance-metric: dotproduct\n            }"

_SCHEMA = """\
schema {name} {{

    document {name} {{
{fields}    }}

    rank-profile maxsim {{
        inputs {{
{inputs}        }}
        function max_sim() {{
            expression: sum(reduce(sum(query(q) * attribute(vectors), x), max, token), querytoken)
        }}
{phases}    }}
}}
"""


def _field(name: str, kind: str, indexing: str, more: str = "") -> str:
    lines = [f"        field {name} type {kind} {{", f"            indexing: {indexing}"]
    lines += [f"            {more}"] if more else []
    return "\n".join([*lines, "        }", ""])


def _inputs(source: Source) -> str:
    lines = [f"            query(q) tensor<float>(querytoken{{}}, x[{source.dim}])"]
    for name, width in source.widths.items():
        lines.append(f"            query({name}) tensor<float>(x[{width}])")
    return "\n".join([*lines, ""])


def _phases(source: Source) -> str:
    """With a first stage, its product comes first and MaxSim reranks as many as the recipe does."""
    if not source.widths:
        return "        first-phase {\n            expression: max_sim()\n        }\n"
    name = next(iter(source.widths))
    count = getattr(source.recipe.reranker, "candidates", 100)
    return (
        "        first-phase {\n"
        f"            expression: sum(query({name}) * attribute({name}))\n"
        "        }\n"
        "        second-phase {\n"
        f"            rerank-count: {count}\n"
        "            expression: max_sim()\n"
        "        }\n"
    )


def _operations(block: Block, source: Source) -> Iterator[dict[str, Any]]:
    for place, name in enumerate(block.ids):
        fields: dict[str, Any] = {
            "id": name,
            "metadata": json.dumps(block.metadata[place], ensure_ascii=False),
            "facets": list(_facets(block.metadata[place])),
        }
        if source.texts and block.texts[place]:
            fields["text"] = _without_controls(block.texts[place] or "")
        rows = block.of(place)
        fields["vectors"] = {"blocks": {str(n): _hex(row) for n, row in enumerate(rows)}}
        for key, vectors in block.single.items():
            fields[key] = {"values": _hex(vectors[place])}
        yield {"put": f"id:{NAME}:{NAME}::{name}", "fields": fields}


def _hex(vector: NDArray[np.float32]) -> str:
    """Write a vector as Vespa reads it: eight hexadecimal digits a number, highest byte first."""
    return vector.astype(">f4").tobytes().hex()


def _facets(metadata: dict[str, Any]) -> Iterator[str]:
    """Yield ``field=value`` for every plain value, so that filters can ask for it."""
    for field, value in metadata.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str | int | float | bool):
                yield f"{field}={one if isinstance(one, str) else json.dumps(one)}"


def _without_controls(text: str) -> str:
    """Leave out the characters that Vespa refuses in a string."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]", " ", text)
