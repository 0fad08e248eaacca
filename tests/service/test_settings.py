"""Every setting is an option, a variable and a key of a file, with one order of precedence."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from colreduce_service import settings
from colreduce_service.command import serve
from colreduce_service.settings import FIELDS, Settings, read_file, strange_variables

from colreduce.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]

# A value for every setting that is not its default.
VALUES: dict[str, Any] = {
    "listen": "127.0.0.1:7",
    "share_port": True,
    "read_only": True,
    "ray": "10.0.0.1:6379",
    "replicas": 2,
    "encoder": ("one", "two"),
    "device": "cpu",
    "seed": 3,
    "snapshots": Path("/copies"),
    "workers": 2,
    "queue": 5,
    "tls_cert": Path("/tls/a.crt"),
    "tls_key": Path("/tls/a.key"),
    "tls_client_ca": Path("/tls/ca.crt"),
    "tokens": Path("/tokens.txt"),
    "rate": 2.5,
    "insecure": True,
    "reflection": True,
    "console": "127.0.0.1:8080",
    "metrics": "127.0.0.1:9464",
    "shadow": 100,
    "log_requests": True,
    "log_json": True,
    "traces": True,
    "linger": 1.5,
    "grace": 7.0,
}


def ran(*typed: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(serve, [*typed, "--print-config"], env=env)


def chosen(*typed: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the settings that a server would run with, as it prints them."""
    answer = ran(*typed, env=env)
    assert answer.exit_code == 0, answer.output
    return tomllib.loads(answer.stdout)


