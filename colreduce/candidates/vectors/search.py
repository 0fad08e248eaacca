"""Searching a FAISS index so that filters are kept, ties are settled and enough is returned."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.candidates.base import Check, Found, best, go_on, wanted_rows
from colreduce.candidates.vectors import gpu, library
from colreduce.candidates.vectors.base import Matrix
from colreduce.candidates.vectors.kinds import Kind

# Numbers decoded at a time.
BLOCK_FLOATS = 1 << 22

# Fewer allowed rows than this share are decoded and compared one by one, where the index cannot
# be told which rows to look at, or would lose its way among rows that are not allowed.
FEW = 0.05


class OpenIndex:
    """An index in bytes that somebody else keeps: a file of a segment, or a fitted state."""

    def __init__(self, content: NDArray[np.uint8]) -> None:
        self._content = content  # the index points into it
        self._guard = threading.Lock()
        self.index = library.read(content)
        self.count = int(self.index.ntotal)

    def emptied(self) -> Any:
        """Return a copy without vectors, trained alike."""
        return library.emptied(self._content)

    @property
    def lists(self) -> int:
        """Return how many lists the index has; 0 for an index without."""
        return int(getattr(self.index, "nlist", 0))

    @property
    def movable(self) -> bool:
        """Return whether codes can be taken out and put into an index trained alike."""
        return bool(self.lists) or hasattr(self.index, "codes")

    def decoded(self, rows: NDArray[np.int64]) -> Iterator[Matrix]:
        """Yield the vectors of ``rows`` as far as their codes tell, some at a time."""
        with self._guard:
            if self.lists and self.index.direct_map.no():
                self.index.make_direct_map()
        step = max(BLOCK_FLOATS // int(self.index.d), 1)
        for start in range(0, len(rows), step):
            wanted = np.ascontiguousarray(rows[start : start + step], dtype=np.int64)
            block: Matrix = self.index.reconstruct_batch(wanted)
            yield block

    def move(self, rows: NDArray[np.int64], target: Any) -> None:
        """Append the codes of ``rows``, in their order, to an index that was trained alike."""
        faiss = library.load_faiss()
        if not self.lists:
            size = int(self.index.sa_code_size())
            codes = faiss.rev_swig_ptr(self.index.codes.data(), self.count * size)
            target.add_sa_codes(np.ascontiguousarray(codes.reshape(self.count, size)[rows]))
            return
        renumbered = np.full(self.count, -1, dtype=np.int64)
        renumbered[rows] = int(target.ntotal) + np.arange(len(rows))
        source = self.index.invlists
        for number in range(self.lists):
            length = int(source.list_size(number))
            if not length:
                continue
            ids = renumbered[faiss.rev_swig_ptr(source.get_ids(number), length)]
            codes = faiss.rev_swig_ptr(source.get_codes(number), length * int(source.code_size))
            kept = np.ascontiguousarray(codes.reshape(length, -1)[ids >= 0])
            ids = np.ascontiguousarray(ids[ids >= 0])
            if len(ids):
                target.invlists.add_entries(
                    number, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(kept)
                )
        target.ntotal = int(target.ntotal) + len(rows)


class IndexSearcher:
    """Answers queries from one segment's index."""

    def __init__(self, opened: OpenIndex, kind: Kind, effort: int | None) -> None:
        self._opened = opened
        self._kind = kind
        self._effort = effort or kind.effort or max(opened.lists // 8, 1)

    @cached_property
    def _fast(self) -> Any | None:
        """The index in the form that unfiltered searches take: on a GPU, or packed."""
        moved = gpu.on_gpu(self._opened.index)
        if moved is None and self._kind.pack is not None:
            return self._kind.pack(self._opened.index)
        return moved

    def search(
        self,
        queries: Matrix,
        k: int,
        allowed: NDArray[np.bool_] | None,
        check: Check = go_on,
    ) -> list[Found]:
        """Return up to ``k`` allowed rows for each query; equal scores by row."""
        if allowed is not None and allowed.all():
            allowed = None
        rows = wanted_rows(self._opened.count, allowed)
        few = allowed is not None and len(rows) <= max(FEW * self._opened.count, 1)
        trusted = self._kind.selects and self._kind.efforts != "efSearch"
        if few and not trusted:
            return [self._one_by_one(query, rows, k, check) for query in queries]
        return [self._ask(query[None], k, rows, allowed, check) for query in queries]

    def vectors(self, rows: NDArray[np.int64]) -> Matrix:
        """Return the vectors of some rows as far as their codes tell."""
        return np.concatenate([*self._opened.decoded(rows), self._empty])

    @property
    def _empty(self) -> Matrix:
        return np.empty((0, int(self._opened.index.d)), np.float32)

    def _ask(
        self,
        query: Matrix,
        k: int,
        rows: NDArray[np.int64],
        allowed: NDArray[np.bool_] | None,
        check: Check,
    ) -> Found:
        """Fetch more, or look harder, until ``k`` rows are found and no tie is cut through."""
        count, effort = self._opened.count, self._effort
        wanted = min(k, len(rows))
        # One more than wanted shows whether the last place is a tie.
        fetch = min(wanted + 1, count)
        if allowed is not None and not self._kind.selects:
            fetch = min(int(fetch * 1.2 * count / max(len(rows), 1)) + 1, count)
        while True:
            check()
            scores, found = self._raw(query, fetch, effort, allowed)
            answer = best(*_kept(scores, found, allowed), k)
            enough = len(answer.rows) >= wanted
            if enough and (len(found) < fetch or scores.min() < answer.scores[-1]):
                return answer
            if fetch < count and len(found) == fetch:
                fetch = min(2 * fetch, count)
            elif not enough and effort < self._opened.lists:
                effort = min(4 * effort, self._opened.lists)
            elif not enough and allowed is not None:
                return self._one_by_one(query[0], rows, k, check)
            else:
                return answer

    def _raw(
        self, query: Matrix, fetch: int, effort: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[Matrix, NDArray[np.int64]]:
        """Ask FAISS for ``fetch`` rows, allowed ones where it can be told; drop its blanks."""
        told = allowed if self._kind.selects else None
        parameters = self._parameters(told, effort, fetch)
        most = self._opened.count if self._kind.pack is not None else gpu.MOST
        if told is None and self._fast is not None and max(fetch, effort) <= most:
            scores, rows = _unblanked(self._fast.search(query, fetch, params=parameters))
            # Packed PQ codes sometimes come back as blanks when scores are equal, and rows of the
            # least possible score never come at all (FAISS 1.15). Nothing else was seen to go
            # wrong, so blanks are the sign to ask the codes themselves.
            if self._kind.pack is None or len(rows) == fetch:
                return scores, rows
        return _unblanked(self._opened.index.search(query, fetch, params=parameters))

    def _parameters(self, told: NDArray[np.bool_] | None, effort: int, fetch: int) -> Any | None:
        faiss = library.load_faiss()
        given: dict[str, Any] = {}
        if told is not None:
            given["sel"] = faiss.IDSelectorBitmap(np.packbits(told, bitorder="little"))
        if self._kind.efforts == "nprobe":
            return faiss.SearchParametersIVF(nprobe=min(effort, self._opened.lists), **given)
        if self._kind.efforts == "efSearch":
            return faiss.SearchParametersHNSW(efSearch=max(effort, 2 * fetch), **given)
        return faiss.SearchParameters(**given) if given else None

    def _one_by_one(self, query: Matrix, rows: NDArray[np.int64], k: int, check: Check) -> Found:
        """Decode some rows and compare them all."""
        scores = []
        for block in self._opened.decoded(rows):
            check()
            scores.append(block @ query)
        return best(np.concatenate(scores) if scores else np.zeros(0, np.float32), rows, k)


def _unblanked(answer: tuple[Matrix, NDArray[np.int64]]) -> tuple[Matrix, NDArray[np.int64]]:
    """Return one query's scores and rows without the places that FAISS could not fill."""
    scores, rows = answer
    real = rows[0] >= 0
    return scores[0][real], rows[0][real]


def _kept(
    scores: Matrix, rows: NDArray[np.int64], allowed: NDArray[np.bool_] | None
) -> tuple[Matrix, NDArray[np.int64]]:
    if allowed is None:
        return scores, rows
    keep = allowed[rows]
    return scores[keep], rows[keep]
