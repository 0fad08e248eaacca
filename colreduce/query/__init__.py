"""Query reducers: a query's vectors in, fewer out. Off unless a recipe names one."""

from __future__ import annotations

from colreduce.query.base import QueryReducer

QUERY_REDUCERS: dict[str, type[QueryReducer]] = {}
