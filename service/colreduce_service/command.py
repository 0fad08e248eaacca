"""The command ``colreduce serve``."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from colreduce.errors import BadInput, ColreduceError
from colreduce_service import settings
from colreduce_service.cores import cores
from colreduce_service.insight.requests import JsonLines

if TYPE_CHECKING:
    from colreduce_service.server import Server

log = logging.getLogger(__name__)

# Tells people on stderr, or the log where that is for machines.
Say: TypeAlias = Callable[..., None]


@click.command(short_help="Serve an index, or a folder of indexes, over gRPC.")
@click.argument("folder", metavar="DIR", required=False, type=click.Path(path_type=Path))
@settings.options
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar="COLREDUCE_SERVE_CONFIG",
    help="Read settings from a TOML file. What is typed or in the environment wins over it.",
)
@click.option(
    "--print-config", is_flag=True, help="Print the settings as such a file, and do not serve."
)
@click.option("--json", "as_json", is_flag=True, help="Say what is served as JSON on stdout.")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.option("-q", "--quiet", is_flag=True, help="Log warnings and errors only.")
@click.pass_context
def serve(
    context: click.Context,
    /,
    folder: Path | None,
    config: Path | None,
    print_config: bool,
    as_json: bool,
    verbose: bool,
    quiet: bool,
    **_: Any,
) -> None:
    """Serve the index in DIR, or every index in the folder DIR, over gRPC.

    The server writes to the indexes, too, as long as no other process does; with --read-only it
    follows what another one writes. SIGTERM or Ctrl-C finishes the requests that are running; a
    second one stops at once.

    \b
    Examples:
      colreduce serve idx
      colreduce serve idx --listen 127.0.0.1:0 --json
      colreduce serve indexes/ --config service.toml
      colreduce serve --print-config > service.toml
    """
    try:
        chosen, origins = settings.gather(context, config)
        strange = settings.strange_variables()
        if print_config:
            for one in strange:
                click.echo(f"note: {one}", err=True)
            if as_json:
                click.echo(json.dumps({"format": 1, "settings": settings.plain(chosen)}))
            else:
                click.echo(settings.to_toml(chosen, origins), nl=False)
            return
        if folder is None:
            raise click.UsageError("Missing argument 'DIR': an index, or a folder of indexes.")
        level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
        _log_to_stderr(level, as_json=chosen.log_json)
        say = _say_as_json if chosen.log_json else _say
        for one in strange:
            say(one, "note")
        _serve(folder, as_json, chosen, say)
    except BadInput as error:
        if error.field in settings.FIELDS or error.field == "config":
            raise click.UsageError(str(error)) from error
        raise click.ClickException(str(error)) from error
    except ColreduceError as error:
        raise click.ClickException(str(error)) from error


@click.command(short_help="Make a token for 'colreduce serve --tokens'.")
@click.argument("name")
@click.argument("role", type=click.Choice(["read", "write", "admin"]))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def token(name: str, role: str, as_json: bool) -> None:
    """Make a token for NAME and print it, with the line for the server's file of tokens.

    The file holds only hashes, so a token is shown once, here. A server that runs reads the file
    again when it changes: a line that is added lets somebody in, a line that goes shuts him out.

    \b
    Examples:
      colreduce token ada read
      colreduce serve idx --tokens tokens.txt
    """
    from colreduce_service.access import new_token

    try:
        secret, entry = new_token(name, role)
    except BadInput as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        click.echo(json.dumps({"format": 1, "token": secret, "line": entry.line()}))
        return
    click.echo("The token, for the caller to keep:", err=True)
    click.echo(secret)
    click.echo("The line for the server's file of tokens:", err=True)
    click.echo(entry.line())


def _say(text: str, kind: str = "") -> None:
    click.echo(f"{kind}: {text}" if kind else text, err=True)


def _say_as_json(text: str, kind: str = "") -> None:
    log.log(logging.WARNING if kind == "warning" else logging.INFO, "%s", text)


def _serve(folder: Path, as_json: bool, chosen: settings.Settings, say: Say) -> None:
    """Run until a signal comes."""
    # A search uses one thread: requests run side by side instead. Libraries read this when they
    # are loaded, which is below.
    os.environ.setdefault("OMP_NUM_THREADS", _threads(chosen.workers))
    from colreduce_service.server import Server

    server = Server(folder, chosen)
    server.load()
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: signals.append(number))
    server.serve()
    _announce(server, as_json, say)
    while not signals:
        time.sleep(0.1)  # a signal is seen within this time
    say("shutting down after the running requests; a second signal stops at once")
    if server.drain(hurry=lambda: len(signals) > 1):
        logging.shutdown()
        os._exit(1)  # the threads of requests that were cut off would keep the process alive


def _threads(workers: int) -> str:
    return str(max(1, cores() // workers)) if workers else "1"


def _log_to_stderr(level: int, *, as_json: bool) -> None:
    if not logging.getLogger().handlers:
        form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        logging.basicConfig(stream=sys.stderr, level=level, format=form)
    if as_json:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonLines())
    # The libraries below report every file they open.
    for name in ("sentence_transformers", "transformers", "httpx", "faiss"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _announce(server: Server, as_json: bool, say: Say) -> None:
    """Say on stderr, and as JSON on stdout, that requests are answered from now on."""
    collections = server.indexes.all()
    documents = sum(one.documents for one in collections if one.ready)
    for one in collections:
        if one.problem is not None:
            state = "is served only in part" if one.ready else "is not served"
            say(f"{one.name} {state}: {one.problem}", "warning")
            continue
        if one.text_problem is not None:
            say(f"{one.name} takes vectors only: {one.text_problem}", "note")
        if one.write_problem is not None and not server.settings.read_only:
            say(f"{one.name} cannot be changed: {one.write_problem}", "note")
    noun = "collection" if len(collections) == 1 else "collections"
    names = ", ".join(one.name for one in collections[:5]) + (", ..." if collections[5:] else "")
    what = f"({names}; {documents:,} documents)" if names else "(CreateCollection makes one)"
    say(f"serving {len(collections)} {noun} {what} on {server.listening}. Ctrl-C stops.")
    if server.console:
        say(f"console: http://{server.console}/")
    if server.metrics:
        say(f"metrics for Prometheus: http://{server.metrics}/metrics")
    if as_json:
        held = [
            {
                "name": one.name,
                "ready": one.ready,
                "documents": one.documents if one.ready else 0,
                "generation": one.generation if one.ready else 0,
                "text_queries": one.text_problem is None,
                "writable": one.write_problem is None,
                "problem": str(one.problem or one.text_problem or ""),
            }
            for one in collections
        ]
        facts = {
            "listening": server.listening,
            "console": server.console,
            "metrics": server.metrics,
            "pid": os.getpid(),
            "collections": held,
            "encoders": [one.describe() for one in server.indexes.encoders.all()],
            "settings": settings.plain(server.settings),
        }
        click.echo(json.dumps(facts))
