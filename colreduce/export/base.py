"""What an exporter must be, and what is said about an export that was made."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from colreduce.errors import MissingDependency
from colreduce.export.source import Source


@dataclass(frozen=True, slots=True)
class Exported:
    """An export that was made, or that a dry run would make.

    first_stages  the width of each first stage whose vectors went along, by its name there
    remarks       what was split, left out or will be scored differently, in whole sentences
    """

    format: str
    out: str
    documents: int
    vectors: int
    dim: int
    first_stages: dict[str, int]
    texts: bool
    bytes: int = 0
    remarks: list[str] = field(default_factory=list)


class Exporter(ABC):
    """One format. Its docstring's first line says what lies under the name that was given."""

    name: ClassVar[str]
    needs: ClassVar[str] = ""  # the package that writes it, "" when none is needed
    takes_codes: ClassVar[bool] = False  # whether vectors may go out as they are stored

    def check(self, source: Source) -> list[str]:
        """Return what must be said of this index in this format; raise if it cannot hold it."""
        return []

    @abstractmethod
    def write(self, source: Source, place: Path) -> None:
        """Write everything to a place where nothing stands yet; nobody sees it before the end."""

    def load(self) -> Any:
        """Import the package that writes the format, or say how to install it."""
        try:
            return importlib.import_module(self.needs.replace("-", "_"))
        except ImportError as error:
            raise MissingDependency(
                f"the export to {self.name} is written by {self.needs}, which is not installed. "
                "Run: pip install 'colreduce[export]'"
            ) from error
