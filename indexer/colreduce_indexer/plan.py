"""What is going to be built: settings, the record that keeps them, and whether they are the same.

The record is written before the first piece and never changed. Whoever goes on with a build takes
everything from it that decides about a byte of the index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from colreduce.device import AUTO, chosen
from colreduce.embed import Encoder
from colreduce.errors import BadData, BadInput
from colreduce.evaluate.held_out import Asking
from colreduce.index.identity import founding
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe
from colreduce_indexer import sizes
from colreduce_indexer.rejects import Rejects
from colreduce_indexer.sources import Source
from colreduce_indexer.stages import Cuts
from colreduce_indexer.survey import Survey, Told, survey

# The ledger ranks every document after every stage, which takes long where there are many.
MEASURED = 100_000

Arrays = Mapping[str, NDArray[Any]]
BLOCKS, ASKING = "blocks", "asking"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a build is asked for.

    ledger       measure what every stage loses; None where there are not too many documents
    queries      where the queries are that losses are measured on; None to draw them
    split        which judgements beside them count
    limit        take the first so many documents only
    batch_size   texts that the encoder takes at a time
    memory       bytes that the build may take, beside the model and the libraries
    max_rejects  records that may be left out because they cannot be used
    resume       go on with what was begun in the same folder
    piece        documents of a piece, where it is not to follow from the memory
    device       where documents pass the recipe; its kind decides about their last bits
    """

    recipe: Recipe
    seed: int = 0
    store_texts: bool = True
    store_assignment: bool | None = None
    keep_sample: bool | None = None
    store_pictures: bool | None = None
    ledger: bool | None = None
    queries: Path | None = None
    split: str | None = None
    limit: int | None = None
    batch_size: int = 32
    memory: int = 2_000_000_000
    max_rejects: int = 0
    resume: bool = True
    piece: int | None = None
    device: str = AUTO

    @property
    def block(self) -> int:
        """Return how many documents are cut off together."""
        return min(self.piece or sizes.BLOCK, sizes.BLOCK)

    def config(self, encoder: Encoder | None, dim: int) -> dict[str, Any]:
        """Return what is fixed in the index."""
        return founding(
            self.recipe,
            encoder,
            dim=dim,
            seed=self.seed,
            store_texts=self.store_texts,
            store_assignment=self.store_assignment,
            keep_sample=self.keep_sample,
            store_pictures=self.store_pictures,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """A build as its record tells it.

    segment  pieces of a segment
    asking   the queries that its losses are measured on, None for no ledger
    """

    cuts: Cuts
    rejected: frozenset[int]
    batch_size: int
    segment: int
    asking: Asking | None


def cuts_of(found: Survey, sample: Ragged, settings: Settings) -> Cuts:
    """Cut what was found into pieces that the memory allows."""
    room, block = settings.memory, settings.block
    piece = settings.piece or sizes.piece_size(sample, room, block)
    if piece % block:
        raise BadInput(f"a piece of {piece} documents cannot be cut into blocks of {block}")
    window = sizes.window_size(sample, room, block)
    return Cuts(found.documents, block, window, piece, found.starts, found.digests)


def written(
    source: Source, settings: Settings, found: Survey, cuts: Cuts, asking: Asking | None
) -> tuple[dict[str, Any], dict[str, Arrays]]:
    """Return the record of a build and the arrays beside it."""
    arrays: dict[str, Arrays] = {BLOCKS: {"starts": cuts.starts, "digests": cuts.digests}}
    asked: dict[str, Any] | None = None
    if asking is not None:
        asked = {"kind": asking.kind, "texts": asking.texts, "sources": asking.sources}
        if asking.grades:
            asked["grades"] = [dict(told) for told in asking.grades]
        vectors = asking.vectors.to("cpu")
        arrays[ASKING] = {
            "tokens": vectors.tokens.float().numpy(),
            "lengths": vectors.lengths.numpy(),
        }
    record = {
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": {"name": source.name, "state": source.state(), "sha256": found.sha256},
        "settings": _compared(settings, source),
        "documents": cuts.documents,
        "pieces": cuts.pieces,
        "cuts": {"block": cuts.block, "window": cuts.window, "piece": cuts.piece},
        "segment": sizes.segment_pieces(settings.memory, cuts.piece),
        "rejected": sorted(found.rejected),
        "ledger": asked,
    }
    return record, arrays


def plan_of(record: Mapping[str, Any], arrays: Mapping[str, Arrays]) -> Plan:
    """Return the plan that a record tells."""
    blocks = arrays[BLOCKS]
    cuts = Cuts(
        record["documents"], **record["cuts"], starts=blocks["starts"], digests=blocks["digests"]
    )
    asking = None
    if record["ledger"] is not None:
        told = {name: torch.from_numpy(np.array(part)) for name, part in arrays[ASKING].items()}
        asked = record["ledger"]
        vectors = Ragged(told["tokens"], told["lengths"].long())
        grades = asked.get("grades", ())
        asking = Asking(asked["kind"], vectors, asked["texts"], asked["sources"], grades)
    rejected = frozenset(record["rejected"])
    batch_size = record["settings"]["batch size"]
    return Plan(cuts, rejected, batch_size, record["segment"], asking)


def require_same(
    record: Mapping[str, Any],
    source: Source,
    settings: Settings,
    encoder: Encoder | None,
    told: Told,
) -> None:
    """Refuse to go on with another source, recipe, encoder, seed or setting than it began with."""
    before = {**record["settings"], **_told(record["config"])}
    now = {
        **_compared(settings, source),
        **_told(settings.config(encoder, record["config"]["dim"])),
    }
    if settings.ledger is not None:
        before["ledger"], now["ledger"] = record["ledger"] is not None, settings.ledger
    changed = [name for name, value in before.items() if now[name] != value]
    if changed:
        what = "; ".join(f"{name} was {before[name]!r}, now {now[name]!r}" for name in changed)
        raise BadInput(
            f"the build that was begun there was asked for something else: {what}. Ask for the "
            "same to go on with it, or name --no-resume to throw it away and begin anew."
        )
    known = record["source"]
    state = source.state()
    if state is not None and state == known["state"]:
        return
    rejects = Rejects(len(record["rejected"]))
    again = survey(
        source,
        seed=settings.seed,
        block=record["cuts"]["block"],
        limit=settings.limit,
        rejects=rejects,
        told=told,
    )
    if again.sha256 != known["sha256"] or sorted(again.rejected) != record["rejected"]:
        raise BadData(
            f"{source.name} has changed since the build was begun. Restore it as it was to go on, "
            "or name --no-resume to throw the build away and begin anew."
        )


def _compared(settings: Settings, source: Source) -> dict[str, Any]:
    """Return the settings that decide about the bytes of the index, beside its configuration."""
    return {
        "vectors": source.vectors,
        "limit": settings.limit,
        "batch size": settings.batch_size,
        "queries": None if settings.queries is None else str(settings.queries),
        "split": settings.split,
        "device": chosen(settings.device).partition(":")[0],
    }


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return of a configuration what must not change, by names for people."""
    encoder = config["encoder"]
    return {
        "recipe": config["recipe_line"],
        "encoder": None if encoder is None else _identity(encoder),
        "seed": config["seed"],
        "store texts": config["store_texts"],
        "store assignment": config["store_assignment"],
        "keep sample": config.get("keep_sample"),
        "store pictures": config.get("store_pictures"),
    }


def _identity(encoder: Mapping[str, Any]) -> str:
    """Return a model's name with the beginning of its digest."""
    known = {key: encoder.get(key) for key in ("name", "sha256", "dim", "max_tokens", "prompts")}
    digest = str(known.pop("sha256") or "")[:12]
    rest = ", ".join(f"{key} {value}" for key, value in known.items() if value)
    return f"{rest} {digest}".strip()
