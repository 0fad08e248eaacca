"""One server for most tests: three collections, of which one is damaged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from colreduce import Client
from tests.service.running import Running, fill, unit_vectors

# One thread on both sides: a matrix product may round differently with another number.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("indexes")
    fill(root / "reduced", "ward(factor=2) | int8 | exhaustive | maxsim")
    fill(root / "staged", "fp32 | mean | maxsim(candidates=5)")
    shutil.copytree(root / "reduced", root / "broken")
    codes = next((root / "broken").glob("segments/*/pack.bin"))
    codes.chmod(0o644)
    damaged = bytearray(codes.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    codes.write_bytes(damaged)
    (root / "no index").mkdir()
    return root


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[Running]:
    with Running(folder, "--reflection") as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Running) -> Iterator[Client]:
    with server.client(collection="reduced", timeout=20) as opened:
        yield opened


@pytest.fixture(scope="session")
def queries() -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    return [unit_vectors(rng, int(rng.integers(1, 9))) for _ in range(8)]
