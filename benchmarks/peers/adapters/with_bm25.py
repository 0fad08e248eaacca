"""BM25 over the texts, by bm25s with its defaults and English stop words."""

from protocol import serve


def build(request):
    import bm25s

    words = bm25s.tokenize(request.texts("documents"), stopwords="en", show_progress=False)
    index = bm25s.BM25()
    index.index(words, show_progress=False)
    index.save(str(request.index))


def open_index(request):
    import bm25s

    index = bm25s.BM25.load(str(request.index))
    texts = request.texts("queries")

    def search(number, query):
        words = bm25s.tokenize([texts[number]], stopwords="en", show_progress=False)
        rows, scores = index.retrieve(words, k=request.k, show_progress=False)
        return rows[0], scores[0]

    return search


if __name__ == "__main__":
    serve(build, open_index, ["bm25s"])
