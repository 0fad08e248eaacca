"""fast-plaid, called directly."""

from protocol import serve


def build(request):
    import torch
    from fast_plaid import search as plaid

    index = plaid.FastPlaid(index=str(request.index), device="cpu")
    items = [torch.from_numpy(item) for item in request.documents.items()]
    index.create(documents_embeddings=items, **request.settings.get("create", {}))


def open_index(request):
    import torch
    from fast_plaid import search as plaid

    index = plaid.FastPlaid(index=str(request.index), device="cpu")
    more = request.settings.get("search", {})

    def search(number, query):
        asked = torch.from_numpy(query)[None]
        [hits] = index.search(asked, top_k=request.k, show_progress=False, **more)
        return [row for row, _ in hits], [score for _, score in hits]

    return search


if __name__ == "__main__":
    serve(build, open_index, ["torch", "fast_plaid.search"])
