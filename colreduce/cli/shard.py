"""The command ``colreduce shard``."""

from __future__ import annotations

from pathlib import Path

import click

from colreduce.cli.options import Command, Shared, shared


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the shards: a new one, or one with shards that these take the place of.",
)
@click.option(
    "--shards", type=click.IntRange(min=1), required=True, metavar="N", help="How many shards."
)
@shared
def shard(shared: Shared, folder: Path, out: Path, shards: int) -> None:
    """Split the index in DIR into shards, each an ordinary index, to be served as one collection.

    Nothing is encoded again. A document goes where its id tells. A server that serves --out takes
    over the new shards by itself; earlier ones are left for you to remove.

    \b
    Examples:
      colreduce shard idx --out shards --shards 8
      colreduce serve shards --ray 10.0.0.1:6379 --replicas 2
    """
    from colreduce.index.shards import split

    with shared.screen.progress() as tell:
        made = split(folder, out, shards, lambda done: tell("shard", done + 1, shards, ""))
    if shared.screen.as_json:
        shared.screen.document(
            {"format": 1, "record": made.number, "shards": [str(out / one) for one in made.folders]}
        )
        return
    shared.screen.line(f"{out}: {shards:,} shards, record {made.number}")
