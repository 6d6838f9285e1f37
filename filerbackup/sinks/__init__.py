"""Places for copies; `base` is the protocol."""
