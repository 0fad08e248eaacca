"""Qdrant's local mode: a multivector collection, compared by MaxSim without an index."""

from protocol import serve

NAME = "documents"


def build(request):
    from qdrant_client import QdrantClient, models

    documents = request.documents
    client = QdrantClient(path=str(request.index))
    client.create_collection(
        NAME,
        vectors_config=models.VectorParams(
            size=documents.dim,
            distance=models.Distance.DOT,
            multivector_config=models.MultiVectorConfig(
                comparator=models.MultiVectorComparator.MAX_SIM
            ),
        ),
    )
    for start, items in documents.blocks(64):
        points = [
            models.PointStruct(id=start + number, vector=item.tolist())
            for number, item in enumerate(items)
        ]
        client.upsert(NAME, points)
    client.close()


def open_index(request):
    from qdrant_client import QdrantClient

    client = QdrantClient(path=str(request.index))

    def search(number, query):
        hits = client.query_points(NAME, query.tolist(), limit=request.k).points
        return [hit.id for hit in hits], [hit.score for hit in hits]

    return search


if __name__ == "__main__":
    serve(build, open_index, ["qdrant_client"])
