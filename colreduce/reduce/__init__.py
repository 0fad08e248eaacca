"""Reducers: a ragged batch in, a smaller ragged batch out."""

from __future__ import annotations

from colreduce.reduce.base import Reducer
from colreduce.reduce.dedupe import Dedupe
from colreduce.reduce.idf import IdfPerDoc, IdfTypes
from colreduce.reduce.norm import Norm
from colreduce.reduce.positions import First, Last, Random, Stride
from colreduce.reduce.stopwords import Punctuation, Stopwords
from colreduce.reduce.ward import Ward
from colreduce.reduce.window import Window

REDUCERS: dict[str, type[Reducer]] = {
    "dedupe": Dedupe,
    "first": First,
    "idf_per_doc": IdfPerDoc,
    "idf_types": IdfTypes,
    "last": Last,
    "norm": Norm,
    "punctuation": Punctuation,
    "random": Random,
    "stopwords": Stopwords,
    "stride": Stride,
    "ward": Ward,
    "window": Window,
}
