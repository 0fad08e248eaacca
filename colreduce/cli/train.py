"""The command ``colreduce train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from colreduce.cli.options import Command, Shared, shared
from colreduce.cli.screen import Screen, seconds

if TYPE_CHECKING:
    from colreduce.train.examples import Example
    from colreduce.train.run import Trained


@click.command(cls=Command)
@click.argument("source", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--model", required=True, metavar="MODEL", help="Model folder or hub id to start from."
)
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the trained model and its checkpoints.",
)
@click.option(
    "--objective",
    default="colbert",
    show_default=True,
    metavar="LINE",
    help='One or several, such as "crisp(documents=32) | distill".',
)
@click.option("--split", default="train", show_default=True, help="Judgements to train on.")
@click.option("--titles", is_flag=True, help="Also train on titles as queries for their texts.")
@click.option(
    "--per-query",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Judged documents of a query at most.",
)
@click.option(
    "--epochs",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Passes over all examples.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Steps in all, in place of epochs.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Queries of a step.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=3e-5,
    show_default=True,
    help="Learning rate at its highest.",
)
@click.option(
    "--negatives",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Wrong documents for each query, found by searching an index.",
)
@click.option(
    "--max-tokens", type=click.IntRange(min=1), help="Tokens of a document that are read."
)
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    metavar="STEPS",
    help="Steps between two checkpoints, and two evaluations.",
)
@click.option(
    "--evaluate",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Measure the model on this folder's queries at every checkpoint.",
)
@click.option("--evaluate-split", default="dev", show_default=True, help="Which judgements of it.")
@click.option(
    "--metric", default="nDCG@10", show_default=True, help="Metric by its ir-measures name."
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in DIR.")
@click.option(
    "--stop-after",
    type=click.IntRange(min=1),
    metavar="STEP",
    help="End here, with a checkpoint; --resume goes on.",
)
@shared
def train(shared: Shared, source: tuple[Path, ...], **options: Any) -> None:
    """Train a late-interaction model so that few vectors do.

    SOURCE is a folder in BEIR's layout with training judgements, or a JSONL file of pairs (query
    and positive, or query and text) or triplets (and negative); several are trained on together.
    `colreduce methods` lists the objectives.

    \b
    Examples:
      colreduce train scifact/ --model MODEL --out trained --objective "crisp(documents=8)"
      colreduce train pairs.jsonl --model MODEL --out trained --negatives 2 --epochs 3
      colreduce train scifact/ --model MODEL --out trained --evaluate nfcorpus/
      colreduce train scifact/ --model MODEL --out trained --resume
    """
    from colreduce.train.build import read_objectives
    from colreduce.train.run import train as run
    from colreduce.train.settings import Settings
    from colreduce.train.watch import Watch

    read_objectives(options["objective"])  # what is misspelt is told before anything is read
    examples, others = _read(source, options, shared.seed)
    shared.screen.remark(f"{len(examples):,} examples")
    names = ("steps", "epochs", "batch_size", "rate", "negatives", "every", "max_tokens")
    settings = Settings(
        **{name: options[name] for name in (*names, "stop_after")}, seed=shared.seed
    )
    asked = options["evaluate"]
    watch = asked and Watch(asked, options["evaluate_split"], options["metric"])
    with shared.screen.progress() as progress:
        trained = run(
            examples,
            options["model"],
            options["out"],
            objective=options["objective"],
            settings=settings,
            resume=options["resume"],
            device=shared.device,
            evaluate=watch,
            others=others,
            progress=progress,
        )
    if shared.screen.as_json:
        shared.screen.document({"format": 1, **trained.to_dict()})
    else:
        _show(shared.screen, trained, options["metric"])


def _read(
    sources: tuple[Path, ...], options: dict[str, Any], seed: int
) -> tuple[list[Example], list[str]]:
    """Return the examples of all sources, and what documents there are beside."""
    from colreduce.evaluate.beir import BeirFolder
    from colreduce.train.examples import read_examples

    examples: list[Example] = []
    others: list[str] = []
    for one in sources:
        given = {name: options[name] for name in ("split", "per_query", "titles")}
        examples += read_examples(one, **given, seed=seed)
        if one.is_dir():
            others += [record.text for record in BeirFolder(one).corpus() if options["negatives"]]
    return examples, [text for text in others if text]


def _show(screen: Screen, trained: Trained, metric: str) -> None:
    """Show how the loss went, and where the model is."""
    rows = [
        (f"{step:,}", f"{loss:.4f}", _measured(trained, step))
        for step, loss in trained.losses.items()
    ]
    screen.table([">step", ">loss", f">{metric}" if trained.measured else ""], rows)
    screen.line()
    if trained.finished:
        screen.line(f"{trained.objective}: {trained.steps:,} steps in {seconds(trained.seconds)}")
        screen.line(f"the model is in {trained.out}")
    else:
        screen.line(f"stopped after step {trained.steps:,}; go on with --resume")


def _measured(trained: Trained, step: int) -> str:
    value = trained.measured.get(step)
    return "" if value is None else f"{value:.4f}"
