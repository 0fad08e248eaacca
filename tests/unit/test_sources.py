from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from colreduce_indexer.sources import open_source
from safetensors.torch import save_file

from colreduce.embed.precomputed import (
    judgements,
    one_query,
    query_vectors,
    vector_batches,
    vector_files,
)
from colreduce.errors import BadData, BadInput
from tests.hashing_encoder import HashingEncoder


def layout(path: Path, lengths: list[int], prefix: str = "d", **more: object) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(sum(lengths), 3)).astype(np.float16)
    arrays = {
        "doc_ids": np.array([f"{prefix}{i}" for i in range(len(lengths))]),
        "doclens": np.array(lengths, dtype=np.int32),
        "doc_vectors": vectors,
        **more,
    }
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return vectors


def test_documents_end_to_end_are_read_in_batches(tmp_path: Path):
    numbers = np.arange(10)
    vectors = layout(tmp_path / "v.npz", [2, 1, 4, 3], token_ids=numbers)
    batches = list(vector_batches(tmp_path / "v.npz", documents=3))
    assert [batch.ids for batch in batches] == [["d0", "d1", "d2"], ["d3"]]
    assert [batch.vectors.lengths.tolist() for batch in batches] == [[2, 1, 4], [3]]
    joined = torch.cat([batch.vectors.tokens for batch in batches])
    assert joined.dtype == torch.float32
    assert joined.tolist() == vectors.astype(np.float32).tolist()
    assert batches[1].vectors.token_ids is not None
    assert batches[1].vectors.token_ids.tolist() == [7, 8, 9]


def test_one_array_per_document_is_read_with_its_grid(tmp_path: Path):
    pages = {f"page_{i}": np.ones((8, 4), dtype=np.float16) * (i + 1) for i in range(2)}
    grid = {"grid_rows": np.array([2, 3]), "grid_cols": np.array([3, 2])}
    np.savez(tmp_path / "pages.npz", **pages, **grid, model=np.array(["m", "m"]))  # type: ignore[arg-type]
    [batch] = vector_batches(tmp_path / "pages.npz")
    assert batch.ids == ["page_0", "page_1"]
    assert batch.vectors.grid is not None
    assert batch.vectors.grid.tolist() == [[0, 2, 3], [0, 3, 2]]
    assert batch.vectors.special is not None
    assert batch.vectors.special.tolist() == ([False] * 6 + [True] * 2) * 2


def test_a_folder_of_files_is_read_by_name_in_both_formats(tmp_path: Path):
    layout(tmp_path / "b.npz", [1, 2])
    save_file({"x": torch.ones(2, 3), "y": torch.ones(1, 3)}, tmp_path / "a.safetensors")
    save_file(
        {"doclens": torch.tensor([1, 1]), "doc_vectors": torch.ones(2, 3, dtype=torch.bfloat16)},
        tmp_path / "c.safetensors",
        metadata={"doc_ids": '["u", "v"]'},
    )
    batches = list(vector_batches(tmp_path))
    assert [name for batch in batches for name in batch.ids] == ["x", "y", "d0", "d1", "u", "v"]
    assert len(vector_files(tmp_path)) == 3


def raw_npz(path: Path, header: dict[str, object], data: bytes) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, header)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("doc_vectors.npy", stream.getvalue() + data)
        for name, array in (("doc_ids", np.array(["a"])), ("doclens", np.array([1]))):
            whole = io.BytesIO()
            np.save(whole, array)
            archive.writestr(f"{name}.npy", whole.getvalue())


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            {"descr": "<f4", "fortran_order": False, "shape": (10**12, 3)},
            "the header promises 12000000000000 bytes, there are 12",
        ),
        ({"descr": "|O", "fortran_order": False, "shape": (1,)}, "Python objects"),
        ({"descr": "<f4", "fortran_order": True, "shape": (1, 3)}, "save it in C order"),
    ],
)
def test_a_header_that_lies_is_refused_before_memory_is_taken(
    tmp_path: Path, header: dict[str, object], message: str
):
    raw_npz(tmp_path / "v.npz", header, b"\0" * 12)
    with pytest.raises(BadData, match=message):
        list(vector_batches(tmp_path / "v.npz"))


def test_pickled_arrays_are_never_loaded(tmp_path: Path):
    np.save(tmp_path / "q.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BadData, match="Python objects"):
        one_query(tmp_path / "q.npy")


def test_files_that_do_not_fit_together_are_named(tmp_path: Path):
    path = tmp_path / "v.npz"
    layout(path, [2, 2], doclens=np.array([2, 1]))
    with pytest.raises(BadData, match=r"doclens that add up to 3"):
        list(vector_batches(path))
    layout(path, [2, 2], doclens=np.array([4, 0]))
    with pytest.raises(BadData, match="the document 'd1' has no vectors"):
        list(vector_batches(path))
    layout(path, [2, 2], doc_ids=np.array(["a", "a"]))
    with pytest.raises(BadData, match="the id 'a' was in"):
        list(vector_batches(path))
    layout(path, [1, 1], doc_vectors=np.array([[1, 2, 3], [1, np.nan, 3]]))
    with pytest.raises(BadData, match="the document 'd1' holds a value that is not finite"):
        list(vector_batches(path))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadData, match=r"not a whole .npz file"):
        list(vector_batches(path))
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(BadData, match=r"not a whole .safetensors file"):
        list(vector_batches(tmp_path / "x.safetensors"))


