"""The command ``colreduce serve``."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from colreduce.errors import BadInput, ColreduceError
from colreduce_service.cores import cores

if TYPE_CHECKING:
    from colreduce_service.server import Server


@click.command(short_help="Serve an index, or a folder of indexes, over gRPC.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--listen",
    default="127.0.0.1:50051",
    show_default=True,
    envvar="COLREDUCE_SERVE_LISTEN",
    show_envvar=True,
    help="Address and port; port 0 takes a free one and says which. unix:/path works, too.",
)
@click.option(
    "--encoder",
    metavar="MODEL",
    envvar="COLREDUCE_SERVE_ENCODER",
    show_envvar=True,
    help="Model that encodes texts. Default: the one each index was built with. 'none': no texts.",
)
@click.option(
    "--read-only",
    is_flag=True,
    envvar="COLREDUCE_SERVE_READ_ONLY",
    help="Follow what another process writes, and write nothing: a replica.",
)
@click.option(
    "--snapshots",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    envvar="COLREDUCE_SERVE_SNAPSHOTS",
    show_envvar=True,
    help="Folder for the files that Snapshot writes; without it there is no Snapshot.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    envvar="COLREDUCE_SERVE_SEED",
    show_envvar=True,
    help="Seed of collections that are made on request.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    envvar="COLREDUCE_SERVE_WORKERS",
    show_envvar=True,
    help="Searches that run at once. Default: one per core.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=1),
    envvar="COLREDUCE_SERVE_QUEUE",
    show_envvar=True,
    help="Searches that may wait; more are turned away at once. Default: as many as are answered "
    "in half of the client's two seconds, by how long searches took lately.",
)
@click.option(
    "--tls-cert",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar="COLREDUCE_SERVE_TLS_CERT",
    show_envvar=True,
    help="The server's certificate, PEM; read again when it changes.",
)
@click.option(
    "--tls-key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar="COLREDUCE_SERVE_TLS_KEY",
    show_envvar=True,
    help="The key of the certificate, PEM.",
)
@click.option(
    "--tls-client-ca",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar="COLREDUCE_SERVE_TLS_CLIENT_CA",
    show_envvar=True,
    help="Let in only clients whose certificate one of these authorities signed, PEM.",
)
@click.option(
    "--tokens",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar="COLREDUCE_SERVE_TOKENS",
    show_envvar=True,
    help="Let in only who shows a token whose hash is in this file; 'colreduce token' makes one.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    default=0.0,
    envvar="COLREDUCE_SERVE_RATE",
    show_envvar=True,
    help="Query vectors x candidates that each caller may ask a second; 0 sets no limit.",
)
@click.option(
    "--reflection/--no-reflection",
    default=False,
    envvar="COLREDUCE_SERVE_REFLECTION",
    help="Tell tools such as grpcurl what can be called. Default: off.",
)
@click.option(
    "--insecure",
    is_flag=True,
    envvar="COLREDUCE_SERVE_INSECURE",
    help="Allow an address that other machines can reach, although nothing is encrypted.",
)
@click.option(
    "--linger",
    type=click.FloatRange(min=0),
    default=0.5,
    show_default=True,
    envvar="COLREDUCE_SERVE_LINGER",
    help="Seconds to go on answering after SIGTERM, so that clients can turn elsewhere.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    envvar="COLREDUCE_SERVE_GRACE",
    help="Seconds that running requests may take after that.",
)
@click.option("--json", "as_json", is_flag=True, help="Say what is served as JSON on stdout.")
def serve(folder: Path, as_json: bool, **options: Any) -> None:
    """Serve the index in DIR, or every index in the folder DIR, over gRPC.

    The server writes to the indexes, too, as long as no other process does; with --read-only it
    follows what another one writes. SIGTERM or Ctrl-C finishes the requests that are running; a
    second one stops at once.

    \b
    Examples:
      colreduce serve idx
      colreduce serve idx --listen 127.0.0.1:0 --json
      colreduce serve indexes/ --reflection
    """
    try:
        _serve(folder, as_json, {key: value for key, value in options.items() if value is not None})
    except BadInput as error:
        if error.field in ("listen", "tls_cert"):
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


def _serve(folder: Path, as_json: bool, options: dict[str, Any]) -> None:
    """Run until a signal comes."""
    # A search uses one thread: requests run side by side instead. Libraries read this when they
    # are loaded, which is below.
    os.environ.setdefault("OMP_NUM_THREADS", _threads(options.get("workers")))
    _log_to_stderr()
    from colreduce_service.server import Server, Settings

    server = Server(folder, Settings(**options))
    server.load()
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: signals.append(number))
    server.serve()
    _announce(server, as_json)
    while not signals:
        time.sleep(0.1)  # a signal is seen within this time
    click.echo("shutting down after the running requests; a second signal stops at once", err=True)
    if server.drain(hurry=lambda: len(signals) > 1):
        logging.shutdown()
        os._exit(1)  # the threads of requests that were cut off would keep the process alive


def _threads(workers: int | None) -> str:
    return str(max(1, cores() // workers)) if workers else "1"


def _log_to_stderr() -> None:
    if not logging.getLogger().handlers:
        form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=form)
    # The libraries below report every file they open.
    for name in ("sentence_transformers", "transformers", "httpx", "faiss"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _announce(server: Server, as_json: bool) -> None:
    """Say on stderr, and as JSON on stdout, that requests are answered from now on."""
    collections = server.indexes.all()
    documents = sum(len(one.index) for one in collections if one.ready)
    for one in collections:
        if one.problem is not None:
            click.echo(f"warning: {one.name} is not served: {one.problem}", err=True)
            continue
        if one.text_problem is not None:
            click.echo(f"note: {one.name} takes vectors only: {one.text_problem}", err=True)
        if one.write_problem is not None and not server.settings.read_only:
            click.echo(f"note: {one.name} cannot be changed: {one.write_problem}", err=True)
    noun = "collection" if len(collections) == 1 else "collections"
    names = ", ".join(one.name for one in collections[:5]) + (", ..." if collections[5:] else "")
    what = f"({names}; {documents:,} documents)" if names else "(CreateCollection makes one)"
    click.echo(
        f"serving {len(collections)} {noun} {what} on {server.listening}. Ctrl-C stops.", err=True
    )
    if as_json:
        held = [
            {
                "name": one.name,
                "ready": one.ready,
                "documents": len(one.index) if one.ready else 0,
                "generation": one.index.generation if one.ready else 0,
                "text_queries": one.text_problem is None,
                "writable": one.write_problem is None,
                "problem": str(one.problem or one.text_problem or ""),
            }
            for one in collections
        ]
        facts = {
            "listening": server.listening,
            "pid": os.getpid(),
            "collections": held,
            "encoders": [one.describe() for one in server.indexes.encoders.all()],
            **_shown(server),
        }
        click.echo(json.dumps(facts))


def _shown(server: Server) -> dict[str, Any]:
    settings = dataclasses.asdict(server.settings)
    shown = ("workers", "queue", "reflection", "insecure", "read_only")
    return {name: settings[name] for name in shown}
