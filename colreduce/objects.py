"""Files in object storage, named by URLs such as ``s3://bucket/folder/idx.tar``.

fsspec reaches them, with the package that it wants for the kind of storage (s3fs, gcsfs, adlfs).
Who may do what there is a matter of the environment, as for every program that uses these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from colreduce.errors import BadInput, MissingDependency, NotFound, Unavailable

_URL = re.compile(r"[a-z][a-z0-9+.-]+://")


def is_url(place: object) -> bool:
    """Say whether something names an object rather than a file."""
    return isinstance(place, str) and _URL.match(place) is not None


class Objects:
    """What lies below one URL."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            import fsspec
        except ImportError as problem:
            raise MissingDependency(
                f"fsspec is not installed, so {url} cannot be reached: "
                "pip install 'colreduce[storage]'"
            ) from problem
        try:
            self._system, root = fsspec.core.url_to_fs(self.url)
        except ImportError as problem:
            raise MissingDependency(f"{url} cannot be reached: {problem}") from problem
        except ValueError as problem:
            raise BadInput(f"{url} cannot be reached: {problem}", field="url") from problem
        self._root: str = root.rstrip("/")

    def exists(self, name: str = "") -> bool:
        """Say whether there is an object of this name, or one at the URL itself."""
        with self._telling(name):
            return bool(self._system.exists(self._at(name)))

    def put(self, name: str, data: Any) -> None:
        """Write an object of some bytes."""
        with self._telling(name):
            self._system.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
            self._system.pipe_file(self._at(name), bytes(data))

    def get(self, name: str) -> bytes:
        """Read an object."""
        with self._telling(name):
            return bytes(self._system.cat_file(self._at(name)))

    def remove(self, name: str) -> None:
        """Remove an object or a folder with all it holds; nothing if there is none."""
        with self._telling(name):
            if self._system.exists(self._at(name)):
                self._system.rm(self._at(name), recursive=True)

    def upload(self, file: Path) -> None:
        """Copy a file to the URL itself."""
        with self._telling(""):
            self._system.makedirs(self._root.rpartition("/")[0], exist_ok=True)
            self._system.put_file(str(file), self._root)
        arrived, sent = self.size(), file.stat().st_size
        if arrived != sent:
            raise Unavailable(f"{self.url} holds {arrived} bytes of the {sent} that were sent")

    def download(self, file: Path) -> None:
        """Copy what lies at the URL itself into a file."""
        with self._telling(""):
            self._system.get_file(self._root, str(file))

    def size(self) -> int:
        """Return how many bytes lie at the URL itself."""
        with self._telling(""):
            return int(self._system.size(self._root))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        """Say in our words what went wrong, and where."""
        where = f"{self.url}/{name}" if name else self.url
        try:
            yield
        except FileNotFoundError as problem:
            raise NotFound(f"there is nothing at {where}") from problem
        except ImportError as problem:
            raise MissingDependency(f"{where} cannot be reached: {problem}") from problem
        except OSError as problem:
            raise Unavailable(f"{where} cannot be used: {problem}") from problem
