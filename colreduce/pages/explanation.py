"""Why a document has its score, as a page: the query's tokens, and what each of them met."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence

from colreduce.pages.markup import Html, Part, from_data, table, tag
from colreduce.pages.page import page
from colreduce.results import Explanation, Match, Token

TRACED = {
    "stored": "Where every token went was stored with the document.",
    "recomputed": "Where every token went was found out again from the text.",
    "unreduced": "Nothing was reduced: every token is its own vector.",
}

# Some tokens named in a table; more of them are counted.
NAMED = 12

STYLE = """
.pick { position: absolute; opacity: 0; }
.query label, .query .all {
  display: inline-block; margin: 0 .3rem .4rem 0; padding: .15rem .55rem; border-radius: 4px;
  border: 1px solid var(--rule); cursor: pointer;
  background: color-mix(in srgb, var(--accent) calc(var(--s) * 55%), var(--page));
}
.document { white-space: pre-wrap; max-width: 60rem; line-height: 1.9; }
.document span { background: color-mix(in srgb, var(--accent) calc(var(--s) * 55%), var(--page));
  border-radius: 3px; padding: .1rem 0; }
.document .pruned { background: none; color: var(--quiet); text-decoration: line-through; }
.patches { display: grid; max-width: 44rem; gap: 1px; }
.patches span { outline-offset: -2px;
  background: color-mix(in srgb, var(--accent) calc(var(--s) * 75%), transparent); }
.patches .pruned { background: repeating-linear-gradient(45deg, var(--rule) 0 1px,
  transparent 1px 5px); }
.patches.bare span { aspect-ratio: 1; }
.sheet { position: relative; max-width: 44rem; }
.sheet img { display: block; width: 100%; border: 1px solid var(--rule); }
.sheet .patches { position: absolute; inset: 1px; }
.key { font-size: .9rem; color: var(--quiet); }
"""


def explanation_page(found: Explanation, image: bytes | None = None) -> str:
    """Return the explanation of one hit as HTML.

    image  the page that the document is, as PNG or JPEG: patches are drawn over it
    """
    met = strengths(found)
    picks = [
        tag("input", type="radio", name_="pick", id=f"q{n}", class_="pick",
            aria_label=f"show only what {said(found, match.query_tokens, query=True)} met")
        for n, match in enumerate(found.matches)
    ]  # fmt: skip
    everything = tag("input", type="radio", name_="pick", id="all", class_="pick",
                     aria_label="show what all of the query met", checked="")  # fmt: skip
    title = f"Why {found.id} scores {found.score:.3f}"
    return page(
        title,
        everything,
        picks,
        tag("header", tag("h1", "Why ", from_data(found.id), f" scores {found.score:.3f}"),
            tag("p", TRACED[found.traced], _likeness(found), class_="quiet")),
        tag("main",
            tag("section", tag("h2", "The query"), _query(found),
                tag("p", "Choose a token to see only what it met. The stronger the colour, the "
                    "larger the share of the score.", class_="key")),
            tag("section", tag("h2", "The document"), _document(found, met, image)),
            tag("section", tag("h2", "Share by share"), _shares(found)),
            _notes(found)),
        style=STYLE + "".join(_rules(found)),
    )  # fmt: skip


def said(found: Explanation, positions: Sequence[int], *, query: bool = False) -> str:
    """Name some tokens: by their words, else by their patches, else by their numbers."""
    tokens = found.query_tokens if query else found.tokens
    text = found.query if query else found.text
    if text is not None:
        words = [text[start:end] for start, end in found.spans(positions, query=query)]
        rest = [one for one in positions if tokens[one].span is None]
    else:
        words, rest = [], list(positions)
    if found.grid is not None and not query:
        # What is no patch of a page is a token of the prompt around it.
        marks = [_name(tokens[one]) for one in rest if tokens[one].patch is not None]
        marks += ["the prompt"] if len(marks) < len(rest) else []
    else:
        marks = [_name(tokens[one]) for one in rest]
    names = words + marks
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return " … ".join(names[:NAMED]) + more


def _name(token: Token) -> str:
    if token.patch is not None:
        return "row {}, column {}".format(*(place + 1 for place in token.patch))
    return f"vector {token.position}" if token.text is None else token.text


def strengths(found: Explanation) -> dict[int, float]:
    """Return for every stored vector that was met its part of the score, the largest as 1."""
    sums: dict[int, float] = {}
    for match in found.matches:
        sums[match.vector] = sums.get(match.vector, 0.0) + max(0.0, match.share)
    largest = max(sums.values(), default=0.0) or 1.0
    return {vector: whole / largest for vector, whole in sums.items()}


def _likeness(found: Explanation) -> str:
    if found.likeness is None:
        return ""
    return f" The vectors found then are like the stored ones to a cosine of {found.likeness:.3f}."


def _query(found: Explanation) -> Html:
    largest = max((match.share for match in found.matches), default=0.0) or 1.0
    chips = [
        tag("label", from_data(said(found, match.query_tokens, query=True)), for_=f"q{n}",
            style=f"--s:{max(0.0, match.share) / largest:.2f}", title=f"{match.share:.3f}")
        for n, match in enumerate(found.matches)
    ]  # fmt: skip
    return tag("p", tag("label", "all of it", for_="all", style="--s:0"), chips, class_="query")


def _document(found: Explanation, met: dict[int, float], image: bytes | None) -> Part:
    if found.grid is not None:
        words = tag("p", found.text, class_="document", dir="auto") if found.text else None
        return [_patches(found, found.grid, met, image), words]
    if found.text is not None:
        shown = [
            part if token is None else _token(token, part, met)
            for part, token in pieces(found, found.text)
        ]
        return tag("p", shown, class_="document", dir="auto")
    return tag(
        "p",
        [[_token(one, _name(one), met), " "] for one in found.tokens],
        class_="document",
    )


def pieces(found: Explanation, text: str) -> Iterator[tuple[str, Token | None]]:
    """Cut the document's text into its tokens and what is between them."""
    end = 0
    placed = [(token.span, token) for token in found.tokens if token.span is not None]
    for (start, stop), token in sorted(placed, key=lambda pair: pair[0]):
        if start >= end:
            yield text[end:start], None
            yield text[start:stop], token
            end = stop
    yield text[end:], None


