"""Peers side by side: same vectors, same queries, same machine, same run.

    python -m benchmarks.peers                      SciFact and NFCorpus, then the page's table
    python -m benchmarks.peers --dataset cranfield  the quick trial
    python -m benchmarks.peers --peer qdrant        only rows whose name holds that word
    python -m benchmarks.peers --again              measure rows that are there already, too
    python -m benchmarks.peers --report             only write the table and the picture again

Each peer runs in an environment of its own, made in the cache folder (COLREDUCE_CACHE) the first
time; those with torch take 5 GB each. A row is kept in ``benchmarks/results/peers-DATASET.json`` as
soon as it is measured, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from benchmarks import common
from benchmarks.peers.environments import CannotInstall
from benchmarks.peers.measure import Failed, measure
from benchmarks.peers.report import write_report
from benchmarks.peers.table import PEERS, Peer
from benchmarks.peers.vectors import Given, given

DATASETS = ("scifact", "nfcorpus")


def main(arguments: list[str]) -> int:
    """Measure what is asked for and not measured yet; write the report."""
    told = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    told.add_argument("--dataset", action="append", default=[])
    told.add_argument("--peer", action="append", default=[])
    told.add_argument("--again", action="store_true")
    told.add_argument("--report", action="store_true")
    told.add_argument("--limit-minutes", type=float, default=40.0)
    asked = told.parse_args(arguments)
    for name in [] if asked.report else asked.dataset or DATASETS:
        _run(name, [word.lower() for word in asked.peer], asked.again, 60 * asked.limit_minutes)
    write_report()
    return 0


def _run(name: str, words: list[str], again: bool, limit: float) -> None:
    vectors = given(name)
    content = common.load(f"peers-{name}") or {"dataset": name, "rows": []}
    content |= {
        "documents": len(vectors),
        "queries": len(vectors.query_ids),
        "tokens_per_doc": vectors.tokens / len(vectors),
        "machine": common.machine(),
    }
    chosen = [p for p in PEERS if not words or any(word in p.name.lower() for word in words)]
    for peer in chosen:
        asked = {"peer": peer.name, "settings": peer.settings, "needs": list(peer.needs)}
        if not again and any(row | asked == row for row in content["rows"]):
            continue
        sys.stderr.write(f"{name}: {peer.name}\n")
        row = {**asked, **_row(peer, vectors, limit), "commit": common.commit()}
        others = [one for one in content["rows"] if one["peer"] != peer.name]
        order = [one.name for one in PEERS]
        content["rows"] = sorted(
            [row, *(one for one in others if one["peer"] in order)],
            key=lambda one: order.index(one["peer"]),
        )
        common.save(f"peers-{name}", content)


def _row(peer: Peer, vectors: Given, limit: float) -> dict[str, Any]:
    if peer.missing:
        return {"failed": peer.missing}
    try:
        return measure(peer, vectors, limit)
    except (CannotInstall, Failed) as reason:
        return {"failed": str(reason)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
