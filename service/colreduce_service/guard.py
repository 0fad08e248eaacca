"""The one interceptor that every request to our own services passes through.

It admits, reads the message, and turns whatever is raised into a status. An error that nobody
expected is logged under a number, and the caller gets the number: its text may hold what is none
of the caller's business. Health and reflection do not pass here, so they answer under any load.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2
from grpc_status import rpc_status

from colreduce.errors import BadInput, ColreduceError
from colreduce.rpc import limits
from colreduce.rpc.status import incident, status_of
from colreduce_service.admission import Admission
from colreduce_service.deadline import Deadline

OURS = "/colreduce."

log = logging.getLogger(__name__)


class Guard(grpc.ServerInterceptor):
    """Admission, reading and errors for every method of our services."""

    def __init__(self, admission: Admission, say: Callable[[Exception], str]) -> None:
        """``say`` writes one of our errors the way that callers may read it."""
        self._admission = admission
        self._say = say

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of a method of ours; leave every other one as it is."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(OURS):
            return handler

        def answer(raw: bytes, context: grpc.ServicerContext) -> Message:
            return self._answer(handler, method, raw, context)

        # The message is read inside, once admitted: a flood of large ones costs little, and one
        # that is no message at all is the caller's mistake and not the server's.
        return grpc.unary_unary_rpc_method_handler(
            answer, request_deserializer=None, response_serializer=handler.response_serializer
        )

    def _answer(
        self,
        handler: Any,
        method: str,
        raw: bytes,
        context: grpc.ServicerContext,
    ) -> Message:
        try:
            with self._admission.enter(context, Deadline(context)):
                request = _read(handler.request_deserializer, raw)
                return _fitting(handler.unary_unary(request, context))
        except ColreduceError as error:
            status = status_of(error, self._say(error))
        except Exception:
            status = _unexpected(method)
        context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError("abort_with_status returned")


def _read(deserialise: Callable[[bytes], Message], raw: bytes) -> Message:
    try:
        return deserialise(raw)
    except DecodeError as error:
        raise BadInput("the request is not a valid message of its type") from error


def _fitting(answer: Message) -> Message:
    size = answer.ByteSize()
    if size > limits.MESSAGE_BYTES:
        raise BadInput(
            f"the answer takes {size:,} bytes, more than the {limits.MESSAGE_BYTES:,} that one "
            "message may hold: ask for fewer documents, or leave their metadata out",
            field="k",
        )
    return answer


def _unexpected(method: str) -> status_pb2.Status:
    """Log the error at hand with all it says, and return a status that says only where."""
    number = uuid.uuid4().hex[:12]
    log.exception("incident %s in %s", number, method)
    return incident(number)
