"""Laying the environment over the files, and the flags over both.

A variable that is set but empty counts as not set, as weed has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from filerbackup.errors import UsageError
from filerbackup.settings import keys
from filerbackup.settings.secret import Secret
from filerbackup.settings.values import Raw, printable


def from_environment(environ: Mapping[str, str]) -> dict[str, Raw]:
    """What `WEED_…` and `FILERBACKUP_…` variables set."""
    found: dict[str, Raw] = {}
    for key in (*sorted(keys.REPLICATION_KEYS), *keys.SECURITY_KEYS):
        name = keys.variable(key)
        if value := environ.get(name):
            found[key] = Raw(value, f"environment variable {name}", f"environment variable {name}")
    return found


def from_services(environ: Mapping[str, str], given: Mapping[str, Raw]) -> dict[str, Raw]:
    """What variables of the services' own tools add to what was given otherwise.

    An empty value and a placeholder of the scaffold count as not given. A group of variables that
    contradicts what was given (another account) adds nothing: its secret would not fit.
    """
    found: dict[str, Raw] = {}
    for group in keys.SERVICE_VARIABLES:
        values = {key: environ[name] for key, name in group.items() if environ.get(name)}
        known = {key: raw.value for key in group if (raw := (found.get(key) or given.get(key))) is not None}
        known = {key: value for key, value in known.items() if value not in ("", keys.PLACEHOLDERS.get(key))}
        if any(key in known and known[key] != value for key, value in values.items()):
            continue
        for key in values.keys() - known.keys():
            origin = f"environment variable {group[key]}"
            found[key] = Raw(values[key], origin, origin)
    return found


def secrets_of_chains(environ: Mapping[str, str]) -> Iterator[Secret]:
    """Secrets that the clouds' own chains take from the environment."""
    for name in keys.SECRET_VARIABLES:
        if value := environ.get(name):
            yield Secret(value)


def unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """A warning for each variable that looks like ours and sets nothing."""
    known = {keys.variable(key) for key in keys.REPLICATION_KEYS}
    for name in sorted(environ):
        if name in known or not environ[name] or keys.is_foreign_variable(name):
            continue
        swapped = (
            "WEED_" + name.removeprefix("FILERBACKUP_")
            if name.startswith("FILERBACKUP_")
            else "FILERBACKUP_" + name.removeprefix("WEED_")
        )
        hint = f'; did you mean "{swapped}"?' if swapped in known else keys.did_you_mean(name, known, "_")
        yield f"environment variable {printable(name)}: unknown, ignored{hint}"


def from_flags(flags: Mapping[str, object]) -> dict[str, Raw]:
    """What flags set; None is a flag that was not given.

    A repeated flag is a list, and each item may hold several with commas, as weed's flags do.
    Raises UsageError for a name that no option has.
    """
    options = {option.name: option for option in keys.OPTIONS}
    found: dict[str, Raw] = {}
    for name, value in flags.items():
        if value is None:
            continue
        if name not in options:
            raise UsageError(f"no such setting: {printable(name)}{keys.did_you_mean(name, options)}")
        if isinstance(value, (list, tuple)):
            value = ",".join(str(item) for item in value)  # noqa: PLW2901
        flag = options[name].flag
        found[keys.SECTION + name] = Raw(value, f"flag {flag}", flag)
    return found
