"""`[sink.filer]`."""

from __future__ import annotations

from filerbackup.settings import places, values
from filerbackup.settings.model import FilerSinkSettings
from filerbackup.settings.sinks.section import Section, common


def read(section: Section) -> FilerSinkSettings:
    """Raises UsageError."""
    address = section.named("grpcAddress", "the target filer as host:grpcPort, such as localhost:18888")
    directory = section.named("directory", "the folder of the target filer to copy into")
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
    )
