"""The comparison with peers measures what an adapter really did."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.peers import measure as measuring
from benchmarks.peers.environments import interpreter
from benchmarks.peers.table import PEERS, Peer
from benchmarks.peers.vectors import Given
from tests.reference.maxsim import maxsim as slow_maxsim
from tests.unit.test_index import documents

COUNT, QUERIES = 60, 6


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Given:
    folder = tmp_path_factory.mktemp("vectors")
    items, queries = documents(COUNT), [one[:5] for one in documents(QUERIES, seed=9)]
    for name, some in (("documents", items), ("queries", queries)):
        lengths = torch.tensor([len(one) for one in some])
        file = folder / f"{name}.safetensors"
        save_file({"vectors": torch.cat(some), "lengths": lengths}, file)
    scores = [[slow_maxsim(q.numpy(), one.numpy()) for one in items] for q in queries]
    exact = np.argsort(-np.array(scores), axis=1)[:, :10].tolist()
    return Given(
        folder=folder,
        ids=[f"d{row}" for row in range(COUNT)],
        query_ids=[f"q{number}" for number in range(QUERIES)],
        qrels={f"q{number}": {f"d{best[0]}": 1} for number, best in enumerate(exact)},
        exact=exact,
        tokens=sum(len(one) for one in items),
    )


@pytest.mark.parametrize(
    "peer",
    [
        Peer("torch", "with_torch"),
        Peer("colreduce", "with_colreduce", settings={"recipe": "exact"}),
    ],
    ids=lambda peer: peer.name,
)
def test_an_exhaustive_peer_agrees_with_the_definition_of_maxsim(peer, given):
    row = measuring.measure(peer, given, 120)
    assert row["agreement@10"] == 1
    assert row["nDCG@10"] == 1
    # Sixteen float32 numbers a vector, and no more than a few headers and checksums beside them.
    vectors = given.tokens * 16 * 4 / COUNT
    assert vectors <= row["bytes_per_doc"] < vectors + 400
    assert 0 < row["p50_ms"] <= row["p95_ms"]
    # A process that has imported torch holds more than 50 MB and less than all there is.
    assert 50 < row["peak_search_mb"] < 4000


def test_a_peer_that_fails_says_in_which_step_and_why(given):
    broken = Peer("broken", "with_colreduce", settings={"recipe": "wart"})
    with pytest.raises(measuring.Failed, match=r"build: .*wart.*ward"):
        measuring.measure(broken, given, 120)


def test_a_peer_that_takes_too_long_is_ended(given):
    with pytest.raises(measuring.Failed, match="longer than"):
        measuring.measure(Peer("slow", "with_torch"), given, 0.01)


def test_every_peer_has_an_adapter_and_pinned_packages_or_a_reason():
    for peer in PEERS:
        assert bool(peer.missing) != bool(peer.adapter)
        if peer.adapter:
            assert (measuring.ADAPTERS / f"{peer.adapter}.py").is_file()
        assert all(need.count("==") == 1 for need in peer.needs)
        assert bool(peer.needs) == bool(peer.environment)
    assert interpreter(PEERS[0]) == Path(sys.executable)
    environments: dict[str, set[tuple[str, ...]]] = {}
    for peer in PEERS:
        environments.setdefault(peer.environment, set()).add(peer.needs)
    assert all(len(needs) == 1 for needs in environments.values())
