"""Who is compared: one row each, with its adapter, its packages and its settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Peer:
    """One row of the comparison.

    needs    packages with their versions, installed into an environment of their own; without
             any, the adapter runs where this program runs
    missing  why it cannot run anywhere here; such a row has no adapter
    """

    name: str
    adapter: str = ""
    environment: str = ""
    needs: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    missing: str = ""


# Voyager 2.2 does not take the lists that PyLate 1.6 hands it; 2.1 does.
PYLATE = ("pylate==1.6.0", "fast-plaid==1.4.6.2110", "voyager==2.1.0", "scann==1.4.2")


def ours(name: str, recipe: str) -> Peer:
    """Return a row for colreduce by a recipe."""
    return Peer(f"colreduce {name}", "with_colreduce", settings={"recipe": recipe})


PEERS = (
    Peer("exhaustive torch", "with_torch"),
    Peer("BM25 (bm25s)", "with_bm25"),
    ours("balanced", "balanced"),
    ours("small", "small"),
    ours("tiny", "tiny"),
    # Chosen on Cranfield: PLAID's quality at a quarter of its bytes, and what a tenth can do.
    ours("quarter", "ward(factor=2) | pq(parts=32) | mean(store=sq8) | maxsim(candidates=500)"),
    ours("tenth", "ward(factor=5) | pq(parts=32) | mean(store=sq8) | maxsim(candidates=500)"),
    Peer(
        "fast-plaid 4 bit",
        "with_fast_plaid",
        "fast-plaid",
        ("fast-plaid==1.7.0.2110",),
        {"create": {"nbits": 4}},
    ),
    Peer(
        "fast-plaid 2 bit",
        "with_fast_plaid",
        "fast-plaid",
        ("fast-plaid==1.7.0.2110",),
        {"create": {"nbits": 2}},
    ),
    Peer("PyLate PLAID", "with_pylate", "pylate", PYLATE, {"index": "PLAID"}),
    Peer("PyLate Voyager", "with_pylate", "pylate", PYLATE, {"index": "Voyager"}),
    Peer("PyLate ScaNN", "with_pylate", "pylate", PYLATE, {"index": "ScaNN"}),
    Peer(
        "fastembed MUVERA + exact",
        "with_fastembed",
        "fastembed",
        ("fastembed==0.9.1",),
        {"candidates": 500},
    ),
    Peer("Qdrant local mode", "with_qdrant", "qdrant", ("qdrant-client==1.20.0",)),
    Peer(
        "next-plaid",
        missing="its server is published as a Rust crate and a container image; PyPI has only its "
        "client (next-plaid-client 1.8.5), which needs that server",
    ),
)
