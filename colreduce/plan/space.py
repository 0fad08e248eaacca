"""Which recipes are tried: a coarse first draw, and the neighbours of what did well.

An arm is a recipe without its first stage: what happens to the vectors. What is drawn, and how
steps of the ladders follow each other, comes from the measurements in `benchmarks/results`: ward
and cover lead at these sizes, function words go first on text, int8 costs nothing, and product
quantisation behind a rotation is the best of the small codecs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from colreduce.recipe import Recipe

FACTORS = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
FIRST_FACTORS = (3.0, 6.0, 12.0)

# From the largest to the smallest; the bytes of one vector at a width of 128 stand behind.
CODECS = (
    "int8",  # 130
    "rotate | pq(parts=64)",  # 65
    "rotate | pq(parts=32)",  # 33
    "rotate | pq(parts=16)",  # 17
)
FIRST_CODECS = ("int8", "rotate | pq(parts=32)")

# One without the matrix of a rotation, which counts where there are few documents.
UNROTATED, FEW_DOCUMENTS = "pq(parts=32)", 20_000

STOPWORDS = "stopwords"

# What is tried one by one, until something does, when no arm of the last round keeps what is
# wanted: a width (0 for all of it) and a factor of ward (0 for none), each with these codecs.
RUNGS = ((128, 3.0), (128, 1.5), (0, 4.0), (0, 2.0), (0, 0.0))
RUNG_CODECS = CODECS[:2]


@dataclass(frozen=True, slots=True)
class Arm:
    """What happens to the vectors. Each part is a piece of a recipe line, or empty.

    width   of the projection; 0 for none
    prune   what drops tokens by what they are
    merger  the method that leaves one vector in ``factor``; empty for none
    codec   with the rotation that comes before it, if there is one
    """

    width: int
    prune: str
    merger: str
    factor: float
    codec: str

    @property
    def pieces(self) -> tuple[str, ...]:
        """Return the methods in the order in which they are tried.

        A rotation changes no product, so that no reducer sees it: here it stands behind them, and
        what they leave serves codecs with and without one.
        """
        merged = f"{self.merger}(factor={self.factor:g})" if self.merger else ""
        shorter = f"pca(dim={self.width})" if self.width else ""
        found = [one for one in (shorter, self.prune, merged) if one]
        return (*found, *self.codec.split(" | "))

    @property
    def reduction(self) -> tuple[str, ...]:
        """Return all methods before the codec: what a reduction rests on."""
        return tuple(one for one in self.pieces[:-1] if one != "rotate")

    @property
    def prepare(self) -> str:
        """Return the projection as a recipe writes it, or nothing."""
        return f"pca(dim={self.width})" if self.width else ""

    def recipe(self, first_stage: str, candidates: int) -> Recipe:
        """Return the whole recipe."""
        rotate = [one for one in self.pieces if one == "rotate"]
        others = [one for one in self.pieces if one != "rotate"]
        before = 1 if self.width else 0
        line = [*others[:before], *rotate, *others[before:], first_stage]
        last = "maxsim" if first_stage == "exhaustive" else f"maxsim(candidates={candidates})"
        return Recipe.parse(" | ".join([*line, last]))

    def __str__(self) -> str:
        return " | ".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Space:
    """What can be tried on one corpus.

    dim    width of the vectors as encoded
    words  whether it is known which tokens are words
    """

    dim: int
    words: bool

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the widths that vectors can be given, the usual one first; 0 leaves them."""
        shorter = (128, 192) if self.dim > 192 else (128,) if self.dim > 128 else (64, 96)
        return (*(one for one in shorter if one < self.dim), 0)

    def first(self) -> list[Arm]:
        """Return the arms of the first round: few reductions, and two codecs on each."""
        lead = self.widths[0] if self.dim > 128 else 0
        prunes = ("", STOPWORDS) if self.words else ("",)
        merged = [(one, "ward", factor) for one in prunes for factor in FIRST_FACTORS]
        merged.append(("", "cover", 8.0))
        arms = [
            Arm(lead, prune, merger, factor, codec)
            for prune, merger, factor in merged
            for codec in FIRST_CODECS
        ]
        # A large one, whose neighbours are looked at when all these lose too much.
        arms += [Arm(0, "", "ward", 2.0, codec) for codec in FIRST_CODECS]
        return [arm for arm in dict.fromkeys(arms) if self.has(arm)]

    def rungs(self) -> list[list[Arm]]:
        """Return arms that lose less and less, up to all vectors as they were encoded.

        Those of one rung are one reduction with several codecs.
        """
        found = []
        for width, factor in RUNGS:
            fits, merger = width if width < self.dim else 0, "ward" if factor else ""
            arms = [Arm(fits, "", merger, factor, codec) for codec in RUNG_CODECS]
            found.append(tuple(arm for arm in arms if self.has(arm)))
        return [list(arms) for arms in dict.fromkeys(found)]

    def neighbours(self, arm: Arm) -> list[Arm]:
        """Return the arms that differ from one by a single step: of factor, width or codec."""
        place = min(range(len(FACTORS)), key=lambda at: abs(FACTORS[at] - arm.factor))
        near = [at for at in (place - 1, place + 1) if 0 <= at < len(FACTORS)]
        found = [replace(arm, factor=FACTORS[at]) for at in near]
        found += [replace(arm, width=width) for width in self.widths if width != arm.width]
        place = CODECS.index(arm.codec)
        near = [at for at in (place - 1, place + 1) if 0 <= at < len(CODECS)]
        found += [replace(arm, codec=CODECS[at]) for at in near]
        return [one for one in found if self.has(one)]

    def with_near_codecs(self, arm: Arm, documents: int) -> list[Arm]:
        """Return an arm with its own codec, the next ones, and one without a rotation."""
        place = CODECS.index(arm.codec)
        codecs = [*CODECS[max(place - 1, 0) : place + 2]]
        if documents < FEW_DOCUMENTS and f"rotate | {UNROTATED}" in codecs:
            codecs.append(UNROTATED)
        arms = [replace(arm, codec=codec) for codec in codecs]
        return [one for one in arms if self.has(one)]

    def has(self, arm: Arm) -> bool:
        """Say whether an arm makes sense here: a codec cannot cut vectors finer than they are."""
        width = arm.width or self.dim
        return all(f"parts={parts})" not in arm.codec or parts <= width for parts in (16, 32, 64))
