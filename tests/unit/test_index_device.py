"""An index is built and searched on a device that is asked for, and says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from colreduce.cli import main
from colreduce.errors import BadInput
from colreduce.index import Index, resident
from colreduce.ragged import Ragged

COUNT = torch.cuda.device_count() if torch.cuda.is_available() else 0
needs_cuda = [
    pytest.mark.gpu,
    pytest.mark.skipif(not COUNT, reason="there is no CUDA device"),
]
RECIPES = [
    "pca(dim=16) | kmeans(factor=3) | int8 | fde(repetitions=4, bits=3) | maxsim",
    "ward(factor=2) | fp16 | mean | maxsim",
    "rotate | cover(factor=4) | residual(bits=2) | tokens | maxsim",
    "pq(parts=8) | maxsim",
]


def documents(count: int = 300, seed: int = 0) -> Ragged:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(5, 40, (count,), generator=draw)
    around = torch.randn(60, 24, generator=draw)
    which = torch.randint(60, (int(lengths.sum()),), generator=draw)
    tokens = around[which] + 0.5 * torch.randn(len(which), 24, generator=draw)
    return Ragged(torch.nn.functional.normalize(tokens, dim=1), lengths)


def built(folder: Path, recipe: str, device: str) -> Index:
    batch = documents()
    index = Index.create(folder, recipe=recipe, dim=24, device=device)
    index.add([f"d{number:03}" for number in range(len(batch))], embeddings=batch.unpack())
    return index


def test_a_device_that_is_not_there_is_an_error_and_nothing_is_made(tmp_path):
    built(tmp_path / "idx", RECIPES[0], "cpu").close()
    absent = f"cuda:{COUNT}"
    with pytest.raises(BadInput, match=f"device '{absent}' was asked for"):
        Index.open(tmp_path / "idx", device=absent)
    with pytest.raises(BadInput, match=f"device '{absent}' was asked for"):
        Index.create(tmp_path / "new", dim=8, device=absent)
    assert not (tmp_path / "new").exists()


def test_what_was_built_on_a_processor_notes_no_device(tmp_path):
    with built(tmp_path / "idx", RECIPES[0], "cpu") as index:
        assert "ran_on" not in index.describe()["notes"]


def test_a_processor_keeps_nothing_for_a_device(tmp_path, monkeypatch):
    monkeypatch.setattr(resident, "LEAST_VECTORS", 0)
    with built(tmp_path / "idx", RECIPES[0], "cpu") as index:
        [segment] = index.view.segments.values()
        kept = resident.Resident(index.pipeline, segment.stored.codes, segment.stored.lengths)
        assert kept.score(torch.zeros(1, 16), np.arange(300), lambda: None) is None


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("exact", [True, False])
class TestOnDevice:
    pytestmark = needs_cuda

    def test_results_are_those_of_the_processor(self, tmp_path, monkeypatch, recipe, exact):
        monkeypatch.setattr(resident, "LEAST_VECTORS", 0)
        query = documents(1, seed=5).tokens
        with (
            built(tmp_path / "here", recipe, "cpu") as here,
            built(tmp_path / "there", recipe, "cuda:0") as there,
        ):
            stages = there.describe()["notes"]["ran_on"]["stages"]
            assert stages["codec.0"] == "cuda:0"
            wanted = {hit.id: hit.score for hit in here.search(query, 300, exact=exact)}
            found = {hit.id: hit.score for hit in there.search(query, 20, exact=exact)}
            # Codebooks that were learned on another device are others, and so is their rounding.
            within = 0.05 if "pq" in recipe or "residual" in recipe else 2e-3
            gaps = [abs(score - wanted.get(one, np.inf)) for one, score in found.items()]
            assert np.median(gaps) <= within * len(query)
        with Index.open(tmp_path / "there", device="cpu") as again:
            same = again.search(query, 20, exact=exact)
            bound = 1e-4 * len(query)
            assert max(abs(found[hit.id] - hit.score) for hit in same if hit.id in found) <= bound
            assert len({hit.id for hit in same} & set(found)) >= 18

    def test_inspect_says_what_ran_where(self, tmp_path, recipe, exact):
        built(tmp_path / "idx", recipe, "cuda:0").close()
        told = CliRunner().invoke(main, ["inspect", str(tmp_path / "idx"), "--json"])
        noted = json.loads(told.stdout)["notes"]["ran_on"]
        assert noted["device"] == torch.cuda.get_device_name()
        assert "ran on" in CliRunner().invoke(main, ["inspect", str(tmp_path / "idx")]).stdout


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]])
def test_a_build_on_a_device_that_is_not_there_reads_nothing(tmp_path, workers):
    source = tmp_path / "vectors.npz"
    batch = documents(20)
    np.savez(source, tokens=batch.tokens.numpy(), lengths=batch.lengths.numpy())
    asked = ["index", str(source), "--vectors", "--out", str(tmp_path / "idx"), *workers]
    told = CliRunner().invoke(main, [*asked, "--device", f"cuda:{COUNT}"])
    assert told.exit_code == 1
    assert f"device 'cuda:{COUNT}' was asked for" in told.output
    assert not (tmp_path / "idx").exists()
