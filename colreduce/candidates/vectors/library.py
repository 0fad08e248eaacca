"""FAISS behind a narrow door: found or missed with a clear message, read and written as bytes.

Index files are written through a callback into the store's own checked file, and read in place
from bytes that the store has verified: FAISS itself neither opens files nor notices damage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from colreduce.errors import MissingDependency


def load_faiss() -> Any:
    """Return the module, or say how to install it.

    Both builds of FAISS install into one folder, and removing one can leave that folder behind
    empty: an import then succeeds and finds nothing.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingDependency(_missing("is not installed")) from error
    except (OSError, RuntimeError) as error:
        # The builds for GPUs look for CUDA's libraries when they are imported.
        raise MissingDependency(_missing(f"cannot be loaded ({error})")) from error
    if not hasattr(faiss, "IndexFlatIP"):
        raise MissingDependency(_missing("was half removed: its folder is there and empty"))
    return faiss


def _missing(state: str) -> str:
    return (
        f"this store keeps its vectors in FAISS, which {state}. "
        "Run: pip install 'colreduce[cpu]' (or 'colreduce[gpu]', never both). "
        "The stores flat, fp16 and sq8 work without it."
    )


def written(index: Any) -> Callable[[BinaryIO], None]:
    """Return a function that writes the index to a stream."""

    def write(stream: BinaryIO) -> None:
        faiss = load_faiss()
        failures: list[BaseException] = []

        def checked(data: bytes) -> int:
            # An exception must not unwind through FAISS; it is kept and raised afterwards.
            try:
                stream.write(data)
            except BaseException as error:
                failures.append(error)
                return 0
            return len(data)

        writer = faiss.PyCallbackIOWriter(checked)
        try:
            faiss.write_index(index, writer)
        except RuntimeError:
            if not failures:
                raise
        if failures:
            raise failures[0]

    return write


def read(content: NDArray[np.uint8]) -> Any:
    """Return the index in ``content``. Where it can, it uses the bytes in place.

    The caller keeps ``content`` for as long as the index.
    """
    faiss = load_faiss()
    reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(content), content.size)
    return faiss.read_index(reader)


def serialized(index: Any) -> NDArray[np.uint8]:
    """Return the index as bytes."""
    content: NDArray[np.uint8] = load_faiss().serialize_index(index)
    return content


def emptied(content: NDArray[np.uint8]) -> Any:
    """Return the index in ``content`` without its vectors, in memory of its own.

    What was read in place cannot be emptied nor added to: FAISS would write to those bytes.
    """
    index = load_faiss().deserialize_index(content)
    index.reset()
    return index
