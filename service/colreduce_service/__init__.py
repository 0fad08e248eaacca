"""The gRPC service: an index, or a folder of indexes, that other processes can ask."""
