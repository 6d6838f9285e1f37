"""From files, environment and flags to one frozen `Settings`.

Strongest first: flags, environment, files, variables of the services' own tools, defaults. The files
are weed's own, `replication.toml` (with a `[filerbackup]` section and some new keys in the sinks'
sections) and `security.toml`; what weed writes is taken unchanged. `[source.filer]` is ignored, as
`weed filer.backup` ignores it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from filerbackup.errors import UsageError
from filerbackup.settings import encryption, environment, files, general, keys, replication, validate
from filerbackup.settings.files import ConfigFile
from filerbackup.settings.model import SecuritySettings, Settings
from filerbackup.settings.security import security
from filerbackup.settings.values import Raw, Values, printable

REPLICATION = "replication.toml"
SECURITY = "security.toml"
MOUNTS = Path("/proc/self/mounts")


def load_settings(
    *,
    config: str | None,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    home: Path,
    cwd: Path,
    require_sinks: bool = True,
    system: Sequence[Path] = files.SYSTEM_DIRECTORIES,
) -> Settings:
    """Read everything. Raises UsageError with the file and the key, and what would be right.

    `config` is what `--config` gave: a file, or a directory that holds `replication.toml`; None
    searches `cwd`, `home`/.seaweedfs and `system`. `flags` has the names of `keys.OPTIONS`; None
    counts as not given. `require_sinks`: having no enabled sink is an error.
    """
    named = _named(config or environ.get(keys.CONFIG_VARIABLE), home, cwd)
    directories = files.search_directories(named, home, cwd, system)
    replication_file = _replication_file(named, directories)
    security_path = files.find(SECURITY, directories)
    security_file = files.read(security_path) if security_path else None

    warnings: list[str] = []
    raw: dict[str, Raw] = {}
    if replication_file is not None:
        raw |= _known(replication_file, warnings)
    if security_file is not None:
        raw |= {key: value for key, value in security_file.raw.items() if key in keys.SECURITY_KEYS}
        raw |= encryption.providers(security_file.raw, environ)
    warnings += environment.unknown_variables(environ)
    raw |= environment.from_environment(environ)
    raw |= environment.from_flags(flags)
    raw |= environment.from_services(environ, raw)

    bases = (replication_file.path.parent, cwd) if replication_file else (cwd,)
    found = Values(raw, fallback=str(replication_file.path) if replication_file else "no configuration file")
    pipeline = general.pipeline(found)
    settings = Settings(
        source=general.source(found),
        pipeline=pipeline,
        security=_security(raw, security_path, cwd, warnings),
        log=general.log(found),
        sinks=replication.enabled_sinks(found, pipeline, warnings, bases=bases, home=home),
        origins={key: raw[key].origin for key in sorted(raw)},
    )
    if require_sinks and not settings.sinks:
        raise _no_sink(replication_file, directories, warnings)
    validate.check_sinks(settings.sinks)
    if require_sinks:
        # Otherwise nothing is copied, and the folder may be the default one.
        validate.check_target_filer(settings)
    warnings += _cross_checks(settings)
    for file in (replication_file, security_file):
        if file is not None and _holds_secret(file) and (warning := files.open_to_others(file.path)):
            warnings.append(warning)
    return replace(settings, warnings=tuple(dict.fromkeys(warnings)))


def _named(config: str | None, home: Path, cwd: Path) -> Path | None:
    if not config:
        return None
    path = home / config[2:] if config.startswith("~/") else cwd / config
    try:
        if not path.exists():
            raise UsageError(
                f"{printable(str(path))}: no such file or directory", hint="It was named by --config."
            )
    except (OSError, ValueError) as error:
        raise UsageError(f"{printable(str(path))}: cannot be looked at: {type(error).__name__}") from None
    return path


def _replication_file(named: Path | None, directories: Sequence[Path]) -> ConfigFile | None:
    if named is None:
        path = files.find(REPLICATION, directories)
        return files.read(path) if path is not None else None
    if not named.is_dir():
        return files.read(named)
    path = files.find(REPLICATION, [named])
    if path is None:
        raise UsageError(f"{named}: holds no {REPLICATION}")
    return files.read(path)


def _known(file: ConfigFile, warnings: list[str]) -> dict[str, Raw]:
    """The keys that have a meaning, and a warning for each of the others."""
    known: dict[str, Raw] = {}
    for key, raw in file.raw.items():
        if key in keys.REPLICATION_KEYS:
            known[key] = raw
        elif key in keys.REPLICATION_SECTIONS:
            raise UsageError(f"{raw.label}: must be a section, [{key}], not a value")
        elif key.startswith("sink.") and key.endswith(".enabled"):
            known[key] = raw
            warnings.append(f"{raw.label}: unknown sink, ignored{_similar_sink(key)}")
        else:
            warnings.append(
                f"{raw.label}: unknown key, ignored{keys.did_you_mean(key, keys.REPLICATION_KEYS)}"
            )
    for section in sorted(file.sections & keys.REPLICATION_KEYS):
        raise UsageError(f"{file.path}: {section}: must be a value, not a section")
    return known


def _similar_sink(key: str) -> str:
    kind = key.split(".")[1]
    return keys.did_you_mean(f"sink.{kind}", [f"sink.{name}" for name in keys.WEED_SINKS])


def _security(raw: Mapping[str, Raw], path: Path | None, cwd: Path, warnings: list[str]) -> SecuritySettings:
    found = Values(raw, fallback=str(path) if path else SECURITY)
    return security(found, file=path, cwd=cwd, warnings=warnings)


def _no_sink(file: ConfigFile | None, directories: Sequence[Path], warnings: Sequence[str]) -> UsageError:
    hint = (
        "Set enabled = true in [sink.local] or another section, or WEED_SINK_LOCAL_ENABLED=true and "
        "WEED_SINK_LOCAL_DIRECTORY=…; `filerbackup scaffold` writes an example."
    )
    if file is not None:
        return UsageError("; ".join([f"{file.path}: no sink is enabled", *warnings]), hint=hint)
    looked = ", ".join(printable(str(directory / REPLICATION)) for directory in directories)
    return UsageError(f"no {REPLICATION} and no sink in the environment; looked for {looked}", hint=hint)


def _cross_checks(settings: Settings) -> list[str]:
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        mounts = ""
    checks = (validate.s3_writes_into_source(settings), validate.local_writes_into_source(settings, mounts))
    return [warning for warning in checks if warning]


def _holds_secret(file: ConfigFile) -> bool:
    return encryption.has_secret(file.raw) or any(
        keys.is_secret(key, file.raw[key].value) for key in keys.SECRET_KEYS if key in file.raw
    )
