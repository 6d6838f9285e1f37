"""Generated from protos/filer.proto by `make proto`; never edited."""
