"""Codecs: how vectors lie on disk."""

from __future__ import annotations

from colreduce.codec.base import Codec
from colreduce.codec.floats import Fp16, Fp32
from colreduce.codec.int8 import Int8

CODECS: dict[str, type[Codec]] = {
    "fp32": Fp32,
    "fp16": Fp16,
    "int8": Int8,
}
