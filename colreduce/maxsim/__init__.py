"""Exact late-interaction scores: the sum over query tokens of the best similarity in a document.

`maxsim` scores packed documents, `maxsim_many` a batch of queries, and `maxsim_codes` anything that
can give its products block by block, such as a codec that multiplies what it stored. All of them
work in blocks whose similarities stay in or near the cache. `segment_max` is their common part:
the largest value of each document's run, which is exact whatever way it is found.

On a CUDA device where Triton is installed `maxsim` and `maxsim_many` take one pass over the vectors
that keeps the similarities on the chip (`colreduce.maxsim.triton_kernels`), and so does
`maxsim_stored` for rows as codecs store them. `backend` says which way a device goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colreduce.device import has_triton
from colreduce.native import has_numba, kernels
from colreduce.ragged import Ragged

if TYPE_CHECKING:
    from types import ModuleType

    from colreduce.maxsim.triton_stream import Layout

# Numbers of tokens, or similarities, held at a time on CPU: 2 MB.
BLOCK_NUMBERS = 1 << 19
# Fewer similarities than this are not worth loading a compiled kernel for.
WORTH_COMPILING = 1 << 16

# The products of the query's vectors with a run of stored vectors: [q, stop - start].
Products: TypeAlias = Callable[[slice], Tensor]


def maxsim(query: Tensor, tokens: Tensor, lengths: Tensor, block: int | None = None) -> Tensor:
    """Score one query against packed documents.

    query   [q, d]  any float type
    tokens  [t, d]  document vectors end to end; any float type, scored in float32
    lengths [n]     int64, tokens per document
    block           how many document tokens are scored at a time, whole documents at least
    returns [n]     float32
    """
    if block is None and _fuses(query, tokens):
        return maxsim_stored(query, tokens, lengths)
    return maxsim_codes(_products(query, tokens), lengths, _block(block, len(query), tokens))


def maxsim_stored(
    query: Tensor,
    tokens: Tensor,
    lengths: Tensor,
    scales: Tensor | None = None,
    cut: Layout | None = None,
) -> Tensor:
    """Score one query in one pass over rows on a device whose `backend` is triton: [n] float32.

    tokens [t, d]  float32, float16, bfloat16 or int8
    scales [t]     what each row is multiplied by, above 0; None for nothing
    cut            what `layout` says of the lengths, for those who ask many queries
    """
    one = torch.full((1,), len(query), device=tokens.device)
    scores: Tensor = _fused().maxsim_packed(query, one, tokens, lengths, scales, cut=cut)[0]
    return scores


def layout(lengths: Tensor) -> Layout:
    """Find out once for many queries how documents on a CUDA device are cut up: see triton."""
    found: Layout = _fused().layout(lengths)
    return found


def maxsim_many(
    queries: Ragged, tokens: Tensor, lengths: Tensor, block: int | None = None
) -> Tensor:
    """Score a batch of queries against packed documents: [queries, n] float32."""
    if block is None and _fuses(queries.tokens, tokens):
        found: Tensor = _fused().maxsim_packed(queries.tokens, queries.lengths, tokens, lengths)
        return found
    block = _block(block, len(queries.tokens), tokens)
    products = _products(queries.tokens, tokens)
    scores = [_sum_runs(best, queries.lengths) for best in _best_by_block(products, lengths, block)]
    return torch.cat(scores, 1) if scores else tokens.new_zeros(len(queries), 0).float()


def maxsim_codes(products: Products, lengths: Tensor, block: int) -> Tensor:
    """Score one query against documents whose products with it are asked for block by block.

    products       gives the similarities [q, stop - start] of a run of stored vectors
    lengths [n]    int64, vectors per document, where the scores are wanted
    block          how many vectors are asked for at a time, whole documents at least
    returns [n]    float32
    """
    scores = [best.sum(0) for best in _best_by_block(products, lengths, block)]
    return torch.cat(scores) if scores else torch.zeros(0, device=lengths.device)


def segment_max(similarities: Tensor, lengths: Tensor) -> Tensor:
    """Return the largest value of each document's run of columns.

    similarities [q, t]  float32, one column per document token; fastest when it is the transpose
                         of a contiguous [t, q], but any layout will do
    lengths      [n]     int64, tokens per document; none is 0
    returns      [q, n]
    """
    queries, documents = similarities.shape[0], len(lengths)
    if documents == 0:
        return similarities.new_zeros(queries, 0)
    longest = int(lengths[0])
    if bool((lengths == longest).all()):
        if similarities.stride(0) == 1:
            # torch is 30 times slower when the same numbers are looked at from the other side.
            return similarities.T.unflatten(0, (documents, longest)).amax(1).T
        return similarities.unflatten(1, (documents, longest)).amax(2)
    if similarities.device.type != "cpu":
        items = torch.arange(documents, device=lengths.device)
        owner = torch.repeat_interleave(items, lengths, output_size=similarities.shape[1])
        best = similarities.new_full((queries, documents), -torch.inf)
        return best.scatter_reduce_(1, owner.expand(queries, -1), similarities, "amax")
    return _ragged_max(similarities, lengths)


def bfloat16_runs_max(rows: Tensor, lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the largest value per column of each document's rows, on CPU: [n, q].

    rows [t, q]  bfloat16, contiguous; it takes what `has_numba` speaks of
    """
    best = rows.new_empty(len(lengths), rows.shape[1])
    bits = rows.view(torch.int16).numpy(), best.view(torch.int16).numpy()
    kernels().row_runs_max_bfloat16(bits[0], np.cumsum(lengths), bits[1])
    return np.asarray(best.float().numpy())


