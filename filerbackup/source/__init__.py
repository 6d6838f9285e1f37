"""The filer as a source; `base` is the protocol."""
