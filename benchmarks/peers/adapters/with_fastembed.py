"""fastembed's MUVERA for candidates, then exact MaxSim over the float32 vectors."""

import shutil

import numpy as np
from protocol import Vectors, serve


def _encoder(dim):
    from fastembed.postprocess import Muvera

    return Muvera(dim=dim)


def build(request):
    request.index.mkdir()
    documents = request.documents
    encoder = _encoder(documents.dim)
    encoded = [
        np.asarray(encoder.process_document(item), np.float32)
        for _, items in documents.blocks()
        for item in items
    ]
    np.save(request.index / "fde.npy", np.stack(encoded))
    shutil.copy(documents.file, request.index / "documents.safetensors")


def open_index(request):
    encoded = np.load(request.index / "fde.npy", mmap_mode="r", allow_pickle=False)
    documents = Vectors(request.index / "documents.safetensors")
    tokens, ends = documents.rows(0, len(documents)), documents.ends
    encoder = _encoder(documents.dim)
    candidates = request.settings["candidates"]

    def search(number, query):
        scores = encoded @ np.asarray(encoder.process_query(query), np.float32)
        rows = np.argpartition(-scores, min(candidates, len(scores)) - 1)[:candidates]
        exact = np.array([(tokens[ends[r] : ends[r + 1]] @ query.T).max(0).sum() for r in rows])
        order = np.argsort(-exact, kind="stable")[: request.k]
        return rows[order], exact[order]

    return search


if __name__ == "__main__":
    serve(build, open_index, ["fastembed.postprocess"])