def _token(token: Token, shown: str, met: dict[int, float]) -> Html:
    if token.vector is None:
        return tag("span", shown, class_="pruned", title="pruned: no stored vector stands for it")
    return tag(
        "span",
        shown,
        class_=f"v{token.vector}",
        style=f"--s:{met.get(token.vector, 0.0):.2f}",
        title=f"stored vector {token.vector}",
    )


def _patches(
    found: Explanation, grid: tuple[int, int], met: dict[int, float], image: bytes | None
) -> Html:
    placed = {token.patch: token for token in found.tokens if token.patch is not None}
    cells = [
        _token(placed[row, column], "", met) if (row, column) in placed else tag("span")
        for row in range(grid[0])
        for column in range(grid[1])
    ]
    look = f"grid-template:repeat({grid[0]},1fr)/repeat({grid[1]},1fr)"
    over = tag("div", cells, class_="patches" if image else "patches bare", style=look, role="img",
               aria_label=f"a page of {grid[0]} by {grid[1]} patches")  # fmt: skip
    if image is None:
        return over
    data = base64.b64encode(image).decode()
    return tag("div", tag("img", src=f"data:{_kind(image)};base64,{data}", alt=""), over,
               class_="sheet")  # fmt: skip


def _kind(image: bytes) -> str:
    """Return what kind of picture this is, by its first bytes."""
    if image[:4] == b"RIFF":
        return "image/webp"
    return "image/jpeg" if image[:2] == b"\xff\xd8" else "image/png"


def _shares(found: Explanation) -> Html:
    known = any(match.unreduced is not None for match in found.matches)
    columns = ["of the query", ">share", ">of the score", "met, in the document"]
    rows = [
        [
            from_data(said(found, match.query_tokens, query=True)),
            f"{match.share:.3f}",
            f"{match.share / found.score:.1%}" if found.score else "-",
            from_data(said(found, match.tokens)) if match.tokens else f"vector {match.vector}",
            *([_unreduced(match)] if known else []),
        ]
        for match in sorted(found.matches, key=lambda match: -match.share)
    ]
    return table(
        "The shares add up to the score.",
        [*columns, *([">unreduced"] if known else [])],
        rows,
    )


def _unreduced(match: Match) -> str:
    return "-" if match.unreduced is None else f"{match.unreduced:.3f}"


def _notes(found: Explanation) -> Part:
    pruned = len(found.pruned)
    told = list(found.notes)
    if pruned:
        told.append(f"{pruned:,} of {len(found.tokens):,} tokens were pruned.")
    return tag("ul", [tag("li", one) for one in told], class_="quiet") if told else None


def _rules(found: Explanation) -> Iterator[str]:
    """Yield what makes a chosen token of the query show only what it met."""
    for number, match in enumerate(found.matches):
        chosen = f"#q{number}:checked ~ main"
        yield f'{chosen} label[for="q{number}"] {{ outline: 2px solid var(--accent); }}\n'
        others = f":is(.document, .patches) span:not(.v{match.vector})"
        yield f"{chosen} {others} {{ --s: 0 !important; }}\n"
        yield f"{chosen} .v{match.vector} {{ outline: 2px solid var(--accent); }}\n"
        yield f'#q{number}:focus-visible ~ main label[for="q{number}"] {{ outline-offset: 3px; }}\n'
