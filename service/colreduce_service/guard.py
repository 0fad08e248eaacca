"""The one interceptor that every request to our own services passes through.

It knows who asks, reads the message, admits, and turns whatever is raised into a status. An error
that nobody expected is logged under a number, and the caller gets the number: its text may hold
what is none of the caller's business. Health and reflection do not pass here, so they answer under
any load.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2
from grpc_status import rpc_status

from colreduce.errors import AnswerTooLarge, BadInput, ColreduceError, Overloaded
from colreduce.rpc import limits
from colreduce.rpc.status import incident, status_of
from colreduce_service.access import Access
from colreduce_service.admission import Admission
from colreduce_service.call import REQUEST_ID, Call
from colreduce_service.insight import Observer
from colreduce_service.intake import IDLE_SECONDS, Intake, Patience, Streams, read_next
from colreduce_service.methods import RULES, Lane, Rule
from colreduce_service.rates import Rates

OURS = "/colreduce."

OK = grpc.StatusCode.OK.name

# What to ask less of where the answer is too large, by the request's field.
LESS = {
    "k": ": ask for fewer documents, or leave their metadata out",
    "ids": ": ask for fewer documents at once, or leave their pictures out",
    "id": "",
}

log = logging.getLogger(__name__)

# Streams that may be open at once; each holds a thread while it lasts.
STREAMS = 16


class _Here(ThreadPoolExecutor):
    """Does what it is given at once, in the thread that gives it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **more: Any) -> Future[Any]:
        """Return what is over already."""
        over: Future[Any] = Future()
        try:
            over.set_result(fn(*args, **more))
        except BaseException as error:
            over.set_exception(error)
        return over


HERE = _Here(1)


