"""The crash campaign: ``python -m tests.reliability.campaign --tier quick|nightly``.

Every part runs in a process of its own, prints its figures as it ends, and the last line sums up.
Any failure names the seed and the operation, so that it can be done again.
"""

import argparse
import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

# Forking is safe in a process of one thread only, and BLAS starts its threads at import.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

from tests.reliability import crash, damage, mutations, powerloss, races, workload

ROOT = Path(__file__).parents[2]


def machine(examples, steps):
    """The state machine of tests/property, at length."""
    place = ROOT / "tests" / "property" / "test_store_machine.py"
    spec = importlib.util.spec_from_file_location("store_machine", place)
    module = importlib.util.module_from_spec(spec)
    sys.modules["store_machine"] = module
    spec.loader.exec_module(module)
    figures = crash.Figures(runs=examples)
    try:
        module.run(examples, steps)
    except Exception as problem:
        figures.fail("the state machine", problem)
    return figures


def mutated(names):
    """Plant the defects; one that is not noticed is a failure."""
    figures = crash.Figures()
    for name in names:
        figures.runs += 1
        if mutations.caught(name):
            figures.kills += 1
        else:
            figures.failures.append(f"{name} was not noticed")
    return figures


def power(folder, seeds, count, mixes, stride=1):
    """Several workloads through the simulator."""
    total = crash.Figures()
    for seed in seeds:
        with tempfile.TemporaryDirectory(dir=folder) as inner:
            one = powerloss.campaign(Path(inner), seed, count, mixes, stride)
        total.runs, total.kills = total.runs + one.runs, total.kills + one.kills
        total.in_flight += one.in_flight
        total.failures += one.failures
    return total


def parts(tier, folder):
    """Return name -> work of a tier."""
    every = tuple(mutations.MUTATIONS)
    if tier == "test":  # a part of `make test`: under a minute on one core
        return {
            "every 23rd operation": lambda: crash.after_every_operation(folder, 1, 14, stride=23),
            "recovery": lambda: crash.inside_recovery(folder, 1, 2),
            "random kills": lambda: crash.at_random_times(folder, 1, 30),
            "saving and restoring": lambda: crash.while_saving(folder, 1, stride=9),
            "power": lambda: power(folder, [1], 14, 1, stride=5),
            "damage": lambda: damage.campaign(folder, 1, stride=67),
            "lost manifests": lambda: damage.lost_manifest(folder),
            "catalogue": lambda: damage.catalogue(folder, 1, 60),
            "failing operations": lambda: damage.failing_operations(folder, 1, stride=151),
            "two writers": lambda: races.two_writers(folder, 5),
            "fence": lambda: races.fenced_without_a_lock(folder, 5),
            "readers": lambda: races.readers(folder, 2.0, processes=2),
        }
    if tier == "quick":
        return {
            "every 3rd operation": lambda: crash.after_every_operation(folder, 1, 16, stride=3),
            "recovery": lambda: crash.inside_recovery(folder, 1, 6),
            "random kills": lambda: crash.at_random_times(folder, 1, 200),
            "saving and restoring": lambda: crash.while_saving(folder, 1, stride=2),
            "power": lambda: power(folder, [1, 2], 14, 1),
            "damage": lambda: damage.campaign(folder, 1, stride=11),
            "lost manifests": lambda: damage.lost_manifest(folder),
            "catalogue": lambda: damage.catalogue(folder, 1, 500),
            "failing operations": lambda: damage.failing_operations(folder, 1, stride=29),
            "two writers": lambda: races.two_writers(folder, 50),
            "fence": lambda: races.fenced_without_a_lock(folder, 20),
            "readers": lambda: races.readers(folder, 10.0),
            "machine": lambda: machine(20, 40),
            "mutations": lambda: mutated(every),
        }
    return {
        "every operation": lambda: crash.after_every_operation(folder, 1, 20),
        "every operation, another workload": lambda: crash.after_every_operation(folder, 2, 20),
        "recovery": lambda: crash.inside_recovery(folder, 1, 40),
        "random kills": lambda: crash.at_random_times(folder, 1, 1000),
        "saving and restoring": lambda: crash.while_saving(folder, 1),
        "power": lambda: power(folder, range(1, 31), 14, 2),
        "damage": lambda: damage.campaign(folder, 1, flips=1),
        "lost manifests": lambda: damage.lost_manifest(folder),
        "catalogue": lambda: damage.catalogue(folder, 1, 3000),
        "failing operations": lambda: damage.failing_operations(folder, 1, stride=2),
        "two writers": lambda: races.two_writers(folder, 50),
        "fence": lambda: races.fenced_without_a_lock(folder, 100),
        "readers": lambda: races.readers(folder, 60.0, processes=4),
        "machine": lambda: machine(300, 50),
        "mutations": lambda: mutated(every),
    }


