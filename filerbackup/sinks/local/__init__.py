"""A directory on this machine, or mounted on it, as a sink.

- sink.py: the protocol: keys, threads, streams
- paths.py: directories, component by component, never through a symlink
- threads.py: threads for calls that block
- tree.py: one change at a time in the sink's directory
- files.py: single files below an open directory
- workspace.py: temporary files, and what a killed process left of them
- removal.py: whole trees
- listing.py: what is there, in order
- metadata.py: mode, owner, times, and what this file system keeps of them
- flushing.py: durability in groups
- versions.py: which version of the source's file a copy holds
- durability.py: what to distrust after a power loss
- problems.py: from errno to the error tree
"""

from filerbackup.sinks.local.sink import LocalSink

__all__ = ["LocalSink"]
