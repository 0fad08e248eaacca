"""An environment for each peer, made once and kept in the cache folder."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.table import Peer
from colreduce.evaluate.embeddings import cache_folder

STAMP = "installed.json"


class CannotInstall(RuntimeError):
    """pip could not install what a peer needs."""


def interpreter(peer: Peer) -> Path:
    """Return the interpreter a peer's adapter runs with, installing its packages if need be."""
    if not peer.needs:
        return Path(sys.executable)
    folder = cache_folder() / "peers" / peer.environment
    python = folder / "bin" / "python"
    if _stamp(folder) != _wanted(peer):
        sys.stderr.write(f"installing {', '.join(peer.needs)}\n")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "numpy", *peer.needs]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode:
            words = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise CannotInstall(f"pip: {(words or ['failed'])[0]}")
        (folder / STAMP).write_text(json.dumps(_wanted(peer)), encoding="utf-8")
    return python


def packages(python: Path) -> dict[str, str]:
    """Return the name and version of everything in an environment."""
    asked = [str(python), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    return {one["name"]: one["version"] for one in json.loads(done.stdout)}


def _wanted(peer: Peer) -> str:
    return hashlib.sha256("\n".join(peer.needs).encode()).hexdigest()


def _stamp(folder: Path) -> str | None:
    file = folder / STAMP
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
