"""TLS: the server's certificate, read again when its files change, and whom it asks for theirs."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from colreduce.errors import BadInput

log = logging.getLogger(__name__)


class Certificates:
    """A certificate with its key, and the authorities that clients' certificates must be from."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        """Read the files; raise when they cannot be used."""
        self._files = [cert, key, *([client_ca] if client_ca else [])]
        self._client_ca = client_ca
        self._seen = self._state()
        self._trouble = ""
        try:
            self._configuration = self._read()
        except (OSError, ValueError) as error:
            raise BadInput(f"the TLS files cannot be used: {error}", field="tls_cert") from error

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a port is bound with; new connections get the newest certificate."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration,
            self._newer,
            require_client_authentication=self._client_ca is not None,
        )

    def _newer(self) -> Any:
        """Return the certificate if it has changed; gRPC asks before every handshake."""
        seen = self._state()
        if seen == self._seen:
            return None
        try:
            found = self._read()
        except (OSError, ValueError) as error:  # half written: the next handshake looks again
            if str(error) != self._trouble:
                log.error("the TLS files cannot be used, the old ones still hold: %s", error)
            self._trouble = str(error)
            return None
        log.info("the certificate in %s was read again", self._files[0])
        self._seen, self._trouble, self._configuration = seen, "", found
        return found

    def _read(self) -> grpc.ServerCertificateConfiguration:
        cert, key = self._files[0], self._files[1]
        pair = (key.read_bytes(), cert.read_bytes())
        # Python's own TLS checks that the key belongs to the certificate; gRPC only fails later.
        # No password: a key that is locked is an error, and not a question on the terminal.
        with _naming(f"wanted a certificate in {cert} and its key without a password in {key}"):
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
        roots = None
        if self._client_ca is not None:
            roots = self._client_ca.read_bytes()
            with _naming(f"wanted certificates of authorities in {self._client_ca}"):
                ssl.create_default_context(cafile=str(self._client_ca))
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)

    def _state(self) -> list[tuple[int, int, int]]:
        found = []
        for file in self._files:
            try:
                now = file.stat()
            except OSError:
                found.append((0, 0, 0))
                continue
            found.append((now.st_mtime_ns, now.st_size, now.st_ino))
        return found


@contextmanager
def _naming(wanted: str) -> Iterator[None]:
    """Say which files are wrong, and how: TLS's own errors name none."""
    try:
        yield
    except ssl.SSLError as error:
        raise ValueError(f"{wanted}, as PEM: {error.reason or error}") from error
