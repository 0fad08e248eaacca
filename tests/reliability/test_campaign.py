"""The short campaign: nothing acknowledged is lost, and every planted defect is noticed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability import campaign, mutations

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Run what ``make torture-quick`` runs, in processes of its own: a test runner has threads."""
    out = tmp_path_factory.mktemp("campaign") / "figures.jsonl"
    command = [sys.executable, "-m", "tests.reliability.campaign", "--tier", "quick"]
    done = subprocess.run(
        [*command, "--jobs", "2", "--out", str(out)], cwd=ROOT, capture_output=True, text=True
    )
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    return {line["part"]: line for line in lines}, done


@pytest.mark.slow
@pytest.mark.timeout(1800)  # minutes on two free cores; longer beside other work
def test_nothing_acknowledged_is_lost(quick):
    figures, done = quick
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert set(figures) == set(campaign.parts("quick", Path()))
    assert figures["random kills"]["kills"] + figures["queue kills"]["kills"] >= 200
    assert figures["power"]["runs"] >= 4000
    assert figures["machine"]["runs"] >= 300
    assert figures["two writers"]["runs"] >= 50


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_planted_defect_is_noticed(quick):
    figures, _ = quick
    assert figures["mutations"]["failures"] == []
    assert figures["mutations"]["kills"] == len(mutations.MUTATIONS) == 16
    numbers = {name.split()[0] for name in mutations.MUTATIONS}
    assert numbers == {f"M{n}" for n in [*range(1, 15), 18, 19]}
