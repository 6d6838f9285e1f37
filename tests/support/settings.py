"""Loading settings with nothing of this machine but what a test gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from filerbackup.settings.load import load_settings
from filerbackup.settings.model import Settings

LOCAL = '[sink.local]\nenabled = true\ndirectory = "/data"\n'
S3 = '[sink.s3]\nenabled = true\nbucket = "backup"\n'

GCS = '[sink.google_cloud_storage]\nenabled = true\nbucket = "backup"\n'
AZURE = '[sink.azure]\nenabled = true\naccount_name = "account"\ncontainer = "backup"\n'
B2 = (
    '[sink.backblaze]\nenabled = true\nbucket = "backup"\n'
    'b2_account_id = "id"\nb2_master_application_key = "hunter22"\n'
)
FILER = '[sink.filer]\nenabled = true\ngrpcAddress = "elsewhere:18888"\ndirectory = "/backup"\n'


def google_account(private_key: str) -> dict[str, str]:
    """What a key file of a service account holds."""
    return {
        "type": "service_account",
        "client_email": "backup@project.iam.gserviceaccount.com",
        "private_key": f"-----BEGIN PRIVATE KEY-----\n{private_key}\n-----END PRIVATE KEY-----\n",
        "token_uri": "https://oauth2.googleapis.com/token",
    }


def inline(credentials: object) -> str:
    """Google's credentials as they stand in the file itself."""
    return f"google_application_credentials = '{json.dumps(credentials)}'\n"


class Loader:
    """Calls `load_settings` with a working directory, a home and an `/etc` of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cwd = directory / "cwd"
        self.home = directory / "home"
        self.system = [directory / "usr", directory / "etc"]
        self.cwd.mkdir()

    def __call__(
        self,
        text: str | None = None,
        *,
        config: str | None = None,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        require_sinks: bool = True,
    ) -> Settings:
        """Load; `text`, when given, becomes the `replication.toml` of the working directory."""
        if text is not None:
            (self.cwd / "replication.toml").write_text(text)
            (self.cwd / "replication.toml").chmod(0o600)
        return load_settings(
            config=config,
            flags=flags or {},
            environ=environ or {},
            home=self.home,
            cwd=self.cwd,
            system=self.system,
            require_sinks=require_sinks,
        )
