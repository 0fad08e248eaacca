"""Errors to and from gRPC statuses.

The server turns each of our errors into one status with details that programs can read:
`ErrorInfo` with a reason that never changes, `BadRequest` with the field at fault, `RetryInfo`
when trying again helps. The client turns them back into the same errors. What has no row in the
table is not an error raised on purpose; the service answers it INTERNAL without its text.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from colreduce import errors
from colreduce.errors import BadInput, ColreduceError, ServiceError
from colreduce.rpc.v1 import write_pb2

DOMAIN = "colreduce"

# Details travel in a header of at most 8 KiB.
MESSAGE_CHARACTERS = 1000

RETRY_SECONDS = 0.1

Code = grpc.StatusCode

# Which status each error becomes, and its reason. The reasons are part of the protocol.
STATUSES: dict[type[ColreduceError], tuple[grpc.StatusCode, str]] = {
    errors.ColreduceError: (Code.INTERNAL, "FAILED"),
    errors.BadInput: (Code.INVALID_ARGUMENT, "BAD_INPUT"),
    errors.UnknownName: (Code.INVALID_ARGUMENT, "UNKNOWN_NAME"),
    errors.BadParameter: (Code.INVALID_ARGUMENT, "BAD_PARAMETER"),
    errors.BadRecipe: (Code.INVALID_ARGUMENT, "BAD_RECIPE"),
    errors.BadData: (Code.INVALID_ARGUMENT, "BAD_DATA"),
    errors.ShapeMismatch: (Code.INVALID_ARGUMENT, "SHAPE_MISMATCH"),
    errors.AnswerTooLarge: (Code.INVALID_ARGUMENT, "ANSWER_TOO_LARGE"),
    errors.NotFound: (Code.NOT_FOUND, "NOT_FOUND"),
    errors.NotAnIndex: (Code.NOT_FOUND, "NOT_AN_INDEX"),
    errors.AlreadyExists: (Code.ALREADY_EXISTS, "ALREADY_EXISTS"),
    errors.Locked: (Code.FAILED_PRECONDITION, "LOCKED"),
    errors.NewerFormat: (Code.FAILED_PRECONDITION, "NEWER_FORMAT"),
    errors.Damaged: (Code.DATA_LOSS, "DAMAGED"),
    errors.ReadOnly: (Code.FAILED_PRECONDITION, "READ_ONLY"),
    errors.DiskFull: (Code.RESOURCE_EXHAUSTED, "DISK_FULL"),
    errors.MissingDependency: (Code.FAILED_PRECONDITION, "MISSING_DEPENDENCY"),
    errors.ModelMismatch: (Code.FAILED_PRECONDITION, "MODEL_MISMATCH"),
    errors.Stopped: (Code.ABORTED, "STOPPED"),
    errors.ServiceError: (Code.INTERNAL, "INTERNAL"),
    errors.Unavailable: (Code.UNAVAILABLE, "UNAVAILABLE"),
    errors.Overloaded: (Code.RESOURCE_EXHAUSTED, "OVERLOADED"),
    errors.CompactionBehind: (Code.RESOURCE_EXHAUSTED, "COMPACTION_BEHIND"),
    errors.RateLimited: (Code.RESOURCE_EXHAUSTED, "RATE_LIMITED"),
    errors.DeadlineExceeded: (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    errors.Cancelled: (Code.CANCELLED, "CANCELLED"),
    errors.AccessDenied: (Code.PERMISSION_DENIED, "ACCESS_DENIED"),
    errors.Unauthenticated: (Code.UNAUTHENTICATED, "UNAUTHENTICATED"),
}

# The number of a status -> the status.
CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in Code}

# What a status means that came without our details: from gRPC itself or from a proxy.
BARE: dict[grpc.StatusCode, type[ColreduceError]] = {
    Code.INVALID_ARGUMENT: errors.BadInput,
    Code.NOT_FOUND: errors.NotFound,
    Code.ALREADY_EXISTS: errors.AlreadyExists,
    Code.UNAVAILABLE: errors.Unavailable,
    Code.RESOURCE_EXHAUSTED: errors.Overloaded,
    Code.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    Code.CANCELLED: errors.Unavailable,
    Code.UNAUTHENTICATED: errors.Unauthenticated,
    Code.PERMISSION_DENIED: errors.AccessDenied,
    Code.DATA_LOSS: errors.Damaged,
}

# What gRPC answers, in words only, to a message beyond the limit.
TOO_LARGE = "larger than max"


def status_of(error: ColreduceError, message: str | None = None) -> status_pb2.Status:
    """Return the status that tells a client about one of our errors.

    ``message`` is said instead of the error's own text.
    """
    code, reason = _row(type(error))
    message = _short(str(error) if message is None else message)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)
    details: list[Any] = [info]
    if isinstance(error, BadInput):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=message
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, (errors.Overloaded, errors.Unavailable)):
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(1000 * getattr(error, "retry_after", RETRY_SECONDS)))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=code.value[0], message=message, details=_packed(details))


def item_status(error: ColreduceError, message: str) -> write_pb2.ItemStatus:
    """Return what became of one document that an error kept from being written."""
    code, reason = _row(type(error))
    field = error.field if isinstance(error, BadInput) else ""
    return write_pb2.ItemStatus(
        code=code.value[0], reason=reason, message=_short(message), field=field
    )


def item_error(item: write_pb2.ItemStatus) -> ColreduceError | None:
    """Return why a document was refused; None when it was not."""
    if not item.code:
        return None
    return _error(item.reason, CODES.get(item.code, Code.UNKNOWN), item.message, item.field)


def incident(number: str) -> status_pb2.Status:
    """Return the status for an error that nobody expected: its number in the log, not its text."""
    info = error_details_pb2.ErrorInfo(
        reason="INTERNAL", domain=DOMAIN, metadata={"incident": number}
    )
    message = f"the server failed on this request; its log says why under incident {number}"
    return status_pb2.Status(code=Code.INTERNAL.value[0], message=message, details=_packed([info]))


def error_of(call: grpc.RpcError, where: str) -> ColreduceError:
    """Return the error of ours that a failed call stands for; ``where`` is the server's address."""
    status = rpc_status.from_call(call)
    code, text = call.code(), call.details() or ""
    if status is None:
        return _bare(code, text, where)
    reason = field = ""
    wait = RETRY_SECONDS
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason = info.reason
        elif detail.Unpack(bad) and bad.field_violations:
            field = bad.field_violations[0].field
        elif detail.Unpack(retry):
            wait = retry.retry_delay.ToMilliseconds() / 1000
    return _error(reason, code, status.message, field, wait)


