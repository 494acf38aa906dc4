"""The stage `graph`: a shard's ML Program without its weights, and the table of the blobs it expects."""
