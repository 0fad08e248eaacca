"""The commands ``colreduce index`` and ``colreduce add``."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from colreduce.cli.options import Command, RecipeName, Shared, shared
from colreduce.cli.screen import Screen, Tell, seconds
from colreduce.cli.tables import show_bytes, show_ledger

if TYPE_CHECKING:
    from colreduce_indexer.executors import Executor
    from colreduce_indexer.job import Built

F = TypeVar("F", bound=Callable[..., Any])

STAGES = {
    "check": "reading and checking",
    "fit": "learning from a sample",
    "read": "reading",
    "encode": "encoding",
    "reduce": "reducing",
    "first_stage": "first stage",
    "write": "packing and writing",
    "publish": "putting together",
    "ledger": "measuring the losses",
}


def source_options(function: F) -> F:
    """Give a command the options that say what is read, and how."""
    for option in reversed(
        (
            click.argument("source", metavar="SOURCE"),
            click.option(
                "--vectors",
                is_flag=True,
                help="SOURCE holds vectors: .npz, .safetensors or .parquet, or a folder.",
            ),
            click.option(
                "--limit",
                type=click.IntRange(min=1),
                metavar="N",
                help="First N documents only.",
            ),
            click.option(
                "--batch-size",
                type=click.IntRange(min=1),
                default=32,
                show_default=True,
                help="Texts encoded at a time; a CPU takes 8 at most.",
            ),
            click.option(
                "--memory",
                default="2GB",
                show_default=True,
                metavar="SIZE",
                help="Memory to work in, beside the model and the libraries.",
            ),
            click.option(
                "--max-pages",
                type=click.IntRange(min=1),
                default=5000,
                show_default=True,
                metavar="N",
                help="Pages that one PDF may have; a longer one cannot be used.",
            ),
            click.option(
                "--max-rejects",
                type=click.IntRange(min=0),
                default=0,
                show_default=True,
                metavar="N",
                help="Records that may be left out because they cannot be used.",
            ),
            click.option(
                "--rejects",
                metavar="FILE",
                type=click.Path(path_type=Path),
                help="Where the records that were left out are told.  [default: DIR.rejects.jsonl]",
            ),
        )
    ):
        function = option(function)
    return function


@click.command(cls=Command)
@source_options
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the index, made anew.",
)
@click.option(
    "--recipe",
    type=RecipeName(),
    default="balanced",
    show_default=True,
    metavar="R",
    help="Preset, recipe line or .toml file.",
)
@click.option(
    "--encoder",
    metavar="MODEL",
    help="Model folder or hub id; 'none' with --vectors for an index that takes vectors only.",
)
@click.option(
    "--store-texts/--no-store-texts",
    default=True,
    show_default=True,
    help="Keep the texts, compressed, so that hits can be shown.",
)
@click.option(
    "--store-assignment/--no-store-assignment",
    default=None,
    help="Keep where every original token went, so that hits can be explained.  "
    "[default: where texts cannot be encoded again to find that out]",
)
@click.option(
    "--keep-sample/--no-keep-sample",
    default=None,
    help="Keep some documents' vectors, so that 'verify --quality' can measure again.  "
    "[default: where texts cannot be encoded again]",
)
@click.option(
    "--store-pictures/--no-store-pictures",
    default=None,
    help="Keep a small picture of every page, to be shown.  "
    "[default: where pages are encoded as pictures]",
)
@click.option(
    "--ledger/--no-ledger",
    default=None,
    help="Measure what every stage loses, on queries drawn from the documents.  "
    "[default: up to 100,000 documents]",
)
@click.option(
    "--queries",
    metavar="PATH",
    type=click.Path(path_type=Path, exists=True),
    help="Measure it on these queries: a .jsonl file, or a folder in BEIR's layout.",
)
@click.option(
    "--split",
    metavar="NAME",
    help="By the judgements of this split, too, where --queries names a folder.",
)
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Go on with a build that was begun in DIR, or throw it away.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Encode and reduce in N processes, or in N actors of --ray.  "
    "[default: in this process; with --ray in as many as there is room for]",
)
@click.option(
    "--ray",
    default="",
    metavar="ADDRESS",
    help="Encode and reduce on the machines of a cluster of Ray; 'local' starts one here.",
)
@click.option(
    "--gpus-per-worker",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="GPUs, or the share of one, that each actor of --ray takes.",
)
@click.option(
    "--exchange",
    default="",
    metavar="URL",
    help="Object storage, such as s3://bucket/tmp, that actors of --ray leave finished pieces in.  "
    "[default: Ray brings them]",
)
@shared
def index(
    shared: Shared,
    source: str,
    out: Path,
    recipe: str,
    encoder: str | None,
    vectors: bool,
    memory: str,
    max_pages: int,
    rejects: Path | None,
    **settings: Any,
) -> None:
    """Build an index of SOURCE in a new folder.

    SOURCE is a folder in BEIR's layout, a .jsonl file (packed or not) or a .parquet file of
    documents with _id and text, a data set of the Hugging Face hub (OWNER/NAME), a folder of PDFs
    and pictures of pages, or with --vectors a .npz, .safetensors or .parquet file of vectors, or a
    folder of such files. It is read twice and never held in memory.

    The index appears when it is finished. A build that was stopped, by Ctrl-C, a crash or a full
    disk, keeps what it has finished: the same command goes on with it, and the index comes out the
    same. 'colreduce inspect DIR' says how far it is.

    \b
    Examples:
      colreduce index scifact/ --out idx --encoder MODEL --recipe small
      colreduce index docs.jsonl.gz --out idx --encoder MODEL --memory 1GB --max-rejects 100
      colreduce index BeIR/scifact:corpus --out idx --encoder MODEL
      colreduce index reports/ --out idx --encoder vidore/colqwen2-v1.0-hf --recipe "ward | int8"
      colreduce index pages.npz --vectors --out idx --recipe "ward(factor=8) | int8"
      colreduce index wiki.jsonl --out idx --encoder MODEL --ray auto --gpus-per-worker 0.5
    """
    none, vectors = encoder in (None, "none"), vectors or encoder == "none"
    if none and not vectors:
        raise click.UsageError("Wanted --encoder MODEL, or --vectors if SOURCE holds vectors.")
    if settings["split"] and not settings["queries"]:
        raise click.UsageError("--split says which judgements count: name the folder by --queries.")
    if settings["queries"] and settings["ledger"] is False:
        raise click.UsageError("--queries are what the ledger is measured on: drop --no-ledger.")
    from colreduce.embed import load_encoder
    from colreduce.recipe import Recipe
    from colreduce_indexer.job import build, find_begun
    from colreduce_indexer.plan import Settings
    from colreduce_indexer.sizes import memory as size
    from colreduce_indexer.sources import open_source, suited

    who = _executor(settings, shared.device)
    given: dict[str, Any] = {**settings, "seed": shared.seed, "device": shared.device}
    asked = Settings(recipe=Recipe.parse(recipe), memory=size(memory), **given)
    find_begun(out, asked.resume)
    opened = open_source(source, vectors=vectors, most_pages=max_pages)
    loaded = None if none else load_encoder(encoder, device=shared.device)
    if loaded is not None:
        shared.screen.remark(loaded.describe())
    with _told(shared.screen) as teller, _stopping():
        whole = suited(opened, loaded)
        built = build(
            whole, out, asked, encoder=loaded, rejects_file=rejects, teller=teller, executor=who
        )
    _show(shared.screen, built)


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@source_options
@shared
def add(
    shared: Shared,
    folder: Path,
    source: str,
    vectors: bool,
    memory: str,
    max_pages: int,
    rejects: Path | None,
    **settings: Any,
) -> None:
    """Add the documents of SOURCE to the index in DIR; ids that are there are replaced.

    SOURCE is what 'colreduce index' takes. All of it becomes visible at once, when it is on disk.

    \b
    Examples:
      colreduce add idx new.jsonl
      colreduce add idx pages.npz --vectors
    """
    from colreduce.index import Index
    from colreduce_indexer.job import add_all
    from colreduce_indexer.plan import Settings
    from colreduce_indexer.sizes import memory as size
    from colreduce_indexer.sources import open_source, suited

    opened = open_source(source, vectors=vectors, most_pages=max_pages)
    with Index.open(folder, device=shared.device) as index:
        asked = Settings(recipe=index.recipe, seed=shared.seed, memory=size(memory), **settings)
        encoder = None if vectors else index.encoder
        with _told(shared.screen) as teller:
            taken = add_all(
                index,
                suited(opened, encoder),
                asked,
                encoder=encoder,
                rejects_file=rejects or folder.with_name(f"{folder.name}.rejects.jsonl"),
                teller=teller,
            )
        answer = {
            "format": 1,
            "generation": index.generation,
            "documents": len(index),
            "seconds": taken,
        }
    if shared.screen.as_json:
        shared.screen.document(answer)
    else:
        shared.screen.line(
            f"{folder}: {answer['documents']:,} documents, generation {answer['generation']}"
        )


class _Teller:
    """Shows progress to people, or sends events to machines."""

    def __init__(self, screen: Screen, tell: Tell) -> None:
        self._screen = screen
        self._tell = tell

    def progress(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show progress, unless there are events."""
        if not self._screen.as_json:
            self._tell(what, done, total, note)

    def event(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Send an event."""
        self._screen.event({"event": kind, **facts})

    def remark(self, text: str) -> None:
        """Say a sentence."""
        if self._screen.as_json:
            self.event("remark", {"text": text})
        else:
            self._screen.remark(text)


@contextmanager
def _told(screen: Screen) -> Iterator[_Teller]:
    with screen.progress() as tell:
        yield _Teller(screen, tell)


@contextmanager
def _stopping() -> Iterator[None]:
    """Stop at a SIGTERM as at Ctrl-C, also where a shell has told programs not to hear that."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {one: signal.signal(one, stop) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _executor(settings: dict[str, Any], device: str) -> Executor:
    """Take out of the settings who makes the pieces."""
    from colreduce_indexer.executors import chosen

    names = ("workers", "ray", "gpus_per_worker", "exchange")
    workers, ray, gpus, exchange = (settings.pop(name) for name in names)
    return chosen(workers, ray, gpus, device, exchange)


def _show(screen: Screen, built: Built) -> None:
    if screen.as_json:
        screen.document(built.to_dict())
        return
    about = built.description
    screen.line(
        f"{about['path']}: {about['documents']:,} documents, "
        f"{about['vectors_per_doc']:.1f} vectors each of {about['tokens_per_doc']:.1f} tokens"
    )
    screen.line(f"recipe: {about['recipe']}")
    show_bytes(screen, about)
    if about["ledger"]:
        screen.heading("What every stage lost")
        show_ledger(screen, about["ledger"])
    took = [
        (label, seconds(built.seconds[name]))
        for name, label in STAGES.items()
        if name in built.seconds
    ]
    screen.table(["", ">"], took)
