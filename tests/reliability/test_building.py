"""A build that is killed again and again ends as if nobody had disturbed it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)  # a minute on a free core; longer beside other work
def test_a_build_that_is_killed_ten_times_ends_the_same():
    # In a process of its own: it forks, and a test runner has threads.
    command = [sys.executable, "-m", "tests.reliability.building", "--kills", "10"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["failures"] == []
    assert figures["kills"] == 10
    assert figures["builds"] >= 1
    assert figures["again"] <= figures["kills"]
