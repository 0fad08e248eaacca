"""Certificates for tests, made with the program openssl; without it these tests are skipped."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("no program openssl")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.root = self._key(name)
        _openssl(
            *("req", "-x509", "-new", "-key", self.root.key, "-days", "30", "-subj", f"/CN={name}"),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-out", self.root.cert),
        )

    def sign(self, name: str, *, host: str = "localhost", days: int = 30) -> Pair:
        """Make a certificate for a name and a host; below zero ``days`` it has run out."""
        made = self._key(name)
        request, extensions = made.key.with_suffix(".csr"), made.key.with_suffix(".ext")
        _openssl("req", "-new", "-key", made.key, "-subj", f"/CN={name}", "-out", request)
        extensions.write_text(f"subjectAltName=DNS:{host},IP:127.0.0.1\n" if host else "")
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.root.cert, "-CAkey", self.root.key),
            *("-CAcreateserial", "-days", days, "-extfile", extensions, "-out", made.cert),
        )
        return made

    def _key(self, name: str) -> Pair:
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", pair.key)
        return pair


def _openssl(*arguments: object) -> None:
    command = ["openssl", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
