"""How to serve: every setting once, with its meaning, as an option, a variable and a key of a file.

What is typed wins over the environment, the environment over the file, the file over the default.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, get_type_hints

import click

from colreduce.choose import hint
from colreduce.errors import BadInput
from colreduce_service.cores import cores

PREFIX = "COLREDUCE_SERVE_"

# Where a value came from, weakest first.
ORIGINS = ("default", "file", "environment", "command line")

Origins: TypeAlias = dict[str, str]


class Option(click.Option):
    """An option that tells whoever gave a wrong value by a variable which variable it was."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Name what has to be changed."""
        typed = super().get_error_hint(ctx)
        source = None if ctx is None else ctx.get_parameter_source(str(self.name))
        if source is not click.core.ParameterSource.ENVIRONMENT:
            return typed
        given = [one for one in self.envvar or () if os.environ.get(one)]
        return f"{typed} (from {given[0]})" if given else typed


class Amount(click.FloatRange):
    """A number that is one, and has an end."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Read it as click does, and refuse infinity and what is no number."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not finite", param, ctx)
        return found


def setting(default: Any, says: str, **how: Any) -> Any:
    """Declare a setting: its default, what it means, and how click reads it."""
    return field(default=default, metadata={"says": says, **how})


@dataclass(frozen=True, slots=True)
class Settings:
    """How to serve. A new setting is one line here; option, variable and key follow from it."""

    listen: str = setting(
        "127.0.0.1:50051",
        "Address and port; port 0 takes a free one and says which. unix:/path works, too.",
    )
    share_port: bool = setting(
        False,
        "Let other servers listen on the same address: the system deals connections out among "
        "them. For several --read-only servers of one index.",
    )
    read_only: bool = setting(
        False, "Follow what another process writes, and write nothing: a replica."
    )
    ray: str = setting(
        "",
        "Cluster of Ray in which the shards of a collection are searched; 'local' starts one here. "
        "Default: they are searched in this process.",
        metavar="ADDRESS",
    )
    replicas: int = setting(
        1, "Replicas of every shard in the cluster.", type=click.IntRange(min=1)
    )
    encoder: tuple[str, ...] = setting(
        (),
        "Model that encodes texts; may be given several times. Default: the one each index was "
        "built with. 'none': no texts.",
        metavar="MODEL",
    )
    device: str = setting(
        "auto", "Where models run that --encoder names.", metavar="auto|cpu|cuda:N"
    )
    seed: int = setting(0, "Seed of collections that are made on request.")
    snapshots: Path | None = setting(
        None, "Folder for the files that Snapshot writes; without it there is no Snapshot."
    )
    workers: int = setting(
        0,
        "Searches that run at once. Default: one more than cores: while one is read or answered, "
        "another has the core.",
        type=click.IntRange(min=0),
    )
    queue: int = setting(
        0,
        "Searches that may wait; more are turned away at once. Default: as many as are answered in "
        "half of the client's two seconds, by how long searches took lately.",
        type=click.IntRange(min=0),
    )
    tls_cert: Path | None = setting(
        None, "The server's certificate, PEM; read again when it changes."
    )
    tls_key: Path | None = setting(None, "The key of the certificate, PEM.")
    tls_client_ca: Path | None = setting(
        None, "Let in only clients whose certificate one of these authorities signed, PEM."
    )
    tokens: Path | None = setting(
        None,
        "Let in only who shows a token whose hash is in this file; 'colreduce token' makes one.",
    )
    rate: float = setting(
        0.0,
        "Query vectors x candidates that each caller may ask a second; 0 sets no limit.",
        type=Amount(min=0),
    )
    insecure: bool = setting(
        False, "Allow an address that other machines can reach, although nothing is encrypted."
    )
    reflection: bool = setting(False, "Tell tools such as grpcurl what can be called.")
    console: str = setting(
        "",
        "Address of a web page to search and look around, such as 127.0.0.1:8080. Default: none.",
    )
    metrics: str = setting(
        "", "Address where Prometheus reads metrics, such as 127.0.0.1:9464. Default: none."
    )
    shadow: int = setting(
        0,
        "Of so many searches one is scored again exactly, in the background, and the metrics say "
        "how much of it had been found; 0: none.",
        type=click.IntRange(min=0),
    )
    log_requests: bool = setting(False, "Log a line for every request.")
    log_json: bool = setting(False, "Log as lines of JSON.")
    traces: bool = setting(
        False, "Send OpenTelemetry a trace of every request; its OTEL_... variables say where."
    )
    linger: float = setting(
        0.5,
        "Seconds to go on answering after SIGTERM, so that clients can turn elsewhere.",
        type=Amount(min=0),
    )
    grace: float = setting(
        30.0,
        "Seconds that running requests may take after that.",
        type=Amount(min=0),
    )

    def resolved(self) -> Settings:
        """Return the settings with the number of workers when that was left to the server.

        Raise where two of them do not go together.
        """
        if self.replicas > 1 and not self.ray:
            raise BadInput(
                f"{self.replicas} replicas of every shard need a cluster to be in: give --ray, too",
                field="replicas",
            )
        return dataclasses.replace(self, workers=self.workers or cores() + 1)


FIELDS = {one.name: one for one in dataclasses.fields(Settings)}
HINTS = get_type_hints(Settings)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one option for every setting; those that nobody set arrive as None."""
    for one in reversed(dataclasses.fields(Settings)):
        command = click.option(*_flags(one), cls=Option, **_option(one))(command)
    return command


