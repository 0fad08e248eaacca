"""Run every benchmark, one after the other; each writes its file into benchmarks/results.

    python -m benchmarks            all of them
    python -m benchmarks NAME ...   those whose line begins with one of the names
    python -m benchmarks --list     only say what would be run

A benchmark that was stopped goes on where it was. One that fails does not stop the others.
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.common import ROOT

# One line each: a module below benchmarks and its arguments. New benchmarks are added here.
RUNS = (
    "quality.reducers --dataset scifact",
    "quality.reducers --dataset nfcorpus",
    "quality.reducers --dataset cranfield",
    "quality.reducers --dataset lotte500",
    "quality.codecs --dataset scifact",
    "quality.codecs --dataset nfcorpus",
    "quality.codecs --dataset cranfield",
    "quality.reducers_report",
    "quality.pages",
    "quality.first_stages --dataset scifact",
    "quality.first_stages --dataset nfcorpus",
    "quality.first_stages --dataset cranfield",
    "quality.plan --dataset scifact",
    "quality.plan --dataset nfcorpus",
    "quality.plan --dataset cranfield --report",
    "quality.pseudo_queries --dataset scifact",
    "quality.pseudo_queries --dataset nfcorpus",
    "quality.pseudo_queries --dataset cranfield",
    "quality.pseudo_queries --report",
    "speed.reducers",
    "speed.maxsim",
    "speed.fde",
    "speed.store",
    "speed.training",
    "load",
    "speed.building",
    "speed.pages",
    "peers",
    "scale",
)


def main(arguments: list[str]) -> int:
    """Run the benchmarks that were asked for; return 1 when one failed."""
    names = tuple(one for one in arguments if not one.startswith("-"))
    chosen = [run for run in RUNS if not names or run.startswith(names)]
    if "--list" in arguments or not chosen:
        sys.stdout.write("\n".join(chosen or RUNS) + "\n")
        return 0 if chosen else 2
    failed = []
    for run in chosen:
        sys.stderr.write(f"== {run}\n")
        module, *rest = run.split()
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *rest], cwd=ROOT)
        if done.returncode:
            failed.append(run)
    for run in failed:
        sys.stderr.write(f"failed: {run}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
