"""The gRPC channel to the filer, its client, and the generated stubs."""
