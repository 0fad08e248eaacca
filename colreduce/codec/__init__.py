"""Codecs: how vectors lie on disk."""

from __future__ import annotations

from colreduce.codec.base import Codec
from colreduce.codec.binary import Binary
from colreduce.codec.floats import Fp16, Fp32
from colreduce.codec.int4 import Int4
from colreduce.codec.int8 import Int8
from colreduce.codec.pq import Pq
from colreduce.codec.residual import Residual

CODECS: dict[str, type[Codec]] = {
    "fp32": Fp32,
    "fp16": Fp16,
    "int8": Int8,
    "int4": Int4,
    "residual": Residual,
    "pq": Pq,
    "binary": Binary,
}
