"""Records that cannot be used: how many are borne, and a file that says which and why."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from colreduce.errors import BadData
from colreduce_indexer.sources.base import Bad


@dataclass
class Rejects:
    """Collects bad records, at most ``most`` of them; one more is an error."""

    most: int = 0
    found: dict[int, Bad] = field(default_factory=dict)

    def take(self, bad: Bad) -> None:
        """Leave a record out, or say that it is one too many."""
        self.found[bad.number] = bad
        if len(self.found) <= self.most:
            return
        told = f"{bad.place}: {bad.reason}"
        if not self.most:
            raise BadData(f"{told}. To leave such records out, say how many with --max-rejects.")
        raise BadData(
            f"more than {self.most:,} records cannot be used; the last one was {told}. "
            "Nothing was built."
        )

    @property
    def left_out(self) -> frozenset[int]:
        """Return the numbers of all records that are left out."""
        return frozenset(self.found)

    def write(self, path: Path) -> None:
        """Write one JSON object a line: the record's number, its place and the reason."""
        lines = [
            {"record": bad.number, "place": bad.place, "reason": bad.reason}
            for _, bad in sorted(self.found.items())
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        temporary.replace(path)
