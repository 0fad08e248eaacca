"""Every error that colreduce raises on purpose.

ColreduceError
├── BadInput (ValueError)            what was given cannot be used; nothing was changed
│   ├── UnknownName                  no method, preset, dataset or field of that name
│   ├── BadParameter                 a method's parameter is out of its range
│   ├── BadRecipe                    a recipe line or file cannot be read
│   ├── BadData                      a file, line or record of the user's data is damaged
│   ├── ShapeMismatch                vectors of the wrong width, dtype or number
│   └── AnswerTooLarge               what was asked for does not fit into one message
├── NotFound (LookupError)           no such document or index
│   └── NotAnIndex                   the folder holds no colreduce index
├── AlreadyExists                    an index stands there already
├── Locked                           another process is writing to this index
├── NewerFormat                      written by a newer colreduce; refused, left untouched
├── Damaged                          a checksum or a length does not fit what was written
├── ReadOnly                         the writer saw a failed fsync and stopped; reopen the index
├── DiskFull (OSError)               no room to write; nothing was changed, searches go on
├── MissingDependency (ImportError)  an optional package is not installed
├── ModelMismatch                    the encoder is not the one the index was built with
├── Stopped                          a build was told to stop; what is finished of it is kept
├── Overloaded                       too much runs or waits already; nothing was done: try later
│   ├── CompactionBehind             too many small segments; writing waits for their compaction
│   └── RateLimited                  this caller has asked more than it may: wait, then go on
└── ServiceError                     what a server answered, when no error above fits it
    ├── Unavailable                  the server is starting, draining or out of reach: try again
    ├── DeadlineExceeded             the answer did not come in time
    ├── Cancelled                    whoever asked went away before the answer was there
    └── AccessDenied                 known, but in a role that may not do this
        └── Unauthenticated          no token, or one that the server does not know

Catch ``ColreduceError`` around anything; catch ``BadInput`` to report a mistake to a user.
"""

from __future__ import annotations


class ColreduceError(Exception):
    """The root of all errors raised on purpose."""


class BadInput(ColreduceError, ValueError):
    """What was given cannot be used. Nothing was changed.

    ``field`` names the part of the input at fault, so that a server can say which one.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class UnknownName(BadInput):
    """No method, preset, dataset or field has that name."""


class BadParameter(BadInput):
    """A parameter of a method is missing, of the wrong type or out of its range."""


class BadRecipe(BadInput):
    """A recipe line or file cannot be read."""


class BadData(BadInput):
    """A file, line or record of the user's data is damaged."""


class ShapeMismatch(BadInput):
    """Vectors of the wrong width, type or number."""


class AnswerTooLarge(BadInput):
    """What was asked for does not fit into one message: ask for less at once."""


class NotFound(ColreduceError, LookupError):
    """There is no such document, collection or index."""


class NotAnIndex(NotFound):
    """The folder holds no colreduce index."""


class AlreadyExists(ColreduceError):
    """Something of that name stands there already."""


class Locked(ColreduceError):
    """Another process is writing to this index."""


class NewerFormat(ColreduceError):
    """The index was written by a newer colreduce. It was left untouched."""


class Damaged(ColreduceError):
    """The bytes on disk are not the ones that were written."""


class ReadOnly(ColreduceError):
    """The writer saw a failed fsync and stopped. Reopen the index to write again."""


class DiskFull(ColreduceError, OSError):
    """There is no room to write. Nothing was changed, and searches go on."""


class MissingDependency(ColreduceError, ImportError):
    """An optional package is not installed; the message says how to install it."""


class ModelMismatch(ColreduceError):
    """The encoder is not the one the index was built with."""


class Stopped(ColreduceError):
    """A build was told to stop. What is finished of it is kept, and the next run goes on there."""


class Overloaded(ColreduceError):
    """Too much runs or waits already. Nothing was done; try again later."""


class CompactionBehind(Overloaded):
    """There are too many small segments. Writing goes on when they have been compacted."""


class RateLimited(Overloaded):
    """This caller has asked more than it may. ``retry_after`` is how many seconds to wait."""

    def __init__(self, message: str, *, retry_after: float = 0.1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServiceError(ColreduceError):
    """What a server answered, when no other error fits."""


class Unavailable(ServiceError):
    """The server is starting, draining or out of reach. Try again."""


class DeadlineExceeded(ServiceError, TimeoutError):
    """The answer did not come in time."""


class Cancelled(ServiceError):
    """Whoever asked went away before the answer was there."""


class AccessDenied(ServiceError):
    """The caller is known, but has a role that may not do this."""


class Unauthenticated(AccessDenied):
    """There is no token, or one that the server does not know."""
