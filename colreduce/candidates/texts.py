"""First stages that read text: where there is none they say so."""

from __future__ import annotations

from collections.abc import Sequence

from colreduce.candidates.base import Query
from colreduce.errors import BadInput


def document_texts(stage: str, texts: Sequence[str | None]) -> list[str]:
    """Return every document's text."""
    for place, text in enumerate(texts):
        if text is None:
            raise BadInput(
                f"the first stage {stage} reads text, and document {place} of these came as "
                "vectors only. Give texts, or choose a first stage that needs vectors only.",
                field="documents",
            )
    return [text for text in texts if text is not None]


def query_texts(stage: str, queries: Sequence[Query]) -> list[str]:
    """Return every query's text."""
    texts = [query.text for query in queries]
    if None in texts:
        raise BadInput(
            f"the first stage {stage} reads text, and the query came as vectors only. "
            "Ask with a text.",
            field="query",
        )
    return [text for text in texts if text is not None]
