"""The `[sink.*]` sections of `replication.toml`, a module a kind."""
