"""One training, from its examples to a saved model; it can be stopped and gone on with.

The work is done by sentence-transformers' trainer. Checkpoints are its own and lie in
``OUT/checkpoints``; the finished model lies in ``OUT`` beside ``training.json``, which says what it
was trained on, by which objectives, and how the loss went.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from colreduce.embed.sentence_transformer import load_encoder
from colreduce.errors import AlreadyExists, BadData, BadInput, MissingDependency
from colreduce.evaluate.progress import Progress, silent
from colreduce.train.build import build
from colreduce.train.examples import Example, batches
from colreduce.train.mining import mine
from colreduce.train.settings import Settings

RECORD = "training.json"
CHECKPOINTS = "checkpoints"
# The file of a checkpoint that is written last.
LAST_WRITTEN = "trainer_state.json"


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a training.

    losses    of the logged steps, by step
    measured  the metric at every evaluation, by step
    finished  whether all steps were taken
    """

    out: Path
    objective: str
    examples: int
    steps: int
    seconds: float
    losses: dict[int, float]
    measured: dict[int, float]
    finished: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**{name: getattr(self, name) for name in self.__slots__}, "out": self.out.name}


def train(
    examples: Sequence[Example],
    start: str | Path,
    out: Path,
    *,
    objective: str = "colbert",
    settings: Settings | None = None,
    resume: bool = False,
    device: str = "auto",
    evaluate: Any = None,
    others: Sequence[str] = (),
    progress: Progress = silent,
) -> Trained:
    """Train a model for an objective, and save it.

    start     model folder or hub id
    resume    go on from the last checkpoint in ``out``
    evaluate  a `colreduce.train.watch.Watch`, asked at every checkpoint
    others    documents that answer no query, among which wrong ones are looked for, too
    """
    start, settings = str(start), settings or Settings()
    if not examples:
        raise BadInput("there is nothing to train on: the sources hold no example", field="source")
    kind = _trainer()
    torch.manual_seed(settings.seed)
    pupil = build(start, objective, device=device, max_tokens=settings.max_tokens)
    record = {"start": start, "objective": pupil.line, "examples": len(examples)}
    record["settings"] = settings.lasting()
    checkpoint = _place(out, record, resume)
    _ahead(out, checkpoint, settings)
    examples = _with_negatives(examples, start, settings, device, others, progress)
    next(batches(examples, settings.batch_size, seed=settings.seed))  # refused before anything is
    if not resume:
        out.mkdir(parents=True, exist_ok=True)
        _write(out, record)
    trainer = kind(pupil, examples, out / CHECKPOINTS, settings, evaluate, progress)
    done = trainer.train(resume_from_checkpoint=checkpoint)
    state = trainer.state
    trained = Trained(
        out=out,
        objective=pupil.line,
        examples=len(examples),
        steps=int(state.global_step),
        seconds=round(float(done.metrics["train_runtime"]), 2),
        losses=_logged(state.log_history, "loss"),
        measured=_logged(state.log_history, f"eval_{getattr(evaluate, 'metric', '')}"),
        finished=state.global_step >= state.max_steps,
    )
    if trained.finished:
        pupil.model.eval()
        pupil.model.save(str(out), create_model_card=False)
        _write(out, {**record, **trained.to_dict()})
    return trained


def _with_negatives(
    examples: Sequence[Example],
    start: str,
    settings: Settings,
    device: str,
    others: Sequence[str],
    progress: Progress,
) -> Sequence[Example]:
    """Return the examples with as many wrong documents as are wanted; all get as many."""
    counts, count = {len(one.negatives) for one in examples}, settings.negatives
    if len(counts) > 1 and count < max(counts):
        raise BadInput(
            f"some examples bring {min(counts)} wrong documents, others {max(counts)}, and all "
            f"must have as many. Ask for {max(counts)}: what is missing is found by a search.",
            field="negatives",
        )
    if count <= max(counts):
        return examples
    finder = load_encoder(start, device=device, max_tokens=settings.max_tokens)
    return mine(examples, finder, count, others=others, seed=settings.seed, progress=progress)


def _trainer() -> type[Any]:
    """Return the trainer's class, or say what is not installed."""
    try:
        import accelerate  # noqa: F401

        from colreduce.train.trainer import Trainer
    except ImportError as error:
        raise MissingDependency(
            "training needs accelerate and datasets; install them with: "
            "pip install 'colreduce[train]'"
        ) from error
    return Trainer


def _place(out: Path, record: dict[str, Any], resume: bool) -> str | None:
    """Look whether the folder will do; return the checkpoint to go on from."""
    if not resume:
        if out.exists() and any(out.iterdir()):
            raise AlreadyExists(
                f"{out} holds something already. Wanted a new folder, or --resume to go on with "
                "the training that was begun there."
            )
        return None
    if not (out / RECORD).exists():
        raise BadInput(f"{out} holds no training to go on with: there is no {RECORD}", field="out")
    try:
        before = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadData(f"{out / RECORD} is damaged: {error}. Train anew elsewhere.") from error
    for name, value in record.items():
        if before.get(name) != value:
            raise BadInput(
                f"{out} was begun with {name} {before.get(name)!r}, and now it is {value!r}. Go on "
                "with the same, or train anew in another folder.",
                field=name,
            )
    whole = (one.parent for one in (out / CHECKPOINTS).glob(f"checkpoint-*/{LAST_WRITTEN}"))
    last = max(whole, key=_step, default=None)
    return None if last is None else str(last)


def _step(checkpoint: Path) -> int:
    """Return the number of steps that a checkpoint was written after."""
    return int(checkpoint.name.split("-")[1])


def _ahead(out: Path, checkpoint: str | None, settings: Settings) -> None:
    """Refuse to stop at a step that lies behind: the trainer takes one more before it looks."""
    done = 0 if checkpoint is None else _step(Path(checkpoint))
    if settings.stop_after is not None and settings.stop_after <= done:
        raise BadInput(
            f"{out} has taken {done:,} steps already; wanted a stop after more than that, got "
            f"{settings.stop_after:,}",
            field="stop_after",
        )


def _write(out: Path, record: dict[str, Any]) -> None:
    """Write what is known of the training, whole or not at all."""
    working = out / f"{RECORD}.tmp"
    working.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    working.replace(out / RECORD)


def _logged(history: Sequence[dict[str, Any]], name: str) -> dict[int, float]:
    """Return a logged value by step."""
    return {one["step"]: round(float(one[name]), 6) for one in history if name in one}
