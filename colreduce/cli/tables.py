"""Tables that several commands show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from colreduce.cli.screen import Screen, amount

AGREEMENT = "agreement@10"


def show_losses(screen: Screen, losses: Sequence[Mapping[str, Any]]) -> None:
    """Show a loss ledger: one row per stage, cumulative, and each metric's share of exact."""
    names = [name for name in losses[0] if name not in ("stage", "lost", AGREEMENT)]
    columns = ["after this stage"]
    for name in names:
        columns += [f">{name}", ">of exact"] if name == names[0] else [f">{name}"]
    rows = []
    for loss in losses:
        row = [str(loss["stage"])]
        for name in names:
            row.append(f"{loss[name]:.3f}")
            if name == names[0]:
                row.append(share(loss[name], losses[0][name]))
        rows.append([*row, f"{loss[AGREEMENT]:.1%}"])
    screen.table([*columns, ">top 10 kept"], rows)


# Characters of a bar that stands for everything.
BAR = 16


def show_ledger(screen: Screen, ledger: Mapping[str, Any]) -> None:
    """Show the ledger of an index: what is left after each stage, and what it lost, as bars."""
    from colreduce.evaluate.held_out import KINDS

    measure, *others = ledger["measures"]
    rows = []
    for stage in ledger["stages"]:
        left, lost, error = stage["values"][measure], stage["lost"][measure], stage["score_error"]
        rows.append(
            (
                stage["stage"],
                spread(left),
                _bar(left["value"], lost["value"]),
                "" if stage["kind"] == "exact" else spread(lost),
                *(f"{stage['values'][one]['value']:.1%}" for one in others),
                "-" if error is None else f"{error['value']:.1%}",
            )
        )
    columns = ["after this stage", f">{measure}", "left, lost", ">lost here"]
    columns += [f">{one}" for one in others]
    screen.table([*columns, ">scores off by"], rows)
    queries = ledger["queries"]
    screen.line(
        f"on {queries['count']} {KINDS[queries['kind']]}; in brackets the "
        f"{ledger['level']:.0%} interval"
    )
    curve = ledger["candidates"]
    shown = list(zip(curve["counts"], curve["recall"], strict=True))[
        :: max(1, len(curve["counts"]) // 5)
    ]
    found = ", ".join(f"{count}: {part:.1%}" for count, part in shown)
    screen.line(f"of the best ten among so many candidates: {found}")
    whole = ledger["lost"][measure]
    blamed = f", most of it at {ledger['blame']}" if ledger["blame"] else ""
    screen.line(f"lost from end to end: {spread(whole)}{blamed}")
    if ledger["trust"]:
        screen.line(f"these queries are {ledger['trust']}")


def spread(interval: Mapping[str, float]) -> str:
    """Write a share with the bounds of its interval, in percent."""
    low, value, high = (100 * interval[name] for name in ("low", "value", "high"))
    return f"{value:.1f} % ({low:.1f} to {high:.1f})"


def _bar(left: float, lost: float) -> str:
    """Draw what is left, and behind it what this stage took away."""
    full = round(BAR * min(1.0, max(0.0, left)))
    gone = min(round(BAR * max(0.0, lost)), BAR - full)
    return "█" * full + "░" * gone


def share(value: float, whole: float) -> str:
    """Write a value as a share of another, in percent."""
    return f"{value / whole:.1%}" if whole else "-"


PARTS = {
    "vectors": "token vectors",
    "first_stage": "first stage",
    "catalogue": "ids, metadata, manifests",
    "models": "what methods learned",
}


def show_bytes(screen: Screen, about: Mapping[str, Any]) -> None:
    """Show where the bytes of an index go, beside the raw vectors; takes `Index.describe`."""
    each, sums, raw = about["bytes_per_doc"], about["bytes"], about["raw_bytes_per_doc"]
    documents = max(1, about["documents"])
    rows = [
        (label, amount(each[name]), amount(sums[name]), share(each[name], raw))
        for name, label in PARTS.items()
    ]
    rows.append(("all that a search needs", *_row(each["total"], sums["total"], raw)))
    rows.append(("raw fp32 vectors", *_row(raw, raw * documents, raw)))
    kept = {"texts": "to be shown", "pictures": "to be shown", "assignment": "to explain"}
    kept |= {"sample": "to measure again"}
    for name, why in kept.items():
        if sums.get(name):
            rows.append((f"{name} (kept {why})", *_row(each[name], sums[name], raw)))
    screen.table(["", ">per document", ">in all", ">of raw"], rows)


def _row(each: float, whole: float, raw: float) -> tuple[str, str, str]:
    return amount(each), amount(whole), share(each, raw)
