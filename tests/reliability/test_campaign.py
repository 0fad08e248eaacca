"""The instruments in short: no acknowledged write is lost, and the instruments can fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = (
    "every 23rd operation",
    "recovery",
    "random kills",
    "saving and restoring",
    "power",
    "damage",
    "lost manifests",
    "catalogue",
    "failing operations",
    "two writers",
    "fence",
    "readers",
    "soak",
)


@pytest.mark.parametrize("part", PARTS)
def test_nothing_acknowledged_is_lost(part):
    # In a process of its own: it forks, and a test runner has threads.
    command = [sys.executable, "-m", "tests.reliability.campaign", "--tier", "test", "--part", part]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["failures"] == []
    assert figures.get("runs", figures.get("tried")) > 0


def test_a_planted_defect_is_noticed():
    code = (
        "from tests.reliability import mutations; import sys; "
        "sys.exit(0 if all(map(mutations.caught, sys.argv[1:])) else 3)"
    )
    planted = ["M1 no file fsync", "M2 no folder fsync", "M5 manifest written in place",
               "M9 newer segments deleted at open", "M11 no lock",
               "M18 a failed open keeps the lock"]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, *planted], cwd=ROOT, timeout=120)
    assert done.returncode == 0
