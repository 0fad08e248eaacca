"""Reducers: a ragged batch in, a smaller ragged batch out."""

from __future__ import annotations

from colreduce.reduce.agglomerative import Agglomerative
from colreduce.reduce.base import Reducer
from colreduce.reduce.cover import Cover
from colreduce.reduce.coverage import Coverage
from colreduce.reduce.dart import Dart
from colreduce.reduce.dedupe import Dedupe
from colreduce.reduce.dominance import Dominance
from colreduce.reduce.idf import IdfPerDoc, IdfTypes
from colreduce.reduce.importance import Importance
from colreduce.reduce.kmeans import KMeans
from colreduce.reduce.medoids import Medoids
from colreduce.reduce.norm import Norm
from colreduce.reduce.positions import First, Last, Random, Stride
from colreduce.reduce.spread import KCenter, MaxMin, Mmr
from colreduce.reduce.stopwords import Punctuation, Stopwords
from colreduce.reduce.voronoi import Voronoi
from colreduce.reduce.ward import Ward
from colreduce.reduce.window import Window

REDUCERS: dict[str, type[Reducer]] = {
    "agglomerative": Agglomerative,
    "cover": Cover,
    "coverage": Coverage,
    "dart": Dart,
    "dedupe": Dedupe,
    "dominance": Dominance,
    "first": First,
    "idf_per_doc": IdfPerDoc,
    "idf_types": IdfTypes,
    "importance": Importance,
    "kcenter": KCenter,
    "kmeans": KMeans,
    "last": Last,
    "maxmin": MaxMin,
    "medoids": Medoids,
    "mmr": Mmr,
    "norm": Norm,
    "punctuation": Punctuation,
    "random": Random,
    "stopwords": Stopwords,
    "stride": Stride,
    "voronoi": Voronoi,
    "ward": Ward,
    "window": Window,
}
