"""A collection in several shards, each answered by replicas in this process or in others.

`replica` answers for one shard, `hub` asks all shards and joins what they say, and `threads` and
`actors` are the two ways for the hub to reach replicas. `collection` makes it a collection as the
rest of the server knows them.
"""