def typed_as(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is True:
        return [flag]
    every = value if isinstance(value, tuple) else [value]
    return [word for one in every for word in (flag, str(one))]


def as_variable(value: Any) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


def as_key(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"{name} = {str(value).lower()}\n"
    if isinstance(value, tuple):
        return f"{name} = {list(value)}\n"
    return f'{name} = "{value}"\n' if isinstance(value, str | Path) else f"{name} = {value}\n"


def plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def test_there_is_a_value_to_try_for_every_setting() -> None:
    assert set(VALUES) == set(FIELDS)
    assert [name for name in FIELDS if VALUES[name] == getattr(Settings(), name)] == []


@pytest.mark.parametrize("name", FIELDS)
def test_a_setting_means_the_same_typed_in_the_environment_and_in_a_file(
    name: str, tmp_path: Path
) -> None:
    value = VALUES[name]
    file = tmp_path / "serve.toml"
    file.write_text(as_key(name, value))
    ways = {
        "command line": chosen(*typed_as(name, value)),
        "environment": chosen(env={f"COLREDUCE_SERVE_{name.upper()}": as_variable(value)}),
        "shared by all commands": chosen(env={f"COLREDUCE_{name.upper()}": as_variable(value)}),
        "file": chosen("--config", str(file)),
        "file named by a variable": chosen(env={"COLREDUCE_SERVE_CONFIG": str(file)}),
    }
    assert {way: found[name] for way, found in ways.items()} == dict.fromkeys(ways, plain(value))
    assert read_file(file) == {name: value}


def test_typed_wins_over_the_environment_and_that_over_the_file_and_that_over_the_default(
    tmp_path: Path,
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text("workers = 1\nqueue = 1\nseed = 1\nreflection = true\n")
    env = {"COLREDUCE_SERVE_WORKERS": "2", "COLREDUCE_SERVE_QUEUE": "2"}
    answer = ran("--config", str(file), "--workers", "3", "--no-reflection", env=env)
    found = tomllib.loads(answer.stdout)
    assert [found[one] for one in ("workers", "queue", "seed", "grace", "reflection")] == [
        3,
        2,
        1,
        30.0,
        False,
    ]
    said = dict(re.findall(r"^(\w+) = .*  # (.*)$", answer.stdout, re.MULTILINE))
    assert [said[one] for one in ("workers", "queue", "seed", "grace")] == [
        "command line",
        "environment",
        "file",
        "default",
    ]


def test_what_is_printed_is_a_file_that_means_the_same(tmp_path: Path) -> None:
    typed = [word for name, value in VALUES.items() for word in typed_as(name, value)]
    odd = tmp_path / 'a "quoted" \\ name'
    first = ran(*typed, "--tokens", str(odd))
    file = tmp_path / "serve.toml"
    file.write_text(first.stdout)
    assert read_file(file) == {**VALUES, "tokens": odd}
    again = chosen("--config", str(file))
    assert again == tomllib.loads(first.stdout)
    assert chosen()["listen"] == "127.0.0.1:50051"


def test_a_path_in_a_file_is_meant_from_where_the_file_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "serve.toml").write_text('tokens = "tokens.txt"\n')
    monkeypatch.chdir(tmp_path)
    assert chosen("--config", "etc/serve.toml")["tokens"] == str(tmp_path / "etc" / "tokens.txt")
    assert chosen("--tokens", "tokens.txt")["tokens"] == str(tmp_path / "tokens.txt")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lissten = 'x'", "Did you mean 'listen'"),
        ("worker = 2", "Did you mean 'workers'"),
        ("[serve]\nworkers = 2", "there is no setting 'serve'"),
        ("workers = 'two'", "workers = 'two': wanted a whole number"),
        ("workers = -1", "workers = -1"),
        ("workers = true", "wanted a whole number"),
        ("tokens = 3", "wanted a text"),
        ("workers = 1.5", "wanted a whole number"),
        ("reflection = 'yes'", "wanted true or false"),
        ("encoder = 3", "a text or a list of texts"),
        ("listen = 50051", "wanted a text"),
        ("rate = nan", "rate = nan: nan is not finite"),
        ("grace = inf", "inf is not finite"),
        ("rate = -1.0", "rate"),
        ("listen = ", "not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_wrong_usage_and_says_what_is_wrong(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(text)
    answer = ran("--config", str(file))
    assert answer.exit_code == 2
    assert said in answer.output
    with pytest.raises(BadInput, match=r"serve\.toml"):
        read_file(file)


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    answer = ran("--config", str(tmp_path / "none.toml"))
    assert answer.exit_code == 2
    assert "cannot read the settings" in answer.output


def test_a_variable_that_is_nearly_a_setting_is_noted() -> None:
    env = {"COLREDUCE_SERVE_WORKER": "2", "COLREDUCE_SERVE_LISTEN": "x", "OTHER": "y"}
    [note] = strange_variables(env)
    assert "COLREDUCE_SERVE_WORKER is no setting" in note
    assert "COLREDUCE_SERVE_WORKERS" in note
    answer = ran(env=env)
    assert answer.exit_code == 0
    assert "is no setting" in answer.stderr


def test_a_wrong_variable_is_called_by_its_name() -> None:
    answer = CliRunner().invoke(serve, ["x"], env={"COLREDUCE_SERVE_QUEUE": "many"})
    assert answer.exit_code == 2
    assert "'--queue' (from COLREDUCE_SERVE_QUEUE)" in answer.output
    answer = CliRunner().invoke(serve, ["x", "--queue", "many"])
    assert "'--queue': 'many'" in answer.output


def test_the_settings_are_printed_as_json_where_that_is_asked_for() -> None:
    answer = ran("--json", "--workers", "3")
    found = json.loads(answer.stdout)
    assert found["format"] == 1
    assert found["settings"] == {**settings.plain(Settings()), "workers": 3, "encoder": []}


def test_replicas_need_a_cluster(tmp_path: Path) -> None:
    answer = CliRunner().invoke(serve, [str(tmp_path), "--replicas", "3"])
    assert answer.exit_code == 2
    assert "give --ray, too" in answer.output


def test_to_serve_needs_a_folder_and_to_print_does_not() -> None:
    answer = CliRunner().invoke(serve, [])
    assert answer.exit_code == 2
    assert "Missing argument 'DIR'" in answer.output


def test_the_file_that_the_page_shows_can_be_read(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "serve.toml").write_text(shown)
    assert len(read_file(tmp_path / "serve.toml")) >= 4
