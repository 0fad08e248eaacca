"""The console's web server: one page, and a few methods that take JSON in place of messages."""

from __future__ import annotations

import json
import logging
import secrets
import tempfile
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import resources
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message

from colreduce.errors import AlreadyExists
from colreduce.rpc.v1 import admin_pb2, search_pb2
from colreduce_service.addresses import is_loopback
from colreduce_service.connections import Bounded

log = logging.getLogger(__name__)

# What the page may ask, with the messages of each.
METHODS: dict[str, tuple[str, type[Message], type[Message]]] = {
    "list": ("Admin/ListCollections", admin_pb2.ListCollectionsRequest,
             admin_pb2.ListCollectionsResponse),
    "describe": ("Admin/Describe", admin_pb2.DescribeRequest, admin_pb2.DescribeResponse),
    "search": ("Search/Search", search_pb2.SearchRequest, search_pb2.SearchResponse),
    "get": ("Search/Get", search_pb2.GetRequest, search_pb2.GetResponse),
    "explain": ("Search/Explain", search_pb2.ExplainRequest, search_pb2.ExplainResponse),
}  # fmt: skip

# A question is small; a page is looked at by few.
MOST_BYTES = 64 << 10
MOST_AT_ONCE = 16
SECONDS = 30.0

# What a status of gRPC is called in HTTP, as far as browsers care.
STATUS = {
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Console:
    """Listens on an address of its own, and asks the server by gRPC."""

    def __init__(self, host: str, port: int, bind: Callable[[str], int]) -> None:
        """``bind`` lets the server listen on one more address, for this process alone."""
        self._folder = tempfile.TemporaryDirectory(prefix="colreduce-console-")
        inside = f"unix:{self._folder.name}/socket"
        bind(inside)
        self._channel = grpc.insecure_channel(inside)
        places = threading.BoundedSemaphore(MOST_AT_ONCE)
        channel = self._channel

        class Handler(_Handler):
            ask = staticmethod(lambda name, body, token: _ask(channel, name, body, token))
            free = places

        try:
            self._server = _Server((host.strip("[]"), port), Handler)
        except OSError as error:
            self._channel.close()
            self._folder.cleanup()
            why = error.strerror or error
            raise AlreadyExists(f"cannot listen for the console on {host}:{port}: {why}") from error
        self.listening = f"{host}:{self._server.server_port}"
        if is_loopback(host):
            Handler.hosts = frozenset({self.listening, f"localhost:{self._server.server_port}"})
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="console", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._channel.close()
        self._folder.cleanup()


class _Server(Bounded, HTTPServer):
    """Answers browsers."""


class _Refused(Exception):
    """A question that is answered with an error of HTTP."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


def _ask(channel: grpc.Channel, name: str, body: bytes, token: str) -> dict[str, Any]:
    """Call a method with JSON for a message, and return the answer as plain values."""
    if name not in METHODS:
        raise _Refused(HTTPStatus.NOT_FOUND, f"the console has no {name!r}")
    method, request, response = METHODS[name]
    try:
        message = json_format.Parse(body or b"{}", request())
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise _Refused(HTTPStatus.BAD_REQUEST, str(error)) from error
    except RecursionError as error:
        raise _Refused(HTTPStatus.BAD_REQUEST, "the question nests too deep") from error
    if not (token.isascii() and token.isprintable()):
        raise _Refused(HTTPStatus.UNAUTHORIZED, "the token holds what no token can")
    call = channel.unary_unary(
        f"/colreduce.rpc.v1.{method}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    try:
        shown = (("authorization", token),) if token else ()
        answer = call(message, timeout=SECONDS, metadata=shown)
    except grpc.RpcError as error:
        status = STATUS.get(error.code(), HTTPStatus.INTERNAL_SERVER_ERROR)
        raise _Refused(status, error.details() or error.code().name) from error
    plain: dict[str, Any] = json_format.MessageToDict(
        answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return plain


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "colreduce"
    sys_version = ""
    timeout = SECONDS
    hosts: frozenset[str] = frozenset()
    ask: Any
    free: threading.BoundedSemaphore

    def do_GET(self) -> None:
        """Give out the page."""
        if not self._right_host():
            return
        if self.path != "/":
            self._say(HTTPStatus.NOT_FOUND, {"error": "there is only one page: /"})
            return
        nonce = secrets.token_urlsafe(16)
        page = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        self._send(
            HTTPStatus.OK,
            "text/html; charset=utf-8",
            page.replace("NONCE", nonce).encode(),
            {"Content-Security-Policy": policy},
        )

    def do_POST(self) -> None:
        """Answer a question of the page."""
        # What is refused before its body was read ends the connection: the body is no next request.
        ends, self.close_connection = self.close_connection, True
        if not self._right_host():
            return
        if not self.free.acquire(blocking=False):
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "too many at once: try again"})
            return
        try:
            # A form of another site can be sent here by a browser, but not with this type.
            if self.headers.get_content_type() != "application/json":
                raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "wanted application/json")
            size = self.headers.get("Content-Length", "")
            if not size.isdecimal() or int(size) > MOST_BYTES:
                raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MOST_BYTES} bytes")
            body = self.rfile.read(int(size))
            self.close_connection = ends
            name = self.path.removeprefix("/api/")
            self._say(HTTPStatus.OK, self.ask(name, body, self.headers.get("Authorization", "")))
        except _Refused as refused:
            self._say(refused.status, {"error": str(refused)})
        finally:
            self.free.release()

    def _right_host(self) -> bool:
        """Refuse names that only look as if they led here (DNS rebinding)."""
        host = self.headers.get("Host", "")
        if self.hosts and host not in self.hosts:
            self.close_connection = True
            self._say(HTTPStatus.MISDIRECTED_REQUEST, {"error": f"this is not {host}"})
            return False
        return True

    def _say(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(content).encode(), {})

    def _send(self, status: HTTPStatus, kind: str, data: bytes, more: dict[str, str]) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            **({"Connection": "close"} if self.close_connection else {}),
            **more,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *words: Any) -> None:
        """Log to the program's log in place of stderr."""
        log.debug(format, *words)
