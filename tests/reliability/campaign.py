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
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

# Forking is safe in a process of one thread only, and BLAS starts its threads at import.
if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

from colreduce.store import layout
from tests.reliability import crash, damage, live, mutations, powerloss, races, soak, workload

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


def killed_builds(folder, kills):
    """Batch builds, killed at random moments; torch is imported for this part alone."""
    from tests.reliability import building

    return building.campaign(folder, kills)


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
    if tier == "quick":  # a part of `make test`: minutes
        return {
            "machine": lambda: machine(300, 50),
            "every 7th operation": lambda: crash.after_every_operation(folder, 1, 16, stride=7),
            "recovery": lambda: crash.inside_recovery(folder, 1, 4, stride=2),
            "random kills": lambda: crash.at_random_times(folder, 1, 140),
            "queue kills": lambda: live.queue_kills(folder, 1, 60),
            "saving and restoring": lambda: crash.while_saving(folder, 1, stride=3),
            "power": lambda: power(folder, [1, 2], 14, 2),
            "damage": lambda: damage.campaign(folder, 1, stride=17),
            "lost manifests": lambda: damage.lost_manifest(folder),
            "catalogue": lambda: damage.catalogue(folder, 1, 300),
            "failing operations": lambda: damage.failing_operations(folder, 1, stride=17),
            "two writers": lambda: races.two_writers(folder, 50),
            "fence": lambda: races.fenced_without_a_lock(folder, 20),
            "readers": lambda: races.readers(folder, 10.0),
            "soak": lambda: soak.soak(folder, 2000),
            "not finite": lambda: mutations.not_finite(folder),
            "mutations": lambda: mutated(every),
        }
    return {
        "every operation": lambda: crash.after_every_operation(folder, 1, 20),
        "every operation, another workload": lambda: crash.after_every_operation(folder, 2, 20),
        "recovery": lambda: crash.inside_recovery(folder, 1, 40),
        "random kills": lambda: crash.at_random_times(folder, 1, 1000),
        "queue kills": lambda: live.queue_kills(folder, 1, 600),
        "saving and restoring": lambda: crash.while_saving(folder, 1),
        **{
            f"power, seeds {first} to {first + 4}": lambda first=first: power(
                folder, range(first, first + 5), 14, 8
            )
            for first in range(1, 31, 5)
        },
        "damage": lambda: damage.campaign(folder, 1, flips=1),
        "lost manifests": lambda: damage.lost_manifest(folder),
        "catalogue": lambda: damage.catalogue(folder, 1, 3000),
        "failing operations": lambda: damage.failing_operations(folder, 1),
        "two writers": lambda: races.two_writers(folder, 50),
        "fence": lambda: races.fenced_without_a_lock(folder, 100),
        "readers": lambda: races.readers(folder, 60.0, processes=4),
        "soak": lambda: soak.soak(folder, 20_000),
        "builds": lambda: killed_builds(folder, 100),
        "not finite": lambda: mutations.not_finite(folder),
        "machine": lambda: machine(3000, 50),
        "mutations": lambda: mutated(every),
    }


def guards(name, figures):
    """Say what makes a clean result worthless: a test in which nothing could go wrong."""
    told = []
    if figures.get("runs", figures.get("tried", 0)) == 0:
        told.append("nothing was run")
    if name in {"random kills", "queue kills"}:
        if figures["in_flight"] < figures["kills"] / 2:
            told.append("fewer than half of the kills hit a step in flight")
        if figures["acked"] < figures["kills"]:
            told.append("fewer than one acknowledged write per kill")
    if "operation" in name and "kills" in figures and figures["kills"] < figures["runs"] - 1:
        told.append("a child was to be killed and was not")
    if name == "readers" and figures["acked"] < 10:
        told.append("the readers saw fewer than ten generations")
    if name.startswith("power") and figures["in_flight"] < figures["kills"] / 4:
        told.append("the power hardly ever went during a step")
    if name == "damage" and figures["refused"] < 100:
        told.append("hardly anything was refused")
    return told


def run_part(tier, name):
    """Do one part and return its figures."""
    logging.disable(logging.CRITICAL)
    layout.PACKED = workload.PACKED
    with tempfile.TemporaryDirectory(dir=workload.quick_disk()) as folder:
        found = parts(tier, Path(folder))[name]()
    figures = asdict(found)
    figures["failures"] = figures["failures"] + [f"guard: {g}" for g in guards(name, figures)]
    return figures


def run(tier, names=(), out=None, jobs=1):
    """Do all parts, or those named, and print one line for each; return the sums.

    What stands in ``out`` is not done again; what is done is added to it.
    """
    total = _earlier(tier, out)
    missing = [name for name in names or parts(tier, Path()) if name not in total]
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(_in_own_process, tier, name): name for name in missing}
        for done in as_completed(waiting):
            total[waiting[done]] = done.result()
            _tell(tier, waiting[done], done.result(), out)
    sys.stdout.write(_sum(tier, total))
    return total


def _tell(tier, name, figures, out):
    counts = ", ".join(f"{v} {k}" for k, v in figures.items() if isinstance(v, int) and v)
    failed, seconds = figures["failures"], figures["seconds"]
    sys.stdout.write(f"{name}: {counts}, {len(failed)} failures, {seconds:.0f} s\n")
    for failure in failed:
        sys.stdout.write(f"    {failure}\n")
    sys.stdout.flush()
    if out is not None:
        with out.open("a") as lines:
            lines.write(json.dumps({"tier": tier, "part": name, **figures}) + "\n")


def _earlier(tier, out):
    if out is None or not out.exists():
        return {}
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    return {line["part"]: line for line in lines if line["tier"] == tier}


def _in_own_process(tier, name):
    started = time.monotonic()
    command = [sys.executable, "-m", "tests.reliability.campaign", "--tier", tier, "--part", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT)
    figures = {"failures": [f"{name} ended with code {done.returncode}"]}
    with suppress(IndexError, ValueError):
        figures = json.loads(done.stdout.splitlines()[-1])
    return {**figures, "seconds": round(time.monotonic() - started, 1)}


def _sum(tier, total):
    def of(part, key):
        return sum(found.get(key, 0) for name, found in total.items() if name.startswith(part))

    seconds = sum(figures["seconds"] for figures in total.values())
    failures = sum(len(figures["failures"]) for figures in total.values())
    return (
        f"torture ({tier}): {of('random kills', 'kills') + of('queue kills', 'kills')} random "
        f"kills, "
        f"{of('every', 'kills')} kills at chosen operations, "
        f"{of('recovery', 'kills')} inside recovery, {of('power', 'kills')} different power-loss "
        f"states, "
        f"{of('damage', 'tried') + of('catalogue', 'tried')} damaged files, "
        f"{of('failing operations', 'tried')} failing operations, "
        f"{of('mutations', 'kills')}/{of('mutations', 'runs')} planted defects noticed, "
        f"{of('machine', 'runs')} sequences of operations, {failures} failures, {seconds:.0f} s\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", choices=("quick", "nightly"), default="quick")
    parser.add_argument("--only", action="append", default=[], help="the name of a part; repeats")
    parser.add_argument("--out", type=Path, help="add the figures to this file; done parts stay")
    parser.add_argument("--jobs", type=int, default=1, help="parts that run at once")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        sys.stdout.write("\n" + json.dumps(run_part(options.tier, options.part)) + "\n")
        return 0
    total = run(options.tier, options.only, options.out, options.jobs)
    return 1 if any(figures["failures"] for figures in total.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
