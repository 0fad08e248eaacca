"""What all commands share: --json, -v and -q, --seed, --device, the environment and the exit code.

0 is done, 1 is failed, 2 is wrong usage. An error raised on purpose becomes one message on stderr.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from colreduce.cli.screen import Screen
from colreduce.errors import ColreduceError

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Shared:
    """The values of the options that every command has."""

    screen: Screen
    seed: int
    device: str


class RecipeName(click.ParamType[str]):
    """A preset's name, a recipe line or a .toml file; ``;`` parts several in the environment."""

    name = "recipe"
    envvar_list_splitter = ";"


class Command(click.Command):
    """A command with the options that all commands share."""

    def __init__(self, name: str | None, **settings: Any) -> None:
        super().__init__(name, **settings)
        self.params += _shared_options()
        for option in self.params:
            if isinstance(option, click.Option) and option.envvar is None and option.name:
                option.envvar = f"COLREDUCE_{option.name.upper()}"

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn errors raised on purpose into a message and exit code 1."""
        given = {name: ctx.params.pop(name) for name in ("as_json", "verbose", "quiet")}
        screen = Screen(as_json=given["as_json"], quiet=given["quiet"])
        ctx.obj = Shared(screen, ctx.params.pop("seed"), ctx.params.pop("device"))
        try:
            with _silenced(given["verbose"], given["as_json"]):
                return super().invoke(ctx)
        except (ColreduceError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            if given["verbose"]:
                click.echo(traceback.format_exc().rstrip(), err=True)
            raise click.ClickException(str(error) or type(error).__name__) from error


def _shared_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--json", "as_json"],
            is_flag=True,
            envvar="COLREDUCE_JSON",
            help="Write one JSON document to stdout, and nothing else there.",
        ),
        click.Option(["--seed"], type=int, default=0, show_default=True, help="Seed of all draws."),
        click.Option(
            ["--device"],
            default="auto",
            show_default=True,
            metavar="auto|cpu|cuda:N",
            help="Where models run, documents pass the recipe, and exact scores are computed.",
        ),
        click.Option(["-v", "--verbose"], is_flag=True, help="Tell more; show where errors arose."),
        click.Option(["-q", "--quiet"], is_flag=True, help="No progress and no remarks."),
    ]


def shared(function: F) -> F:
    """Hand the shared options to a command as its first argument."""
    return click.pass_obj(function)  # type: ignore[return-value]


@contextlib.contextmanager
def _silenced(verbose: bool, as_json: bool) -> Iterator[None]:
    """Keep libraries from talking, and stdout free for the JSON document."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        for name in ("sentence_transformers", "transformers", "httpx", "faiss", "huggingface_hub"):
            logging.getLogger(name).setLevel(logging.ERROR)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_logged(logging.INFO if verbose else logging.WARNING))
        if not verbose:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        if as_json:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


@contextlib.contextmanager
def _logged(level: int) -> Iterator[None]:
    """Send log records to stderr while a command runs."""
    root, handler = logging.getLogger(), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