def _ragged_max(similarities: Tensor, lengths: Tensor) -> Tensor:
    """Find the largest value of runs that differ in length, on CPU."""
    ends = lengths.cumsum(0).numpy()
    rows = similarities.T
    if rows.is_contiguous() and similarities.numel() >= WORTH_COMPILING and has_numba():
        best = rows.new_empty(len(lengths), len(similarities))
        kernels().row_runs_max(rows.numpy(), ends, best.numpy())
        return best.T
    columns = similarities.contiguous().numpy()
    starts = ends - lengths.numpy()
    return torch.from_numpy(np.maximum.reduceat(columns, starts, axis=1))


def backend(device: torch.device | str) -> str:
    """Say what scores whole documents on a device: triton in one pass, or torch in blocks."""
    return "triton" if torch.device(device).type == "cuda" and has_triton() else "torch"


@cache
def _fused() -> ModuleType:
    """Load the kernel for CUDA devices, once it is needed."""
    from colreduce.maxsim import triton_kernels

    return triton_kernels


def _fuses(query: Tensor, tokens: Tensor) -> bool:
    """Say whether these vectors are scored in one pass, which knows no gradients."""
    if tokens.device.type != "cuda" or backend(tokens.device) != "triton":
        return False
    learns = torch.is_grad_enabled() and (query.requires_grad or tokens.requires_grad)
    return tokens.dtype in _fused().SHAPES and not learns


def _products(query: Tensor, tokens: Tensor) -> Products:
    """Return a function that multiplies runs of tokens with a query in float32."""
    columns = query.float().T.contiguous()

    def products(run: slice) -> Tensor:
        # Token by token, because then both the product and the maximum are faster.
        return (tokens[run].float() @ columns).T

    return products


def _best_by_block(products: Products, lengths: Tensor, block: int) -> Iterator[Tensor]:
    """Yield the best similarities [q, documents] of one run of whole documents after the other."""
    ends = lengths.cumsum(0).cpu().numpy()
    first = start = 0
    while first < len(ends):
        last = max(int(np.searchsorted(ends, start + block, "right")), first + 1)
        stop = int(ends[last - 1])
        yield segment_max(products(slice(start, stop)), lengths[first:last])
        first, start = last, stop


def _block(asked: int | None, queries: int, tokens: Tensor) -> int:
    """Return how many tokens are scored at a time: as asked, or so that the cache holds them."""
    if asked is not None:
        return asked
    room = BLOCK_NUMBERS if tokens.device.type == "cpu" else 256 * BLOCK_NUMBERS
    # Tokens of another type have to be widened first, and that should not leave the cache.
    widened = 1 if tokens.dtype == torch.float32 else tokens.shape[1]
    return max(1024, room // max(queries, widened))


def _sum_runs(best: Tensor, lengths: Tensor) -> Tensor:
    """Add up the rows of each query: [tokens of all queries, n] -> [queries, n]."""
    first = int(lengths[0])
    if bool((lengths == first).all()):
        return best.unflatten(0, (len(lengths), first)).sum(1)
    return torch.segment_reduce(best.contiguous(), "sum", lengths=lengths, axis=0, unsafe=True)
