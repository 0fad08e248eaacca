"""Query reducers: a query's vectors in, fewer out. Off unless a recipe names one."""

from __future__ import annotations

from colreduce.query.balls import QueryBalls
from colreduce.query.base import QueryReducer
from colreduce.query.kmeans import QueryKMeans
from colreduce.query.top import QueryTop

QUERY_REDUCERS: dict[str, type[QueryReducer]] = {
    "query_balls": QueryBalls,
    "query_kmeans": QueryKMeans,
    "query_top": QueryTop,
}
