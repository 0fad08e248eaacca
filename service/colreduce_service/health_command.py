"""The command ``colreduce health``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from colreduce.errors import BadInput, ColreduceError, NotFound

SERVICES = {"search": "colreduce.rpc.v1.Search", "write": "colreduce.rpc.v1.Write"}


@click.command(short_help="Ask a server whether it is ready.")
@click.argument("address", default="127.0.0.1:50051")
@click.option(
    "--service",
    type=click.Choice(sorted(SERVICES)),
    help="Ask about reading or about writing. Default: the server as a whole.",
)
@click.option("--collection", metavar="NAME", help="Ask about one collection. Default: any.")
@click.option("--ca", type=click.Path(path_type=Path), help="Speak TLS and trust this PEM file.")
@click.option(
    "--cert", type=click.Path(path_type=Path), help="The certificate to show to the server, PEM."
)
@click.option("--key", type=click.Path(path_type=Path), help="The key of that certificate, PEM.")
@click.option("--server-name", help="The name that the server's certificate must bear.")
@click.option("--timeout", default=2.0, show_default=True, help="Seconds to wait for an answer.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def health(
    address: str,
    service: str | None,
    collection: str | None,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    server_name: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Ask the server at ADDRESS whether it is ready. No token is needed.

    Exit code 0: it is. 1: it is not, it has no such collection, or it cannot be reached. A server
    may be ready for searching and not for writing, as when the disk is full.

    \b
    Examples:
      colreduce health
      colreduce health 127.0.0.1:50051 --service write --collection papers
    """
    from colreduce.rpc.client import Client

    name = SERVICES[service] if service else ""
    if collection is not None:
        name = f"{name or SERVICES['search']}/{collection}"
    try:
        with Client(address, ca=ca, certificate=cert, key=key, server_name=server_name) as client:
            state = client.health(name, timeout=timeout)
    except BadInput as error:
        raise click.UsageError(str(error)) from error
    except NotFound:
        state = "SERVICE_UNKNOWN"
        click.echo(f"the server at {address} has no collection {collection!r}", err=True)
    except ColreduceError as error:
        state = "UNREACHABLE"
        click.echo(str(error), err=True)
    if as_json:
        click.echo(json.dumps({"format": 1, "address": address, "service": name, "state": state}))
    else:
        click.echo(state)
    raise SystemExit(0 if state == "SERVING" else 1)