def test_files_of_different_widths_are_refused(tmp_path: Path):
    layout(tmp_path / "a.npz", [1])
    np.savez(tmp_path / "b.npz", other=np.ones((2, 5)))
    with pytest.raises(BadData, match="the vectors of 'other' are 5 wide, those before 3"):
        list(vector_batches(tmp_path))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_a_query_is_read_from_every_format(tmp_path: Path, suffix: str):
    vectors, path = np.arange(6, dtype=np.float32).reshape(2, 3), tmp_path / f"q{suffix}"
    if suffix == ".npy":
        np.save(path, vectors)
    elif suffix == ".npz":
        np.savez(path, query=vectors[None])
    else:
        save_file({"query": torch.from_numpy(vectors)}, path)
    assert one_query(path).tolist() == vectors.tolist()


def test_what_is_no_query_is_refused(tmp_path: Path):
    np.savez(tmp_path / "two.npz", a=np.ones(3), b=np.ones(3))
    with pytest.raises(BadData, match="wanted one array, got a, b"):
        one_query(tmp_path / "two.npz")
    np.save(tmp_path / "flat.npy", np.ones(3))
    with pytest.raises(BadData, match=r"wanted the vectors of one query .* got \[3\]"):
        one_query(tmp_path / "flat.npy")
    np.save(tmp_path / "text.npy", np.array([["a"]]))
    with pytest.raises(BadData, match="wanted numbers"):
        one_query(tmp_path / "text.npy")
    with pytest.raises(BadData, match="cannot read"):
        one_query(tmp_path / "none.npy")


def test_real_vectors_have_the_counts_they_are_known_by(real_data: Path):
    folder = real_data / "vectors"
    lotte = list(vector_batches(folder / "lotte500_colbertv2.npz"))
    assert sum(len(batch.ids) for batch in lotte) == 500
    assert sum(len(batch.vectors.tokens) for batch in lotte) == 56_658
    ids, vectors = query_vectors(folder / "lotte500_colbertv2.npz")
    assert (len(ids), tuple(vectors[0].shape)) == (100, (32, 128))
    [pages] = vector_batches(folder / "colpali_pages.npz")
    assert pages.vectors.lengths.tolist() == [1031] * 6 + [1030]
    assert pages.vectors.special is not None
    assert int(pages.vectors.special.sum()) == 6 * 7 + 6
    qrels = judgements(folder / "nanofiqa_colbertv2.npz")
    assert sum(map(len, qrels.values())) == 35


def test_a_source_says_what_it_is_not(tmp_path: Path):
    encoder = HashingEncoder()

    def opened(path: Path, *, vectors: bool = False, given: HashingEncoder | None = encoder):
        return open_source(path, given, vectors=vectors, limit=None, batch_size=8)

    with pytest.raises(BadData, match="there is no file or folder"):
        opened(tmp_path / "none")
    with pytest.raises(BadData, match=r"there is no corpus.jsonl in it\.$"):
        opened(tmp_path)
    layout(tmp_path / "v.npz", [1])
    with pytest.raises(BadData, match="It holds vectors: name --vectors"):
        opened(tmp_path)
    with pytest.raises(BadData, match="name --vectors to index them"):
        opened(tmp_path / "v.npz")
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(BadData, match=r"wanted a .jsonl file"):
        opened(tmp_path / "a.csv")
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(BadInput, match="wanted an encoder"):
        opened(tmp_path / "a.jsonl", given=None)
    with pytest.raises(BadData, match="there are no documents"):
        opened(tmp_path / "a.jsonl").check(0, lambda done: None)


def test_the_first_reading_counts_and_draws_the_same_sample_each_time(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"_id": "{i}", "text": "word {i}"}}\n' for i in range(700)))
    source = open_source(path, HashingEncoder(), vectors=False, limit=None, batch_size=8)
    first, again = source.check(1, lambda done: None), source.check(1, lambda done: None)
    assert first.documents == 700
    assert len(first.sample) == 512
    assert first.texts == again.texts
    assert torch.equal(first.sample.tokens, again.sample.tokens)
    assert [len(chunk.ids) for chunk in source.chunks()] == [128] * 5 + [60]
    few = open_source(path, HashingEncoder(), vectors=False, limit=10, batch_size=8)
    assert few.check(1, lambda done: None).documents == 10
    assert [name for chunk in few.chunks() for name in chunk.ids] == [str(i) for i in range(10)]


def test_vectors_can_be_limited_too(tmp_path: Path):
    layout(tmp_path / "v.npz", [2, 1, 4, 3])
    source = open_source(tmp_path / "v.npz", None, vectors=True, limit=3, batch_size=8)
    checked = source.check(0, lambda done: None)
    assert checked.documents == 3
    assert checked.sample.lengths.tolist() == [2, 1, 4]
    assert [chunk.ids for chunk in source.chunks()] == [["d0", "d1", "d2"]]
