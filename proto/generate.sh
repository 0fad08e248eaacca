#!/bin/sh
# Write the Python code and the type stubs of the protos, in an environment of their own.
#
#   proto/generate.sh            into colreduce/rpc/v1
#   proto/generate.sh FOLDER     into FOLDER/colreduce/rpc/v1
#
# The generator is old on purpose: its version is the oldest protobuf and grpcio that users may
# have (docs/decisions/0005-generated-code.md). PYTHON chooses the interpreter, PROTO_VENV the
# environment.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
out=$(mkdir -p "${1:-$root}" && cd "${1:-$root}" && pwd)
venv=${PROTO_VENV:-$root/.venv-proto}

if [ ! -x "$venv/bin/protoc-gen-mypy" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet \
        grpcio-tools==1.68.1 mypy-protobuf==3.6.0 protobuf==5.29.6 'setuptools<80'
fi

cd "$root/proto"
PATH="$venv/bin:$PATH" "$venv/bin/python" -W ignore -m grpc_tools.protoc -I. \
    --python_out="$out" --grpc_python_out="$out" \
    --mypy_out="quiet:$out" --mypy_grpc_out="quiet:$out" \
    colreduce/rpc/v1/*.proto
