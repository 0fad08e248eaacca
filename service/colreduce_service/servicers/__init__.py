"""One class per service and one method per rpc: read the request, ask the collection, answer.

A method is handed the request and the `Call`, not gRPC's context. One that is a stream is handed
one message after the other, and answers each.
"""

from __future__ import annotations

from colreduce_service.servicers.admin import AdminServicer
from colreduce_service.servicers.search import SearchServicer
from colreduce_service.servicers.write import WriteServicer

__all__ = ["AdminServicer", "SearchServicer", "WriteServicer"]
