"""Exhaustive MaxSim in torch: every document scored in float32."""

import shutil

from protocol import Vectors, serve


def build(request):
    request.index.mkdir()
    shutil.copy(request.documents.file, request.index / "documents.safetensors")


def open_index(request):
    import torch

    documents = Vectors(request.index / "documents.safetensors")
    tokens = torch.from_numpy(documents.rows(0, len(documents)))
    lengths = torch.from_numpy(documents.lengths)

    def search(number, query):
        products = tokens @ torch.from_numpy(query).T  # [t, q]
        scores = torch.segment_reduce(products, "max", lengths=lengths, axis=0).sum(1)
        best = scores.topk(min(request.k, len(scores)))
        return best.indices.tolist(), best.values.tolist()

    return search


if __name__ == "__main__":
    serve(build, open_index, ["torch"])
