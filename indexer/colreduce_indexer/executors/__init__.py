"""Who makes the pieces of a build: this process, several on this machine, or actors of Ray.

All of them make the same bytes, because a piece follows from the job and from the documents in it
alone. All of them may make a piece twice: whoever holds the index keeps the first and drops the
second.
"""

from __future__ import annotations

from colreduce.cluster import require_reachable
from colreduce.errors import BadInput
from colreduce_indexer.executors.base import Executor, Job, Made
from colreduce_indexer.executors.inline import Inline
from colreduce_indexer.executors.on_ray import OnRay
from colreduce_indexer.executors.processes import Processes

__all__ = ["Executor", "Inline", "Job", "Made", "OnRay", "Processes", "chosen"]


def chosen(
    workers: int, ray: str, gpus: float, device: str = "auto", exchange: str = ""
) -> Executor:
    """Return who makes the pieces.

    workers   how many processes or actors; 0 for this process, or for as many actors as have room
    ray       the address of a cluster, or ``local`` for one on this machine; nothing for no Ray
    gpus      the share of a GPU that each actor takes
    device    where others load the model
    exchange  the URL of object storage that actors leave finished pieces in
    """
    if exchange and not ray:
        raise BadInput("pieces go through object storage from a cluster only: give --ray, too")
    if ray:
        require_reachable(ray)
        return OnRay(ray, workers, gpus, device, exchange)
    return Processes(workers, device) if workers else Inline()
