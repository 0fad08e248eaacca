"""The batch indexer: whole collections into an index, in bounded memory."""
