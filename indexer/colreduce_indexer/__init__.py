"""The batch indexer."""
