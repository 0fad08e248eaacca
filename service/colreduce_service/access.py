"""Who may do what: bearer tokens with roles, read from a file that holds only their hashes.

A line of the file is ``NAME ROLE SHA256``, as ``colreduce token`` prints it; ``#`` begins a
comment. The file is looked at with every request: a token that is added lets in at once, one that
is taken out is refused as soon as the file stands still, since a file that is just being written
may lack lines that it keeps. Without a file everybody who gets through to the server
may do everything.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import os
import re
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from colreduce.choose import hint
from colreduce.errors import AccessDenied, BadInput, Unauthenticated
from colreduce_service.methods import ROLES, Role, Rule

log = logging.getLogger(__name__)

HEADER = "authorization"
PREFIX = "crt_"  # so that scanners for leaked secrets know one

# The file is read again at least this often, because a change within the clock's grain is not seen.
READ_AGAIN_SECONDS = 1.0

# What a file lacks is taken away once it was seen unchanged for so long, since it may be still to
# come while the file is written, and at the latest so long after the change.
SETTLED_SECONDS = 0.2
BELIEVED_SECONDS = 1.0

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who asks, under the name of its token or certificate."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Say whether this is enough for a method that needs ``role``."""
        return ROLES.index(self.role) >= ROLES.index(role)


ANYBODY = Principal("anybody", "admin")


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the file: who holds a token, and the hash of it."""

    principal: Principal
    digest: bytes

    def line(self) -> str:
        """Write it as it stands in the file."""
        return f"{self.principal.name} {self.principal.role} {self.digest.hex()}"


def new_token(name: str, role: str) -> tuple[str, Entry]:
    """Make a token; return it and its line for the file."""
    _check_name(name, repr(name))
    token = PREFIX + secrets.token_urlsafe(32)
    return token, _entry(f"{name} {role} {_hash(token).hex()}", "the token")


def read_entries(text: str, where: str) -> list[Entry]:
    """Read the lines of a token file, or say which of them is wrong."""
    lines = [line.split("#", 1)[0].strip() for line in text.splitlines()]
    return [_entry(line, f"{where}, line {n}") for n, line in enumerate(lines, 1) if line]


class Watch:
    """Tells a file that stands still from one that is being written, by what was seen of it."""

    def __init__(self) -> None:
        self._state: tuple[int, ...] = ()
        self._still_since = 0.0
        self._changing_since = math.inf

    def changing(self, state: tuple[int, ...], *, empty: bool) -> bool:
        """Say whether a file that is now in this state may still be written.

        One that is empty was probably emptied to be written anew, so it is waited for longer.
        """
        now = time.monotonic()
        if state != self._state:
            self._state, self._still_since = state, now
        self._changing_since = min(self._changing_since, now)
        # Counted from the first look, or by the file's own time where nobody looked for long.
        waited = max(now - self._changing_since, abs(time.time() - state[0] / 1e9))
        still = now - self._still_since >= SETTLED_SECONDS and not empty
        if not still and waited < BELIEVED_SECONDS:
            return True
        self._changing_since = math.inf
        return False


class TokenFile:
    """The entries of a file, as it is now."""

    def __init__(self, path: Path) -> None:
        """Read the file; raise when it cannot be used."""
        self._path = path
        self._guard = threading.Lock()
        self._seen: tuple[int, ...] = ()
        self._read_at = 0.0
        self._watch = Watch()
        self._trouble = ""
        try:
            self._entries = read_entries(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"the token file {path} cannot be read: {error}") from error

    def find(self, token: str) -> Principal | None:
        """Return whose token this is. Takes the same time whichever entry it is."""
        given, found = _hash(token), None
        for entry in self._current():
            if hmac.compare_digest(given, entry.digest):
                found = entry.principal
        return found

    def _current(self) -> list[Entry]:
        with self._guard:
            try:
                state = _state(self._path)
                if state != self._seen or time.monotonic() > self._read_at + READ_AGAIN_SECONDS:
                    found = read_entries(self._path.read_text(encoding="utf-8"), self._path.name)
                    if self._watch.changing(_state(self._path), empty=not found):
                        return self._entries + found  # of two lines for a token the later counts
                    self._entries, self._seen, self._read_at = found, state, time.monotonic()
                    self._report("")
            except OSError as error:  # gone, or between its old self and its new one
                if not self._watch.changing(_state(self._path.parent), empty=True):
                    self._entries, self._seen = [], ()
                    self._report(f"{error}; nobody is let in")
            except ValueError as error:  # half written, or wrong: the next look may be better
                self._report(f"{error}; the tokens read before still hold")
            return self._entries

    def _report(self, trouble: str) -> None:
        """Log what is wrong with the file once, and not with every request."""
        if trouble and trouble != self._trouble:
            log.error("the token file cannot be used: %s", trouble)
        self._trouble = trouble


class Access:
    """Lets requests in by their token."""

    def __init__(self, tokens: TokenFile | None) -> None:
        self._tokens = tokens

    def admit(self, context: grpc.ServicerContext, rule: Rule) -> Principal:
        """Return who asks; raise when nobody known does, or somebody who may not do this."""
        if self._tokens is None:
            return _certified(context)
        principal = self._tokens.find(_bearer(context))
        if principal is None:
            raise Unauthenticated("this token is not one of the server's")
        if not principal.may(rule.role):
            raise AccessDenied(
                f"{principal.name} has the role {principal.role}; this takes {rule.role}"
            )
        return principal


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is written, its time first; zeros where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino


def _bearer(context: grpc.ServicerContext) -> str:
    given = dict(context.invocation_metadata()).get(HEADER)
    if given is None:
        raise Unauthenticated(
            "this server wants a token: send the header 'authorization: Bearer TOKEN'"
        )
    scheme, _, token = str(given).partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("the header authorization must be 'Bearer TOKEN'")
    return token.strip()


def _certified(context: grpc.ServicerContext) -> Principal:
    """Return the holder of the client's certificate; without one it is anybody."""
    context_of: Mapping[str, Any] = context.auth_context()
    names = context_of.get("x509_common_name", [])
    return Principal(names[0].decode("utf-8", "replace"), "admin") if names else ANYBODY


def _entry(line: str, where: str) -> Entry:
    parts = line.split()
    if len(parts) != 3:
        raise BadInput(f"{where}: wanted 'NAME ROLE SHA256', got {len(parts)} words")
    name, role, digest = parts
    _check_name(name, where)
    if role not in ROLES:
        raise BadInput(f"{where}: there is no role {role!r}.{hint(role, ROLES)}")
    if not _DIGEST.fullmatch(digest):
        raise BadInput(f"{where}: the hash must be 64 hexadecimal digits")
    return Entry(Principal(name, role), bytes.fromhex(digest))


def _check_name(name: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadInput(f"{where}: a name is 1 to 64 letters, digits, '.', '_', '@' or '-'")


def _hash(token: str) -> bytes:
    # Tokens are drawn at random and long, so a plain hash cannot be turned back by guessing.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
