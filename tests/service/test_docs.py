"""The examples for grpcurl in docs/service.md are requests that the server answers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pool, json_format, message_factory

from colreduce import Index
from tests.service.running import Running

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^grpcurl .*$", PAGE, re.MULTILINE)]
CALLS = [command for command in COMMANDS if command[-1] != "list"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, demo_model: str) -> Iterator[str]:
    root = tmp_path_factory.mktemp("docs")
    (root / "copies").mkdir()
    with Index.create(root / "idx", recipe="exact", encoder=demo_model) as index:
        index.add(
            ["volcanic-gas", "sourdough"],
            ["Gas that cannot escape makes a volcano explode.", "Bread rises by wild yeast."],
            metadata=[{"topic": "geology"}, {"topic": "food"}],
        )
    with Running(root, "--reflection", "--snapshots", str(root / "copies")) as running:
        yield running.address


def test_every_method_has_an_example() -> None:
    methods = {command[-1] for command in CALLS}
    ours = {
        f"colreduce.rpc.v1.{name}"
        for name in (
            "Search/Search",
            "Search/BatchSearch",
            "Search/Get",
            "Search/Explain",
            "Write/Upsert",
            "Write/Delete",
            "Admin/ListCollections",
            "Admin/Describe",
            "Admin/CreateCollection",
            "Admin/Compact",
            "Admin/Snapshot",
            "Admin/DropCollection",
        )
    }
    assert methods == ours | {"grpc.health.v1.Health/Check"}


@pytest.mark.parametrize("command", CALLS, ids=lambda command: command[-1])
def test_an_example_is_answered(address: str, command: list[str]) -> None:
    service, method = command[-1].split("/")
    found = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
    request_type = message_factory.GetMessageClass(found.input_type)
    answer_type = message_factory.GetMessageClass(found.output_type)
    given = command[command.index("-d") + 1] if "-d" in command else "{}"
    request = json_format.Parse(given, request_type())
    with grpc.insecure_channel(address) as channel:
        how = (f"/{command[-1]}", request_type.SerializeToString, answer_type.FromString)
        if found.client_streaming:
            [answer] = channel.stream_stream(*how)(iter([request]), timeout=20)
            assert [item.code for item in answer.items] == [0]
        else:
            answer = channel.unary_unary(*how)(request, timeout=20)
    assert answer.ByteSize() > 0 or command[-1].endswith("DropCollection")
