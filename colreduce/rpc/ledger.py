"""The loss ledger to and from its message. As plain values it is described in docs/ledger.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from colreduce.rpc.v1 import admin_pb2

# Keys that are the same on both sides.
SAME = ("format", "generation", "documents", "level", "measures", "blame", "trust", "seconds")


def to_ledger(ledger: Mapping[str, Any] | None) -> admin_pb2.Ledger | None:
    """Write a ledger, if there is one."""
    if ledger is None:
        return None
    return admin_pb2.Ledger(
        queries=ledger["queries"]["kind"],
        query_count=ledger["queries"]["count"],
        stages=[_stage(one) for one in ledger["stages"]],
        lost=_measured(ledger["lost"]),
        recalls=_recalls(ledger.get("candidates")),
        **{name: ledger[name] for name in SAME},
    )


def from_ledger(message: admin_pb2.Ledger) -> dict[str, Any]:
    """Read what `to_ledger` wrote."""
    same = {name: getattr(message, name) for name in SAME}
    stages = [
        {
            "stage": one.stage,
            "kind": one.kind,
            "values": _intervals(one.values),
            "lost": _intervals(one.lost),
            "score_error": _interval(one.score_error) if one.HasField("score_error") else None,
        }
        for one in message.stages
    ]
    return {
        **same,
        "measures": list(message.measures),
        "queries": {"kind": message.queries, "count": message.query_count},
        "stages": stages,
        "candidates": {
            "counts": [one.candidates for one in message.recalls],
            "recall": [one.recall for one in message.recalls],
        },
        "lost": _intervals(message.lost),
    }


def _recalls(curve: Mapping[str, Any] | None) -> list[admin_pb2.Recall]:
    if not curve:
        return []
    pairs = zip(curve["counts"], curve["recall"], strict=True)
    return [admin_pb2.Recall(candidates=count, recall=recall) for count, recall in pairs]


def _stage(one: Mapping[str, Any]) -> admin_pb2.StageLoss:
    error = one["score_error"]
    return admin_pb2.StageLoss(
        stage=one["stage"],
        kind=one["kind"],
        values=_measured(one["values"]),
        lost=_measured(one["lost"]),
        score_error=None if error is None else admin_pb2.Measured(**error),
    )


def _measured(figures: Mapping[str, Mapping[str, float]]) -> dict[str, admin_pb2.Measured]:
    return {name: admin_pb2.Measured(**one) for name, one in figures.items()}


def _intervals(figures: Mapping[str, admin_pb2.Measured]) -> dict[str, dict[str, float]]:
    return {name: _interval(one) for name, one in sorted(figures.items())}


def _interval(one: admin_pb2.Measured) -> dict[str, float]:
    return {"low": one.low, "value": one.value, "high": one.high}
