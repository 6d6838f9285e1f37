"""Another SeaweedFS cluster as a sink: real directories, symlinks, extended attributes, moves.

- sink.py: the protocol
- writing.py: one file, from its bytes to its entry: whole or absent
- changes.py: moves, and changes of attributes
- target.py: calls to the target's filer
- attributes.py: a source's entry as the target keeps it, and what is the same
- parents.py: the directories above a key
- assigning.py, rules.py: file ids for chunks
- uploads.py: bytes in chunks, manifests of chunks
- needles.py, quick.py: HTTP to volume servers
- leftovers.py: chunks of broken uploads
- reading.py: bytes back
- loops.py: a target inside of what is watched
- problems.py: from what weed says to the error tree
"""

from filerbackup.sinks.filer.sink import FilerSink

__all__ = ["FilerSink"]
