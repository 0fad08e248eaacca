"""A build on Ray ends as one on a single process does, whatever happens to its actors."""

import importlib.util
import json

import pytest

from tests.reliability.on_ray import alone
from tests.service.tiers import note, size

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: the extra [ray]"
)


@needs_ray
@pytest.mark.timeout(900)  # a minute on two free cores
def test_one_process_one_machine_and_two_nodes_build_the_same_under_kills_and_with_all_done_twice():
    kills = size(2, 20)
    # Where a build was over before it could be hit, nothing was tried: it is done once more.
    for _ in range(2):
        done = alone("tests.reliability.on_ray", "--kills", str(kills))
        assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
        figures = json.loads(done.stdout.splitlines()[-1])
        if figures["kills"] == kills:
            break
    note("P21", "actors of Ray", **figures)
    assert figures["failures"] == []
    assert set(figures["builds"]) == {
        "alone",
        "two nodes",
        "through storage",
        "killed",
        "twice",
        "one node lost",
        "local",
    }
    assert len(set(figures["builds"].values())) == 1
    assert figures["nodes"] == 2
    assert figures["kills"] == kills
    assert 1 <= figures["again"] <= kills + 2
    assert figures["doubled"] > 10
