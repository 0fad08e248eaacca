"""Block sums that a CUDA device adds up document by document, against those in order of blocks.

Without such a device the same code runs in Triton's interpreter, on CPU (tests/conftest.py).
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from colreduce.fde import FdeConfig, draw, encode, encode_documents
from colreduce.fde.encode import _document_sums, _fused, _grouped
from colreduce.ragged import Ragged
from tests.contract.reducer_samples import documents, weighed

pytest.importorskip("triton", reason="Triton is not installed; pip install 'colreduce[gpu]'")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CONFIG = FdeConfig(dim=16, repetitions=3, bits=4, inner_dim=5)
CONFIGS = [
    CONFIG,
    dataclasses.replace(CONFIG, bits=5, inner_dim=16),
    dataclasses.replace(CONFIG, bits=6, projection="sparse"),
    dataclasses.replace(CONFIG, bits=3, projection="none"),
    dataclasses.replace(CONFIG, bits=0),
    dataclasses.replace(CONFIG, bits=2, fill=False),
]


def near(one: Tensor, other: Tensor, within: float) -> bool:
    return one.shape == other.shape and float((one - other).abs().max()) <= within


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("batch", [documents(), weighed(documents())], ids=["plain", "weighed"])
def test_sums_and_filled_means_are_the_same(batch: Ragged, config: FdeConfig) -> None:
    batch = batch.to(DEVICE)
    state = draw(config, 0)
    wanted = _document_sums(batch, config, state).transpose(0, 1)
    assert near(_fused(batch, config, state, documents=True), wanted, 1e-6)
    wanted = _grouped(batch, config, state).sums(None).transpose(0, 1)
    assert near(_fused(batch, config, state, documents=False), wanted, 1e-5)


def test_a_document_has_the_same_sums_in_every_batch() -> None:
    batch = documents().to(DEVICE)
    state = draw(CONFIG, 0)
    together = _fused(batch, CONFIG, state, documents=True)
    for item in range(len(batch)):
        some = batch.take(slice(item, item + 1))
        assert near(_fused(some, CONFIG, state, documents=True)[0], together[item], 1e-6)


def test_a_processor_puts_tokens_in_order_instead() -> None:
    assert not encode._fuses(documents(), CONFIG)


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="there is no CUDA device")
def test_on_a_device_wide_partitions_are_still_put_in_order() -> None:
    batch = documents().to(DEVICE)
    assert encode._fuses(batch, CONFIG)
    many = dataclasses.replace(CONFIG, bits=8)
    assert not encode._fuses(batch, many)
    here = encode_documents(batch.to("cpu"), many, draw(many, 0))
    assert near(encode_documents(batch, many, draw(many, 0)).cpu(), here, 1e-5)
