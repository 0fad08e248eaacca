"""PyLate's indexes with its own retriever: PLAID, Voyager or ScaNN, as the settings say."""

from protocol import serve


def _index(request, override):
    from pylate import indexes

    kind = getattr(indexes, request.settings["index"])
    return kind(
        index_folder=str(request.index),
        index_name="documents",
        override=override,
        **request.settings.get("create", {}),
    )


def build(request):
    request.index.mkdir()
    items = request.documents.items()
    names = [str(number) for number in range(len(items))]
    _index(request, True).add_documents(documents_ids=names, documents_embeddings=items)


def open_index(request):
    import torch
    from pylate import retrieve

    retriever = retrieve.ColBERT(index=_index(request, False))

    def search(number, query):
        asked = [torch.from_numpy(query)]
        [hits] = retriever.retrieve(queries_embeddings=asked, k=request.k, device="cpu")
        return [int(hit["id"]) for hit in hits], [hit["score"] for hit in hits]

    return search


if __name__ == "__main__":
    serve(build, open_index, ["torch", "pylate.indexes", "pylate.retrieve"])
