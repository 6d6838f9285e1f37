"""`[sink.filer]`."""

from __future__ import annotations

from filerbackup.settings import places, values
from filerbackup.settings.model import FilerSinkSettings
from filerbackup.settings.sinks.section import Parts, Section, common, part_sizes

_PARTS = Parts(1 << 20, 256 << 20)
"""A volume server takes needles of up to 256 MiB, unless it is told otherwise."""


def read(section: Section) -> FilerSinkSettings:
    """Raises UsageError."""
    address = section.named("grpcAddress", "the target filer as host:grpcPort, such as localhost:18888")
    directory = section.named("directory", "the folder of the target filer to copy into")
    part_size, at_once = part_sizes(section, _PARTS)
    return FilerSinkSettings(
        **common(section),
        directory=section.get("directory", places.as_target_folder, ""),
        weed_identity=("filer", address, directory),
        grpc_address=section.get("grpcAddress", places.as_grpc_address, ""),
        replication=section.get("replication", places.as_replication, ""),
        collection=section.text("collection"),
        ttl_s=section.get("ttlSec", values.as_int(0, (1 << 31) - 1), 0),
        data_center=section.text("dataCenter"),
        disk=section.text("disk"),
        part_size_bytes=part_size,
        part_concurrency=at_once,
    )
