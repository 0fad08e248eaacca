"""A whole page, and its file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from colreduce.pages.markup import Html, Part, joined, tag
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


def report(
    title: str, about: str, glance: Iterable[Part], parts: Mapping[str, tuple[str, Part]]
) -> str:
    """Return a page in sections, with what matters most in a box above them.

    parts  of every section its title and its content, by the name that links use
    """
    links = [joined(tag("a", name, href=f"#{key}"), " ") for key, (name, _) in parts.items()]
    return page(
        title,
        tag(
            "header",
            tag("h1", title),
            tag("p", about, class_="quiet"),
            tag("nav", links, aria_label="Sections"),
        ),
        tag(
            "main",
            tag("ul", [tag("li", one) for one in glance], class_="glance"),
            [
                tag("section", tag("h2", name, id=key), content)
                for key, (name, content) in parts.items()
            ],
        ),
    )


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
