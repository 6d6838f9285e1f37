"""The command line: commands, their options, and which module carries each out (imported when used)."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterable

from filerbackup import __version__

Command = Callable[[argparse.Namespace], int]

_EPILOG = """exit codes: 0 done; 1 failed, dead letters or held deletes; 2 usage or configuration;
3 the filer could not be reached at the start (--connect-timeout)"""


def parse(arguments: list[str]) -> tuple[Command, argparse.Namespace]:
    """The command's function and its options; leaves with code 2 when they make no sense."""
    options = _parser().parse_args(arguments)
    module = importlib.import_module(f"filerbackup.cli.{options.module}")
    command: Command = getattr(module, options.function)
    return command, options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="filerbackup",
        description="Keep copies of a SeaweedFS filer folder somewhere else, all the time.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"filerbackup {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    work, ask = [_connection(), _logging(), _work()], [_connection(), _logging(), _selection()]

    _add(commands, "run", "follow the filer for ever", work, "run_cmd", "run")
    _add(commands, "catchup", "apply everything up to now, then exit", work, "run_cmd", "catchup")
    status = _add(commands, "status", "how each copy is, from the filer", ask, "status_cmd", "status")
    status.add_argument("--json", action="store_true", help="for programs")

    checkpoint = _add(commands, "checkpoint", "show, set or reset stored offsets", [], "checkpoint_cmd", "")
    actions = checkpoint.add_subparsers(metavar="ACTION", required=True)
    show = _add(actions, "show", "show the stored offsets", ask, "checkpoint_cmd", "show")
    show.add_argument("--json", action="store_true", help="for programs")
    set_ = _add(actions, "set", "go on from another place in the log", ask, "checkpoint_cmd", "set_")
    set_.add_argument("time", help="an RFC 3339 time, or nanoseconds since 1970")
    _add(actions, "reset", "forget: the next run takes a snapshot", ask, "checkpoint_cmd", "reset")

    letters = _add(commands, "dead-letters", "what could not be copied", [], "letters_cmd", "")
    actions = letters.add_subparsers(metavar="ACTION", required=True)
    listing = _add(actions, "list", "list them", ask, "letters_cmd", "list_")
    listing.add_argument("--json", action="store_true", help="for programs")
    for name, text in (("retry", "try them again"), ("drop", "forget them")):
        action = _add(actions, name, text, ask, "letters_cmd", name)
        action.add_argument("ids", nargs="*", metavar="ID", help="as `list` shows them")
        action.add_argument("--all", action="store_true", help="all of them")

    deletes = _add(commands, "deletes", "what the delete guard holds", [], "deletes_cmd", "")
    actions = deletes.add_subparsers(metavar="ACTION", required=True)
    listing = _add(actions, "list", "list held deletes", ask, "deletes_cmd", "list_")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.add_argument("--count", metavar="N", type=int, default=20, help="so many paths, default 20")
    allow = _add(actions, "allow", "carry held deletes out", ask, "deletes_cmd", "allow")
    allow.add_argument("--kept", action="store_true", help="those too that were discarded earlier")
    _add(actions, "discard", "drop held deletes: the copies stay", ask, "deletes_cmd", "discard")

    prune = _add(commands, "prune", "remove old days from dated copies", ask, "prune_cmd", "prune")
    prune.add_argument(
        "--keep-days", metavar="N", type=int, required=True, help="days that are older than so many may go"
    )
    prune.add_argument(
        "--keep-at-least",
        metavar="N",
        type=int,
        default=7,
        help="so many newest days always stay, default 7",
    )
    prune.add_argument("--dry-run", action="store_true", help="say what would be removed")

    scaffold = _add(
        commands, "scaffold", "write a commented replication.toml", [], "scaffold_cmd", "scaffold"
    )
    scaffold.add_argument("--output", metavar="FILE", help="instead of standard output; must not exist")
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    parents: Iterable[argparse.ArgumentParser],
    module: str,
    function: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        parents=list(parents),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(module=module, function=function)
    return parser


def _connection() -> argparse.ArgumentParser:
    group = argparse.ArgumentParser(add_help=False)
    group.add_argument("--config", metavar="FILE", help="replication.toml, or the directory that holds it")
    group.add_argument("--filer", metavar="HOST:PORT[,…]", help="default localhost:8888")
    group.add_argument("--path", metavar="FOLDER", help="folder of the filer, default /")
    group.add_argument(
        "--connect-timeout", metavar="TIME", help="wait so long for the filer at the start, default 30s"
    )
    return group


def _logging() -> argparse.ArgumentParser:
    group = argparse.ArgumentParser(add_help=False)
    group.add_argument("--log-format", choices=("text", "json"))
    group.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    group.add_argument("-v", "--verbose", action="store_true", help="debug, and where each setting came from")
    return group


def _selection() -> argparse.ArgumentParser:
    group = argparse.ArgumentParser(add_help=False)
    group.add_argument("--sink", metavar="KIND", help="only sinks of this kind (local, s3, …)")
    return group


def _work() -> argparse.ArgumentParser:
    group = argparse.ArgumentParser(add_help=False)
    group.add_argument(
        "--start",
        metavar="WHERE",
        help="auto (resume, else snapshot), snapshot, log (from its first entry), now, or an RFC 3339 time",
    )
    for flag, text in (
        ("--adopt-weed-checkpoint", "without a checkpoint, go on where weed filer.backup stopped"),
        ("--no-delete", "keep in a mirror what the source deleted"),
        (
            "--claim",
            "take over a sink that holds other things: what the source does not have is REMOVED from it",
        ),
        ("--dry-run", "say what would be done, only probe the sinks"),
        ("--sse-kek-from-filer", "read the key of SSE-S3 from /etc/s3/sse_kek on the filer"),
    ):
        group.add_argument(flag, action="store_const", const=True, help=text)
    group.add_argument(
        "--exclude-path",
        action="append",
        dest="exclude_paths",
        metavar="PATTERN",
        help="leave out a folder (/with/a/slash) or whatever has a matching component; repeatable",
    )
    group.add_argument(
        "--exclude-name",
        action="append",
        dest="exclude_names",
        metavar="PATTERN",
        help="leave out files with matching names; repeatable",
    )
    group.add_argument("--read-via", choices=("volume", "filer"), help="who serves content, default volume")
    group.add_argument("--versions", choices=("current", "all"), help="of versioned buckets, default current")
    group.add_argument(
        "--remote-entries", choices=("fetch", "skip"), help="files only in remote storage, default fetch"
    )
    group.add_argument("--concurrency", metavar="N", help="operations at once and sink, default 64")
    group.add_argument("--memory", metavar="SIZE", help="file content held in memory, default 96MiB")
    group.add_argument("--grace", metavar="TIME", help="to finish what runs after a signal, default 20s")
    group.add_argument(
        "--reconcile-every", metavar="TIME", help="compare with the live tree, default 24h, 0: never"
    )
    group.add_argument(
        "--delete-guard",
        metavar="LIMIT",
        help="hold deletes above a number or share, default 50%%, off: never",
    )
    group.add_argument(
        "--delete-guard-window", metavar="TIME", help="deletes within this time are counted, default 1h"
    )
    return group
