"""Reducers: a ragged batch in, a smaller ragged batch out."""

from __future__ import annotations

from colreduce.reduce.agglomerative import Agglomerative
from colreduce.reduce.background import Background
from colreduce.reduce.base import Reducer
from colreduce.reduce.cover import Cover
from colreduce.reduce.coverage import Coverage
from colreduce.reduce.dart import Dart
from colreduce.reduce.dedupe import Dedupe
from colreduce.reduce.dominance import Dominance
from colreduce.reduce.grid import Grid
from colreduce.reduce.idf import IdfPerDoc, IdfTypes
from colreduce.reduce.importance import Importance
from colreduce.reduce.kmeans import KMeans
from colreduce.reduce.markers import Markers
from colreduce.reduce.medoids import Medoids
from colreduce.reduce.norm import Norm
from colreduce.reduce.pitome import PiToMe
from colreduce.reduce.positions import First, Last, Random, Stride
from colreduce.reduce.spectral import Spectral
from colreduce.reduce.spread import KCenter, MaxMin, Mmr
from colreduce.reduce.stopwords import Punctuation, Stopwords
from colreduce.reduce.tome import ToMe
from colreduce.reduce.visionzip import VisionZip
from colreduce.reduce.voronoi import Voronoi
from colreduce.reduce.ward import Ward
from colreduce.reduce.weighted import WeightedKMeans, WeightedMedoids
from colreduce.reduce.window import Window
from colreduce.reduce.words import Words

REDUCERS: dict[str, type[Reducer]] = {
    "agglomerative": Agglomerative,
    "background": Background,
    "cover": Cover,
    "coverage": Coverage,
    "dart": Dart,
    "dedupe": Dedupe,
    "dominance": Dominance,
    "first": First,
    "grid": Grid,
    "idf_per_doc": IdfPerDoc,
    "idf_types": IdfTypes,
    "importance": Importance,
    "kcenter": KCenter,
    "kmeans": KMeans,
    "last": Last,
    "markers": Markers,
    "maxmin": MaxMin,
    "medoids": Medoids,
    "mmr": Mmr,
    "norm": Norm,
    "pitome": PiToMe,
    "punctuation": Punctuation,
    "random": Random,
    "spectral": Spectral,
    "stopwords": Stopwords,
    "stride": Stride,
    "tome": ToMe,
    "visionzip": VisionZip,
    "voronoi": Voronoi,
    "ward": Ward,
    "weighted_kmeans": WeightedKMeans,
    "weighted_medoids": WeightedMedoids,
    "window": Window,
    "words": Words,
}
