"""Replicas on Ray may die: nobody notices where there are two, and else the answer says so."""

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
def test_a_killed_replica_costs_no_query_where_there_are_two_and_else_the_answer_is_partial():
    kills = size(2, 20)
    done = alone("tests.service.shards_on_ray", "--kills", str(kills))
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    told = json.loads(done.stdout.splitlines()[-1])
    note("P21", "shards on Ray", **told)
    two, one = told["two"], told["one"]
    assert two["processes"] == 4
    assert two["killed"] == kills
    assert two["calls"] > 10 * kills
    assert (two["failed"], two["partial"]) == ([], 0)
    assert one["failed"] == []
    assert one["partial"] >= 1
    assert two["whole again"]
    assert one["whole again"]
    assert told["command"] == {"answered": True, "exit code": 0}
