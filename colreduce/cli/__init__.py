"""The program ``colreduce``.

Sub-commands are modules of their own that are imported when they are called. Those of the indexer
and of the service are found through the entry points ``colreduce.commands``, so that the library
never imports the programs built on it.
"""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version

import click

GROUP = "colreduce.commands"

# What --help says of each command, so that none of them has to be imported for it.
COMMANDS = {
    "demo": "Index a bundled sample, search it, and show what was lost. Offline.",
    "index": "Build an index from documents or vectors.",
    "add": "Add documents to an index, or replace those that are there.",
    "delete": "Delete documents.",
    "get": "Show stored documents.",
    "search": "Search an index for a text.",
    "explain": "Say why a document has its score, down to the original tokens.",
    "evaluate": "Measure recipes on judged queries, with the loss of every stage.",
    "plan": "Choose a recipe that is as small, as fast or as good as it must be.",
    "train": "Train a model so that few vectors do.",
    "inspect": "Show what an index holds and what it costs.",
    "compact": "Move all documents into one segment; --purge removes deleted bytes.",
    "snapshot": "Write a complete copy of an index into one file.",
    "restore": "Make an index from such a file.",
    "shard": "Split an index into shards that are served as one collection.",
    "export": "Write all documents for Parquet, safetensors, Qdrant, LanceDB or Vespa.",
    "verify": "Read every byte again and name what is damaged.",
    "methods": "List every method of every stage, or explain one.",
    "serve": "Serve an index, or a folder of indexes, over gRPC.",
    "token": "Make a token that a server lets in.",
    "health": "Ask a server whether it is ready.",
}
# The module of each command of our own.
HERE = {
    **{
        name: name
        for name in (
            "demo",
            "search",
            "explain",
            "evaluate",
            "inspect",
            "shard",
            "export",
            "methods",
        )
    },
    "plan": "plan",
    "train": "train",
    **dict.fromkeys(("delete", "get", "compact", "snapshot", "restore"), "live"),
    "verify": "verify",
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names: our own in their order, then those of other packages."""
        found = _elsewhere()
        ours = [name for name in COMMANDS if name in HERE or name in found]
        return ours + sorted(set(found) - set(ours))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name in HERE:
            module = importlib.import_module(f"colreduce.cli.{HERE[cmd_name]}")
            command: click.Command = getattr(module, cmd_name)
            return command
        found = _elsewhere().get(cmd_name)
        return None if found is None else found.load()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed; suggest one when there is none of that name."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            from colreduce.choose import hint

            ctx.fail(f"No such command {args[0]!r}.{hint(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        lines = []
        for name in self.list_commands(ctx):
            found = _elsewhere().get(name)
            lines.append((name, COMMANDS.get(name) or f"From {found.module if found else name}."))
        with formatter.section("Commands"):
            formatter.write_dl(lines)


def _elsewhere() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    try:
        click.echo(f"colreduce {version('colreduce')}")
    except PackageNotFoundError:
        click.echo("colreduce, not installed")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"auto_envvar_prefix": "COLREDUCE", "help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Print the version and exit.",
)
def main() -> None:
    """Multi-vector search that says what it lost.

    Results go to stdout, as JSON with --json; progress and messages go to stderr. Every option of
    a command can be set through the environment: --encoder of index is COLREDUCE_INDEX_ENCODER, or
    COLREDUCE_ENCODER for all commands at once.

    \b
    Examples:
      colreduce demo
      colreduce index corpus/ --out idx --encoder MODEL --recipe balanced
      colreduce search idx "why is the sky blue"
    """