class Guard(grpc.ServerInterceptor):
    """Access, reading, admission and errors for every method of our services."""

    def __init__(
        self,
        lanes: Mapping[Lane, Admission],
        access: Access,
        rates: Rates,
        say: Callable[[Exception], str],
        observe: Observer = lambda call, code: None,
    ) -> None:
        """``say`` writes one of our errors the way that callers may read it.

        observe  told of every request when it is over
        """
        self._lanes = lanes
        self._access = access
        self._rates = rates
        self._say = say
        self._observe = observe
        self._patience = Patience()
        self._intake = Intake(self._patience)
        self._streams = Streams(STREAMS)

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
        rule = RULES[method]  # a method that has no rule is answered with an error, and not let in
        if (why := self._lanes[rule.lane].why_not()) is not None:
            return self._refusal(method, rule, why)
        # Messages are read inside, one by one and within bounds, which gRPC allows only when it is
        # told that there may be several. One that is no message is the caller's mistake.
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                lambda messages, context: self._converse(handler, method, rule, messages, context),
                request_deserializer=None,
                response_serializer=handler.response_serializer,
            )
        return grpc.stream_unary_rpc_method_handler(
            lambda messages, context: self._answer(handler, method, rule, messages, context),
            request_deserializer=None,
            response_serializer=handler.response_serializer,
        )

    def close(self) -> None:
        """End the streams that say nothing, and the thread that watches slow callers."""
        self._patience.close()

    def _answer(
        self,
        handler: Any,
        method: str,
        rule: Rule,
        messages: Iterator[bytes],
        context: grpc.ServicerContext,
    ) -> Message:
        call = Call.begin(method, rule, context)
        call.lane = lane = self._lanes[rule.lane]
        try:
            lane.require_room()
            self._let_in(call)
            with self._intake.message(messages, context, call.deadline) as raw:
                call.spent("read", call.total)
                with lane.enter(context, call.deadline):
                    call.spent("wait", call.total - call.seconds["read"])
                    request = _read(handler.request_deserializer, raw)
                    answer = _fitting(handler.unary_unary(request, call), request)
        except Exception as error:
            self._fail(error, call)
        self._finish(call, OK)
        context.set_trailing_metadata(((REQUEST_ID, call.id),))
        return answer

    def _converse(
        self,
        handler: Any,
        method: str,
        rule: Rule,
        messages: Iterator[bytes],
        context: grpc.ServicerContext,
    ) -> Iterator[Message]:
        """Answer a stream message by message; the servicer sees one message at a time."""
        call = Call.begin(method, rule, context)
        call.lane = lane = self._lanes[rule.lane]
        try:
            lane.require_room()
            self._let_in(call)
            with self._streams.place():
                while (raw := self._next(messages, context)) is not None:
                    self._let_in(call)  # again: a token may have gone, or a rate been reached
                    with lane.enter(context, call.deadline):
                        request = _read(handler.request_deserializer, raw)
                        answer = _fitting(handler.stream_stream(request, call), request)
                    self._charge(call)
                    with self._patience.within(context, IDLE_SECONDS):
                        yield answer
        except GeneratorExit:  # the caller went away while an answer was under way to it
            self._finish(call, grpc.StatusCode.CANCELLED.name)
            raise
        except Exception as error:
            self._fail(error, call)
        self._finish(call, OK)
        context.set_trailing_metadata(((REQUEST_ID, call.id),))

    def _next(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes | None:
        with self._patience.within(context, IDLE_SECONDS, idle=True):
            return read_next(messages)

    def _refusal(
        self, method: str, rule: Rule, why: ColreduceError
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Return what turns a request away in the thread that took it up.

        The more come, the less may one of them cost: nothing is read, and no other thread woken.
        """

        def refuse(messages: Iterator[bytes], context: grpc.ServicerContext) -> NoReturn:
            self._fail(why, Call.begin(method, rule, context))

        refuse.experimental_thread_pool = HERE  # type: ignore[attr-defined]
        return grpc.stream_unary_rpc_method_handler(refuse)

    def _let_in(self, call: Call) -> None:
        call.principal = self._access.admit(call.context, call.rule)
        self._rates.check(call.principal.name)

    def _charge(self, call: Call) -> None:
        self._rates.charge(call.principal.name, call.cost)
        call.cost = 0.0

    def _finish(self, call: Call, code: str) -> None:
        self._charge(call)
        self._observe(call, code)

    def _fail(self, error: Exception, call: Call) -> NoReturn:
        if type(error) is Overloaded:
            plain = _turned_away(str(error))
        elif isinstance(error, ColreduceError):
            plain = rpc_status.to_status(status_of(error, self._say(error)))
        else:
            plain = rpc_status.to_status(_unexpected(call))
        self._finish(call, plain.code.name)
        named = (*plain.trailing_metadata, (REQUEST_ID, call.id))
        call.context.abort_with_status(plain._replace(trailing_metadata=named))
        raise AssertionError("abort_with_status returned")


@lru_cache(maxsize=256)
def _turned_away(why: str) -> Any:
    """Return the status of those for whom there is no place: many in a row are told the same."""
    return rpc_status.to_status(status_of(Overloaded(why)))


def _read(deserialise: Callable[[bytes], Message], raw: bytes) -> Message:
    try:
        return deserialise(raw)
    except DecodeError as error:
        raise BadInput("the request is not a valid message of its type") from error


def _fitting(answer: Message, request: Message) -> Message:
    """Return an answer that one message can hold; else say what of the request is too much."""
    size = answer.ByteSize()
    if size > limits.MESSAGE_BYTES:
        asked = request.DESCRIPTOR.fields_by_name
        field = next((name for name in LESS if name in asked), "")
        raise AnswerTooLarge(
            f"the answer takes {size:,} bytes, more than the {limits.MESSAGE_BYTES:,} that one "
            f"message may hold{LESS.get(field, '')}",
            field=field,
        )
    return answer


def _unexpected(call: Call) -> status_pb2.Status:
    """Log the error at hand with all it says, and return a status that says only where."""
    log.exception("incident %s in %s", call.id, call.method)
    return incident(call.id)
