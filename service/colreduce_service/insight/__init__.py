"""Looking into a server that runs: metrics, what its first stages miss, requests as log, traces.

Each of these is told of every request when it is over. None of them may break a request, and all
are off until a setting asks for them.
"""

from __future__ import annotations

from colreduce_service.insight.observers import Observer, Observers

__all__ = ["Observer", "Observers"]