def _error(
    reason: str, code: grpc.StatusCode, message: str, field: str, wait: float = RETRY_SECONDS
) -> ColreduceError:
    kinds = {known: kind for kind, (_, known) in STATUSES.items()}
    kind = kinds.get(reason, BARE.get(code, ServiceError))
    if issubclass(kind, BadInput):
        return kind(message, field=field)
    if issubclass(kind, errors.RateLimited):
        return kind(message, retry_after=wait)
    return kind(message)


def _bare(code: grpc.StatusCode, text: str, where: str) -> ColreduceError:
    if code is Code.RESOURCE_EXHAUSTED and TOO_LARGE in text:
        return BadInput(f"the message is too large: {text}")
    message = f"the call to {where} failed with {code.name}: {text}"
    return BARE.get(code, ServiceError)(message)


def _row(kind: type[ColreduceError]) -> tuple[grpc.StatusCode, str]:
    """Return the row of an error, or of the nearest class above it that has one."""
    return next(STATUSES[above] for above in kind.__mro__ if above in STATUSES)


def _short(text: str) -> str:
    return text if len(text) <= MESSAGE_CHARACTERS else text[: MESSAGE_CHARACTERS - 3] + "..."


def _packed(details: list[Any]) -> list[any_pb2.Any]:
    boxes = []
    for detail in details:
        box = any_pb2.Any()
        box.Pack(detail)
        boxes.append(box)
    return boxes
