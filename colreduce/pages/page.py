"""A whole page, and its file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from colreduce.pages.markup import Html, Part, tag
from colreduce.pages.style import STYLE

# The browser itself then keeps the page from asking for anything or running anything.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(title: str, *body: Part, style: str = "") -> str:
    """Return a page as HTML; ``style`` is added to the look that all pages have."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(STYLE + style)),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', *body), lang='en')}\n"


def write(path: str | Path, content: str) -> Path:
    """Write a page to a file, whole or not at all."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=target.parent, prefix=".tmp-", delete=False
    ) as file:
        try:
            file.write(content)
            file.flush()
            os.chmod(file.name, 0o644)
            os.replace(file.name, target)
        except BaseException:
            os.unlink(file.name)
            raise
    return target
