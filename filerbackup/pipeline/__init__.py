"""The way of a change, one file a stage; read `replicator` first."""