def gather(context: click.Context, file: Path | None) -> tuple[Settings, Origins]:
    """Put the settings together from the file, the environment and what was typed."""
    values: dict[str, Any] = {}
    origins = dict.fromkeys(FIELDS, "default")
    if file is not None:
        for name, value in read_file(file).items():
            values[name], origins[name] = value, "file"
    for name in FIELDS:
        source = context.get_parameter_source(name)
        if source is click.core.ParameterSource.ENVIRONMENT:
            values[name], origins[name] = context.params[name], "environment"
        elif source is click.core.ParameterSource.COMMANDLINE:
            values[name], origins[name] = context.params[name], "command line"
    return Settings(**values), origins


def read_file(path: Path) -> dict[str, Any]:
    """Read settings from a TOML file; a key that is none is answered with a suggestion."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the settings in {path}: {error}", field="config") from error
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not valid TOML: {error}", field="config") from error
    return {name: _from_file(path, name, value) for name, value in given.items()}


def strange_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Say which variables look like a setting and are none.

    They are not refused: Kubernetes puts variables of its own making beside every service.
    """
    known = {f"{PREFIX}{name.upper()}" for name in (*FIELDS, "config")}
    return [
        f"{name} is no setting.{hint(name, known)}"
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known
    ]


def to_toml(settings: Settings, origins: Origins) -> str:
    """Write the settings as a file that --config reads, with where each value came from."""
    lines = ["# What 'colreduce serve' would run with. Typed wins over the environment, the"]
    lines.append("# environment over the file, the file over the default.")
    for name, one in FIELDS.items():
        value = getattr(settings, name)
        lines += ["", f"# {one.metadata['says']}"]
        if value is None:
            lines.append(f"# {name} =  (not set)")
        else:
            lines.append(f"{name} = {_literal(value)}  # {origins[name]}")
    return "\n".join(lines) + "\n"


def plain(settings: Settings) -> dict[str, Any]:
    """Return the settings as values that JSON can hold."""
    found = dataclasses.asdict(settings)
    return {name: str(one) if isinstance(one, Path) else one for name, one in found.items()}


def _flags(one: dataclasses.Field[Any]) -> list[str]:
    flag = one.name.replace("_", "-")
    return [f"--{flag}/--no-{flag}" if HINTS[one.name] is bool else f"--{flag}", one.name]


def _option(one: dataclasses.Field[Any]) -> dict[str, Any]:
    kind, says = HINTS[one.name], one.metadata["says"]
    how: dict[str, Any] = {"default": None, "envvar": _variables(one.name), "help": says}
    if kind is bool:
        return how
    if kind == tuple[str, ...]:
        how |= {"multiple": True, "type": str}
    elif kind == Path | None:
        how |= {"type": click.Path(path_type=Path), "metavar": "PATH"}
    else:
        how |= {"type": kind}
        if one.default not in (0, 0.0):
            how["help"] = f"{says} Default: {one.default}."
    return how | {key: value for key, value in one.metadata.items() if key != "says"}


def _variables(name: str) -> list[str]:
    return [f"{PREFIX}{name.upper()}", f"COLREDUCE_{name.upper()}"]


def _from_file(path: Path, name: str, value: Any) -> Any:
    """Return a value of a file in the setting's own type."""
    if name not in FIELDS:
        raise BadInput(f"{path}: there is no setting {name!r}.{hint(name, FIELDS)}", field="config")
    kind = HINTS[name]
    if kind == tuple[str, ...] and isinstance(value, str):
        value = [value]
    where = f"{path}: {name} = {value!r}"
    wanted, fits = _expected(kind, value)
    if not fits:
        raise BadInput(f"{where}: wanted {wanted}", field="config")
    if kind == tuple[str, ...]:
        return tuple(value)
    if kind == Path | None:
        # A path in a file is meant from where the file lies, wherever the server is started.
        return path.parent / value
    reader = click.types.convert_type(FIELDS[name].metadata.get("type", kind))
    try:
        return reader.convert(value, None, None)
    except click.BadParameter as error:
        raise BadInput(f"{where}: {error.message}", field="config") from error


def _expected(kind: Any, value: Any) -> tuple[str, bool]:
    """Say in words what a setting takes, and whether a value of a file is that."""
    if kind is bool:
        return "true or false", isinstance(value, bool)
    if kind == tuple[str, ...]:
        texts = isinstance(value, list) and all(isinstance(one, str) for one in value)
        return "a text or a list of texts", texts
    if kind is int:
        return "a whole number", isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return "a number", isinstance(value, (int, float)) and not isinstance(value, bool)
    return "a text", isinstance(value, str)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Path):  # a path in a file is meant from where the file lies
        return _literal(str(value.absolute()))
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"[{', '.join(_literal(one) for one in value)}]"
    return str(value)
