"""colreduce: an index on disk by a recipe."""

from protocol import serve

SAMPLE = 1024


def build(request):
    import numpy as np
    import torch

    from colreduce import Index
    from colreduce.ragged import Ragged

    documents = request.documents
    recipe = request.settings["recipe"]
    chosen = np.sort(np.random.default_rng(0).permutation(len(documents))[:SAMPLE])
    texts = request.texts("documents") if "bm25" in recipe else None
    # A search needs none of these.
    kept = dict.fromkeys(("store_texts", "store_assignment", "keep_sample"), False)
    with Index.create(request.index, recipe=recipe, dim=documents.dim, **kept) as index:
        sample = [documents.rows(row, row + 1) for row in chosen.tolist()]
        some = None if texts is None else [texts[row] for row in chosen.tolist()]
        index.fit(Ragged.pack(sample), some)
        with index.batch() as batch:
            for start, items in documents.blocks():
                names = [str(start + number) for number in range(len(items))]
                rows = [torch.from_numpy(item) for item in items]
                part = None if texts is None else texts[start : start + len(items)]
                batch.add(names, part, embeddings=rows)
        return index.describe()["bytes"]


def open_index(request):
    import torch

    from colreduce import Index

    index = Index.open(request.index)

    def search(number, query):
        hits = index.search(torch.from_numpy(query), request.k)
        return [int(hit.id) for hit in hits], [hit.score for hit in hits]

    return search


if __name__ == "__main__":
    serve(
        build, open_index, ["torch", "colreduce.index", "colreduce.reduce", "colreduce.candidates"]
    )
