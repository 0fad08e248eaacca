"""Write docs/commands.md from the help of the commands.

python docs/write_commands.py            write the page
python docs/write_commands.py --check    exit 1 when the page is not what would be written
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from colreduce.cli import main as program
from colreduce.cli.options import Command

PAGE = Path(__file__).parent / "commands.md"

INTRO = """\
# Commands

<!-- Written by docs/write_commands.py from the help of the commands. Change the docstring or the
option in the code, then run `make docs`. -->

Everything is done with one program, `colreduce`. `colreduce COMMAND --help` prints what stands
here.

**Where output goes.** Results go to stdout. Progress and messages go to stderr: a bar when it is a
terminal, plain lines when it is not. With `--json` one JSON document is written to stdout and
nothing else.

**Exit codes.** 0: done. 1: failed; the reason is on stderr. 2: wrong usage.

**Environment.** Every option can be set by a variable. `COLREDUCE_SEARCH_K=3` is
`colreduce search -k 3`; without the command's name, as in `COLREDUCE_ENCODER`, it holds for every
command that has the option. What is typed wins over the environment.

**SOURCE** is a folder in BEIR's layout (`corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.tsv`, each of
them also as `.gz`), a JSONL file, or vectors made elsewhere.

**R**, a recipe, is a preset's name, a recipe line or a `.toml` file: see [recipes.md](recipes.md).

**MODEL** is a folder or a hub id that sentence-transformers loads.
"""


def page() -> str:
    """Return the whole page."""
    found = list(commands())
    parts = [INTRO, "| command | does |\n|---|---|"]
    parts += [f"| [`{name}`](#colreduce-{name}) | {_first(one)} |" for name, one in found]
    parts.append("\n## Options of every command\n")
    parts.append(_options([*_shared()]))
    parts += [_section(name, command) for name, command in found]
    return "\n".join(parts)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its name, in the order of `colreduce --help`."""
    context = click.Context(program)
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        if command is not None:
            yield name, command


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"colreduce {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    words, examples = _help(command)
    parts = [f"## `colreduce {name}`\n", f"    colreduce {name} {usage}\n", f"{words}\n"]
    if examples:
        parts.append("```\n" + "\n".join(examples) + "\n```\n")
    common = {option.name for option in _shared()}
    own = [
        option
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden and option.name not in common
    ]
    if own:
        parts.append(_options(own))
    return "\n".join(parts)


def _help(command: click.Command) -> tuple[str, list[str]]:
    """Part the help into its words and its examples."""
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    words, _, examples = text.partition("Examples:\n")
    return words.strip(), [line.strip() for line in examples.strip().splitlines()]


def _first(command: click.Command) -> str:
    return " ".join(_help(command)[0].split("\n\n")[0].split())


def _options(options: list[click.Option]) -> str:
    lines = ["| option | default | what it does |", "|---|---|---|"]
    context = click.Context(program)
    for option in options:
        names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
        if not option.is_flag:
            ranged = option.metavar is None and isinstance(option.type, click.IntRange)
            names += f" {'N' if ranged else _cell(option.make_metavar(context))}"
        lines.append(f"| {names} | {_default(option)} | {_cell(option.help or '')} |")
    return "\n".join(lines) + "\n"


def _default(option: click.Option) -> str:
    value = option.default
    if option.is_flag or value is None or value == () or not option.show_default:
        return ""
    values = value if isinstance(value, list | tuple) else [value]
    return ", ".join(f"`{one}`" for one in values)


def _shared() -> list[click.Option]:
    return [option for option in Command("any").params if isinstance(option, click.Option)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Write the page, or compare it with what would be written."""
    if "--check" in arguments:
        return 0 if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page() else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