def guards(name, figures):
    """Say what makes a clean result worthless: a test in which nothing could go wrong."""
    told = []
    if figures.get("runs", figures.get("tried", 0)) == 0:
        told.append("nothing was run")
    if name == "random kills":
        if figures["in_flight"] < figures["kills"] / 2:
            told.append("fewer than half of the kills hit a step in flight")
        if figures["acked"] < figures["kills"]:
            told.append("fewer than one acknowledged write per kill")
    if "operation" in name and "kills" in figures and figures["kills"] < figures["runs"] - 1:
        told.append("a child was to be killed and was not")
    if name == "readers" and figures["acked"] < 10:
        told.append("the readers saw fewer than ten generations")
    if name == "power" and figures["in_flight"] < figures["kills"] / 4:
        told.append("the power hardly ever went during a step")
    if name == "damage" and figures["refused"] < 100:
        told.append("hardly anything was refused")
    return told


def run_part(tier, name):
    """Do one part and return its figures."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(dir=workload.quick_disk()) as folder:
        found = parts(tier, Path(folder))[name]()
    figures = asdict(found)
    figures["failures"] = figures["failures"] + [f"guard: {g}" for g in guards(name, figures)]
    return figures


def run(tier, names=()):
    """Do all parts, or those named, and print one line for each; return the sums."""
    began, total = time.monotonic(), {"failures": []}
    for name in names or parts(tier, Path()):
        started = time.monotonic()
        command = [sys.executable, "-m", "tests.reliability.campaign", "--tier", tier]
        done = subprocess.run([*command, "--part", name], stdout=subprocess.PIPE, cwd=ROOT)
        figures = {"failures": [f"{name} ended with code {done.returncode}"]}
        with suppress(IndexError, ValueError):
            figures = json.loads(done.stdout.splitlines()[-1])
        told = ", ".join(f"{v} {k}" for k, v in figures.items() if isinstance(v, int) and v)
        sys.stdout.write(
            f"{name}: {told}, {len(figures['failures'])} failures, "
            f"{time.monotonic() - started:.0f} s\n"
        )
        sys.stdout.flush()
        for failure in figures["failures"]:
            sys.stdout.write(f"    {failure}\n")
        total["failures"] += figures["failures"]
        total[name] = figures
    sys.stdout.write(_sum(tier, total, time.monotonic() - began))
    return total


def _sum(tier, total, seconds):
    def of(part, key):
        return total.get(part, {}).get(key, 0)

    killed = [name for name in total if "operation" in name and name != "failing operations"]
    return (
        f"torture ({tier}): {of('random kills', 'kills')} random kills, "
        f"{sum(of(name, 'kills') for name in killed)} kills at chosen operations, "
        f"{of('recovery', 'kills')} inside recovery, {of('power', 'runs')} power-loss states, "
        f"{of('damage', 'tried') + of('catalogue', 'tried')} damaged files, "
        f"{of('failing operations', 'tried')} failing operations, "
        f"{of('mutations', 'kills')}/{of('mutations', 'runs')} planted defects noticed, "
        f"{len(total['failures'])} failures, {seconds:.0f} s\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", choices=("test", "quick", "nightly"), default="quick")
    parser.add_argument("--only", action="append", default=[], help="the name of a part; repeats")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        sys.stdout.write("\n" + json.dumps(run_part(options.tier, options.part)) + "\n")
        return 0
    return 1 if run(options.tier, options.only)["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
