"""Runs the tests in two processes side by side: those that mostly wait, and those that compute.

    python -m tests.side_by_side

Servers, kills and deadlines leave the cores idle for half of the time. What the second process says
is shown when it is over, and the last line counts the tests of both.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
WAITING = ("tests/service", "tests/reliability")

CLOSING = re.compile(r"^(?:=+ )?((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s.*$", re.MULTILINE)


def counted(said: str) -> Counter[str]:
    """Return the numbers of pytest's closing line by their words; nothing if there is none."""
    lines = CLOSING.findall(said)
    found = re.findall(r"(\d+) ([a-z]+)", lines[-1]) if lines else []
    return Counter({word.removesuffix("s") + "s" if word in ("error", "warning") else word: int(n)
                    for n, word in found})  # fmt: skip


def main(arguments: list[str]) -> int:
    """Run both; return 0 if all passed."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", *arguments]
    rest = ["tests", *(f"--ignore={one}" for one in WAITING)]
    with tempfile.TemporaryFile("w+") as said:
        waiting = subprocess.Popen(
            [*command, *WAITING], cwd=ROOT, stdout=said, stderr=subprocess.STDOUT
        )
        computing = subprocess.Popen(
            [*command, *rest], cwd=ROOT, stdout=subprocess.PIPE, text=True, errors="replace"
        )
        assert computing.stdout is not None
        shown = []
        for line in computing.stdout:
            shown.append(line)
            sys.stdout.write(line)
            sys.stdout.flush()
        codes = [computing.wait(), waiting.wait()]
        said.seek(0)
        second = said.read()
    sys.stdout.write(second)
    sums = counted("".join(shown)) + counted(second)
    told = ", ".join(f"{count} {word}" for word, count in sorted(sums.items())) or "0 passed"
    sys.stdout.write(f"{told} in {time.monotonic() - began:.2f}s\n")
    return 1 if any(codes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
