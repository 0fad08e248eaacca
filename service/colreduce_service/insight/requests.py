"""Requests as lines of the log, for people or for machines."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from colreduce_service.call import Call

log = logging.getLogger("colreduce_service.requests")

# Under this name a record carries what a machine wants to know of it.
FACTS = "facts"


def log_request(call: Call, code: str) -> None:
    """Write a line for a request that is over."""
    facts = facts_of(call, code)
    stages = ", ".join(f"{name} {spent:.1f}" for name, spent in facts["stages"].items())
    log.info(
        "%s%s %s in %.1f ms%s, request %s of %s%s",
        facts["method"],
        f" of {call.collection}" if call.collection else "",
        code,
        facts["milliseconds"],
        f" ({stages})" if stages else "",
        call.id,
        call.principal.name,
        ", partial" if call.partial else "",
        extra={FACTS: facts},
    )


def facts_of(call: Call, code: str) -> dict[str, Any]:
    """Return what is known of a request as plain values. Texts and vectors are not."""
    return {
        "request": call.id,
        "method": call.method.rpartition(".")[2],
        "collection": call.collection,
        "principal": call.principal.name,
        "code": code,
        **({"partial": True} if call.partial else {}),
        "milliseconds": round(1000 * call.total, 3),
        "stages": {name: round(1000 * spent, 3) for name, spent in call.seconds.items()},
    }


class JsonLines(logging.Formatter):
    """Writes every record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FACTS, {}),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)
