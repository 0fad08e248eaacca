"""Threads for connections of HTTP, and an end to how many there are."""

from __future__ import annotations

import threading
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any

# Connections that may be open; each holds a thread, idle ones for as long as the other side likes.
MOST = 64

TURNED_AWAY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Bounded(ThreadingMixIn):
    """Answers every connection in a thread of its own, and turns away those beyond ``MOST``."""

    daemon_threads = True
    # So many may wait to be let in or turned away: the usual 5 lose some who come at once.
    request_queue_size = MOST

    def __init__(self, *address_and_handler: Any) -> None:
        self._free = threading.BoundedSemaphore(MOST)
        super().__init__(*address_and_handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin to answer a connection, if there is a place for it."""
        if not self._free.acquire(blocking=False):
            with suppress(OSError):
                request.sendall(TURNED_AWAY)
            self.shutdown_request(request)  # type: ignore[attr-defined]
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Give the place back when the connection ends."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()
