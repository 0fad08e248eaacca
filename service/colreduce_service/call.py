"""One request on its way through the server: who asks, and how long there is."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

import grpc

from colreduce_service.access import ANYBODY, Principal
from colreduce_service.deadline import Deadline
from colreduce_service.methods import Rule

# The header in which a caller may name its request, and in which the name is returned.
REQUEST_ID = "x-request-id"

_PROPER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class Call:
    """What is known of one request; the guard hands it to the servicer in place of gRPC's own."""

    method: str  # such as /colreduce.rpc.v1.Search/Search
    context: grpc.ServicerContext
    rule: Rule
    id: str
    deadline: Deadline
    principal: Principal = ANYBODY
    cost: float = 0.0  # what the caller is charged for it

    @classmethod
    def begin(cls, method: str, rule: Rule, context: grpc.ServicerContext) -> Call:
        """Take up a request under the name that its caller gave it, or under a new one."""
        given = dict(context.invocation_metadata()).get(REQUEST_ID, "")
        name = given if isinstance(given, str) and _PROPER_ID.fullmatch(given) else ""
        deadline = Deadline(context, rule.seconds)
        return cls(method, context, rule, name or uuid.uuid4().hex[:16], deadline)

    def charge(self, cost: float) -> None:
        """Add to what the caller is charged."""
        self.cost += cost
