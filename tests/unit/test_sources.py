from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from colreduce_indexer.rejects import Rejects
from colreduce_indexer.sources import Source, open_source
from colreduce_indexer.stages import Clock, Cuts, windows
from colreduce_indexer.survey import Survey, accepted, survey
from safetensors.torch import save_file

from colreduce.embed.precomputed import (
    judgements,
    one_query,
    query_vectors,
    vector_batches,
    vector_files,
)
from colreduce.errors import BadData


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
    def opened(path: Path, *, vectors: bool = False):
        return open_source(path, vectors=vectors)

    with pytest.raises(BadData, match="there is no file or folder"):
        opened(tmp_path / "none")
    with pytest.raises(BadData, match=r"no corpus.jsonl in it\. Nor is there a PDF .* page\.$"):
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
    with pytest.raises(BadData, match="there are no documents"):
        surveyed(opened(tmp_path / "a.jsonl"))


def surveyed(
    source: Source, *, seed: int = 0, block: int = 64, limit: int | None = None, most: int = 0
) -> Survey:
    rejects = Rejects(most)
    return survey(
        source, seed=seed, block=block, limit=limit, rejects=rejects, told=lambda done: None
    )


def lines(path: Path, count: int) -> Source:
    path.write_text("".join(f'{{"_id": "{i}", "text": "word {i}"}}\n' for i in range(count)))
    return open_source(path, vectors=False)


def cut(found: Survey, block: int, window: int, piece: int) -> Cuts:
    return Cuts(found.documents, block, window, piece, found.starts, found.digests)


def test_the_first_reading_counts_and_draws_the_same_sample_each_time(tmp_path: Path):
    source = lines(tmp_path / "a.jsonl", 700)
    first, again = surveyed(source, seed=1), surveyed(source, seed=1)
    assert first.documents == 700
    assert len(first.sample) == 512
    assert first.sample.texts == again.sample.texts
    assert first.sha256 == again.sha256
    assert first.starts.tolist() == list(range(0, 700, 64))
    assert surveyed(source, limit=10).documents == 10


def test_the_same_documents_in_another_file_have_the_same_digest(tmp_path: Path):
    one, other = lines(tmp_path / "a.jsonl", 70), lines(tmp_path / "b.jsonl", 70)
    assert surveyed(one).sha256 == surveyed(other).sha256
    text = (tmp_path / "b.jsonl").read_text()
    (tmp_path / "b.jsonl").write_text(text.replace("word 69", "word 96"))
    assert surveyed(one).sha256 != surveyed(other).sha256


def test_pieces_are_cut_the_same_wherever_the_reading_begins(tmp_path: Path):
    source = lines(tmp_path / "a.jsonl", 150)
    cuts = cut(surveyed(source, block=16), block=16, window=8, piece=32)
    assert (cuts.pieces, cuts.size(0), cuts.size(4)) == (5, 32, 22)
    every = list(windows(source, cuts, range(5), frozenset(), Clock()))
    later = list(windows(source, cuts, [1, 4], frozenset(), Clock()))
    assert [len(one.documents) for one in every] == [8] * 18 + [6]
    assert [one.last for one in every if one.piece == 4] == [False, False, True]
    assert [one.documents.ids for one in later] == [
        one.documents.ids for one in every if one.piece in (1, 4)
    ]


def test_a_source_that_changed_after_the_first_reading_is_noticed(tmp_path: Path):
    source = lines(tmp_path / "a.jsonl", 100)
    cuts = cut(surveyed(source, block=16), block=16, window=16, piece=32)
    lines(tmp_path / "a.jsonl", 99)
    reading = windows(source, cuts, range(cuts.pieces), frozenset(), Clock())
    assert [len(next(reading).documents) for _ in range(6)] == [16] * 6
    with pytest.raises(BadData, match="has changed since it was read the first time"):
        next(reading)


def test_bad_records_are_left_out_with_their_places_and_the_rest_is_cut_around_them(
    tmp_path: Path,
):
    rows = [f'{{"_id": "{i}", "text": "word {i}"}}' for i in range(20)]
    rows[3] = '{"_id": "3", "te'
    rows[7] = '{"_id": "6", "text": "again"}'
    rows[9] = '{"_id": "9"}'
    path = tmp_path / "a.jsonl"
    path.write_bytes("\n".join(rows).encode() + b'\n{"_id": "x", "text": "\xff"}\n')
    source = open_source(path, vectors=False)
    rejects = Rejects(4)
    found = survey(source, seed=0, block=8, limit=None, rejects=rejects, told=lambda done: None)
    assert found.documents == 17
    assert found.rejected == {3, 7, 9, 20}
    reasons = [(bad.place.rpartition(" ")[2], bad.reason) for bad in rejects.found.values()]
    assert dict(reasons)["8"] == f"the id '6' was at {path} line 7 already"
    assert dict(reasons)["10"] == "the record '9' has no 'text' that is a string"
    assert dict(reasons)["21"].startswith("not UTF-8 text")
    assert found.starts.tolist() == [0, 11, 19]
    kept = [one for some in accepted(source, 10, found.rejected) for one in some.ids]
    assert kept == [str(i) for i in range(10, 20)]
    with pytest.raises(BadData, match="more than 3 records cannot be used"):
        surveyed(source, most=3)
    with pytest.raises(BadData, match=r"line 4: not a whole JSON record .* with --max-rejects"):
        surveyed(source)


def test_vectors_are_limited_and_left_out_like_texts(tmp_path: Path):
    layout(tmp_path / "v.npz", [2, 1, 4, 3])
    source = open_source(tmp_path / "v.npz", vectors=True)
    found = surveyed(source, limit=3)
    assert found.documents == 3
    assert found.sample.vectors is not None
    assert found.sample.vectors.lengths.tolist() == [2, 1, 4]
    bad = np.ones((10, 3), np.float32)
    bad[2], bad[9, 1] = 0, np.inf
    layout(tmp_path / "v.npz", [2, 1, 4, 3], doc_vectors=bad)
    found = surveyed(source, most=2)
    assert found.rejected == {1, 3}
    assert list(found.sample.ids) == ["d0", "d2"]
    with pytest.raises(BadData, match="document 'd1': has a vector of length 0"):
        surveyed(source)
    with pytest.raises(BadData, match="document 'd3': holds a value that is not finite"):
        surveyed(source, most=1)
