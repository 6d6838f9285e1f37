"""What is kept on the filer; `base` is the protocol."""
