"""filerbackup keeps copies of a SeaweedFS filer folder somewhere else, all the time."""

__version__ = "0.1.0"
