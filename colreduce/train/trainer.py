"""Sentence-transformers' trainer with our batches, our progress, and nothing pickled of ours."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import MultiVectorEncoderTrainer
from sentence_transformers.multi_vector_encoder.training_args import (
    MultiVectorEncoderTrainingArguments,
)
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import IntervalStrategy

from colreduce.evaluate.progress import Progress
from colreduce.train.build import Pupil
from colreduce.train.data import FittingBatches, dataset
from colreduce.train.examples import Example
from colreduce.train.settings import Settings


class Trainer(MultiVectorEncoderTrainer):  # type: ignore[misc]
    """The trainer of one pupil."""

    def __init__(
        self,
        pupil: Pupil,
        examples: Sequence[Example],
        folder: Path,
        settings: Settings,
        evaluate: Any,
        progress: Progress,
    ) -> None:
        logging.getLogger("transformers.trainer").setLevel(logging.ERROR)
        self.examples = examples
        super().__init__(
            model=pupil.model,
            args=arguments(pupil, len(examples), folder, settings, evaluate is not None),
            train_dataset=dataset(examples),
            loss=pupil.loss,
            evaluator=evaluate,
            callbacks=[Telling(progress, settings.stop_after)],
        )
        self.remove_callback(PrinterCallback)

    def get_batch_sampler(self, dataset: Any, batch_size: int, **given: Any) -> Any:
        """Return batches in which no document answers two queries."""
        return FittingBatches(
            self.examples, batch_size=batch_size, drop_last=True, seed=given.get("seed") or 0
        )

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Gather nothing for a model card: none is written."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save the model alone: the parent pickles its arguments beside it."""
        self.model.save(output_dir or self.args.output_dir, create_model_card=False)


class Telling(TrainerCallback):  # type: ignore[misc]
    """Tell of every step, and stop where it is asked.

    progress    told of ``train``, the steps taken and all steps
    stop_after  the step after which a checkpoint is written and the run ends; None for no such step
    """

    def __init__(self, progress: Progress, stop_after: int | None = None) -> None:
        self.progress, self.stop_after = progress, stop_after

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> Any:
        """Tell of a step."""
        self.progress("train", state.global_step, state.max_steps)
        stops = self.stop_after is not None and state.global_step >= self.stop_after
        if stops:
            control.should_save = control.should_training_stop = True
        if stops or state.global_step >= state.max_steps:
            # What is saved in the end is measured, however far apart evaluations are.
            control.should_evaluate |= args.eval_strategy != IntervalStrategy.NO
        return control


def arguments(
    pupil: Pupil, examples: int, folder: Path, settings: Settings, evaluates: bool
) -> MultiVectorEncoderTrainingArguments:
    """Return the settings as the trainer takes them."""
    steps, on_gpu = settings.all_steps(examples), pupil.model.device.type == "cuda"
    most = int(pupil.model.max_seq_length)
    return MultiVectorEncoderTrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.rate,
        weight_decay=0.01,
        warmup_steps=int(settings.warm_up * steps),
        bf16=on_gpu and torch.cuda.is_bf16_supported(),
        use_cpu=not on_gpu,
        max_length={"query": min(settings.query_tokens, most), "document": most},
        save_steps=settings.every,
        save_total_limit=2,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=settings.every,
        logging_steps=max(min(settings.every, steps // 20), 1),
        seed=settings.seed,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
    )
