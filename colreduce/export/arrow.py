"""Documents as Arrow record batches, which Parquet and LanceDB both take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from colreduce.export.source import Block, Source


def schema_of(source: Source) -> Any:
    """Return the columns: id, metadata as JSON, text, vectors, one vector per first stage."""
    import pyarrow as pa

    columns = [pa.field("id", pa.string(), nullable=False), pa.field("metadata", pa.string())]
    if source.texts:
        columns.append(pa.field("text", pa.string()))
    columns.append(pa.field("vectors", pa.list_(pa.list_(pa.float32(), source.dim))))
    for name, width in source.widths.items():
        columns.append(pa.field(name, pa.list_(pa.float32(), width)))
    return pa.schema(columns, metadata={"colreduce": json.dumps(source.about)})


def batches(source: Source) -> Iterator[Any]:
    """Yield the documents, a block at a time."""
    schema = schema_of(source)
    for block in source.blocks():
        yield _batch(block, source, schema)


def _batch(block: Block, source: Source, schema: Any) -> Any:
    import pyarrow as pa

    notes = [json.dumps(one, ensure_ascii=False) for one in block.metadata]
    columns = [pa.array(block.ids, pa.string()), pa.array(notes, pa.string())]
    if source.texts:
        columns.append(pa.array(block.texts, pa.string()))
    ends = np.concatenate([[0], np.cumsum(block.lengths)]).astype(np.int32)
    flat = pa.array(np.ascontiguousarray(block.vectors).reshape(-1))
    rows = pa.FixedSizeListArray.from_arrays(flat, source.dim)
    columns.append(pa.ListArray.from_arrays(pa.array(ends), rows))
    for name, width in source.widths.items():
        flat = pa.array(np.ascontiguousarray(block.single[name]).reshape(-1))
        columns.append(pa.FixedSizeListArray.from_arrays(flat, width))
    return pa.record_batch(columns, schema=schema)
