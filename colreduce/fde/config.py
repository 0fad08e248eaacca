"""How a set of vectors becomes one vector."""

from __future__ import annotations

from dataclasses import dataclass

from colreduce.errors import BadParameter

# More hyperplanes than this and a document has far more blocks than tokens.
MOST_BITS = 12

# Entries of a dense final projection: 256 MB at one byte each.
MOST_FINAL_ENTRIES = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class FdeConfig:
    """The sizes of a fixed dimensional encoding. The draws that go with it are its state."""

    dim: int  # width of the input vectors
    repetitions: int = 20  # independent partitions, laid end to end
    bits: int = 5  # hyperplanes per partition, so 2**bits blocks
    inner_dim: int = 16  # width left of each block's vector
    projection: str = "dense"  # how blocks are narrowed: dense, sparse or none
    fill: bool = True  # lend a token to the empty blocks of a document
    final_dim: int | None = None  # width of the whole encoding; None leaves it as it is
    final: str = "count_sketch"  # how it is narrowed: count_sketch or dense

    def __post_init__(self) -> None:
        for name in ("dim", "repetitions", "inner_dim"):
            if getattr(self, name) < 1:
                raise BadParameter(f"{name}={getattr(self, name)}; wanted at least 1")
        if not 0 <= self.bits <= MOST_BITS:
            raise BadParameter(f"bits={self.bits}; wanted 0 to {MOST_BITS}")
        if self.projection not in ("dense", "sparse", "none"):
            raise BadParameter(f"projection={self.projection!r}; wanted dense, sparse or none")
        if self.final not in ("count_sketch", "dense"):
            raise BadParameter(f"final={self.final!r}; wanted count_sketch or dense")
        if self.projection != "none" and self.inner_dim > self.dim:
            raise BadParameter(
                f"inner_dim={self.inner_dim} is more than the vectors' width {self.dim}; "
                "wanted at most that, or projection='none'"
            )
        if self.final_dim is not None:
            self._check_final(self.final_dim)

    def _check_final(self, final_dim: int) -> None:
        if not 1 <= final_dim <= self.inner_width:
            raise BadParameter(
                f"final_dim={final_dim}; wanted 1 to {self.inner_width}, the width it starts from"
            )
        if self.final == "dense" and final_dim * self.inner_width > MOST_FINAL_ENTRIES:
            raise BadParameter(
                f"a dense final projection from {self.inner_width} to {final_dim} has "
                f"{final_dim * self.inner_width} entries; at most {MOST_FINAL_ENTRIES} are kept. "
                "Take final='count_sketch'."
            )

    @property
    def blocks(self) -> int:
        """Return the number of blocks of one partition."""
        return 1 << self.bits

    @property
    def projects(self) -> bool:
        """Return whether blocks are narrowed at all."""
        return self.projection != "none" and self.inner_dim < self.dim

    @property
    def block_dim(self) -> int:
        """Return the width of one block's vector."""
        return self.inner_dim if self.projects else self.dim

    @property
    def inner_width(self) -> int:
        """Return the width of all blocks of all partitions end to end."""
        return self.repetitions * self.blocks * self.block_dim

    @property
    def width(self) -> int:
        """Return the width of an encoding."""
        return self.final_dim or self.inner_width
