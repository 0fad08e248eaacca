"""The generated code is that of the protos, and every rpc has its two hand-written ends."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from pathlib import Path

import pytest
from colreduce_service import servicers

from colreduce.rpc.client import Client
from colreduce.rpc.v1 import admin_pb2, search_pb2, tensor_pb2, write_pb2

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "proto" / "colreduce" / "rpc" / "v1"
GENERATED = ROOT / "colreduce" / "rpc" / "v1"
FILES = {"admin": admin_pb2, "search": search_pb2, "tensor": tensor_pb2, "write": write_pb2}

# The client's name for each rpc.
VERBS = {
    "Search": "search",
    "BatchSearch": "search_many",
    "Get": "get",
    "Explain": "explain",
    "Upsert": "upsert",
    "Delete": "delete",
    "ListCollections": "collections",
    "Describe": "describe",
    "CreateCollection": "create",
    "Compact": "compact",
    "Snapshot": "snapshot",
    "DropCollection": "drop",
}


def test_generating_again_gives_the_same_files(tmp_path: Path) -> None:
    generator = Path(os.environ.get("PROTO_VENV", ROOT / ".venv-proto"))
    if not (generator / "bin" / "protoc-gen-mypy").exists():
        pytest.skip(f"no generator in {generator}; proto/generate.sh installs it")
    command = ["sh", str(ROOT / "proto" / "generate.sh"), str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "PROTO_VENV": str(generator)})
    made = {file.name: file.read_bytes() for file in (tmp_path / "colreduce/rpc/v1").iterdir()}
    kept = {
        file.name: file.read_bytes()
        for file in GENERATED.iterdir()
        if file.is_file() and file.name != "__init__.py"
    }
    assert sorted(made) == sorted(kept)
    assert [name for name in made if made[name] != kept[name]] == []


def test_every_proto_is_generated() -> None:
    assert sorted(file.stem for file in PROTOS.glob("*.proto")) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_fields_and_methods_are_those_of_the_proto(name: str) -> None:
    text = re.sub(r"//.*", "", (PROTOS / f"{name}.proto").read_text(encoding="utf-8"))
    descriptor = FILES[name].DESCRIPTOR
    fields = {
        (field.name, field.number)
        for message in descriptor.message_types_by_name.values()
        for field in message.fields
    }
    values = {
        (value.name, value.number)
        for enum in descriptor.enum_types_by_name.values()
        for value in enum.values
    }
    written = re.findall(r"(\w+) = (\d+);", text)
    assert {(field, int(number)) for field, number in written} == fields | values
    methods = [m.name for s in descriptor.services_by_name.values() for m in s.methods]
    assert re.findall(r"rpc (\w+)\(", text) == methods


@pytest.mark.parametrize("name", FILES)
def test_every_field_message_and_method_is_explained(name: str) -> None:
    lines = (PROTOS / f"{name}.proto").read_text(encoding="utf-8").splitlines()
    bare = [
        line.strip()
        for before, line in itertools.pairwise(lines)
        if re.match(r"\s*((message|service|enum|rpc|oneof) \w|\w.* = \d+;)", line)
        and not before.strip().startswith("//")
    ]
    assert bare == []


def test_every_rpc_has_its_method_in_the_servicer_and_in_the_client() -> None:
    for file in FILES.values():
        for service in file.DESCRIPTOR.services_by_name.values():
            hand_written = vars(getattr(servicers, f"{service.name}Servicer"))
            for method in service.methods:
                assert method.name in hand_written
                assert callable(getattr(Client, VERBS[method.name]))
