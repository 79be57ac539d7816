"""`assistants keys` and `assistants projects`, and the way in which a command changes the data.

Through the server that has the data folder, or by itself where none has it.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from server import control
from server.access.administration import verbs_of
from server.access.keys import DEFAULT_PROJECT, Keys
from server.access.limits import OwnLimits
from server.access.scopes import SCOPES
from server.clock import SystemClock
from server.config import BUSY_POLICIES, BusyPolicy, Settings
from server.control import Json, NobodyListens, Rejected
from server.db.database import Database
from server.db.folder import DATABASE, LOCK, DataFolder, FolderInUse
from server.db.migrate import upgrade
from server.ids import RandomIds

PATIENCE: Final = 5.0  # seconds for a server that is starting or stopping
LIMITS: Final = {
    "requests-per-minute": "requests a minute",
    "tokens-per-minute": "tokens a minute",
    "concurrent-runs": "runs at once, and as many chat completions",
}
BEGINNINGS: Final = ("keys.create", "projects.create")  # these may come before the first server
AS_SERVER: Final = "server"  # instead of a policy: the server's
UNITS: Final = {"m": 60, "h": 3600, "d": 86_400}


def administer(settings: Settings, verb: str, arguments: Json) -> Json:
    """Have it done by whoever may write. Raises Rejected, WrongVersion, OSError."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return control.ask(control.socket_in(settings.server.data_dir), verb, arguments)
        except NobodyListens:
            pass
        try:
            return asyncio.run(_by_ourselves(settings, verb, arguments))
        except FolderInUse as other:
            if time.monotonic() > end:
                raise Rejected(f"{other}, which does not answer; try again in a moment") from other
        time.sleep(0.1)


async def _by_ourselves(settings: Settings, verb: str, arguments: Json) -> Json:
    where = settings.server.data_dir
    if verb not in BEGINNINGS and not any((where / name).exists() for name in (DATABASE, LOCK)):
        raise Rejected(f"there is no database in {where}; --data-dir says where the server's is")
    folder = DataFolder(where)
    try:
        is_new = not folder.database.is_file()
        upgrade(folder.database)
        busy_timeout = settings.database.busy_timeout
        clock = SystemClock()
        db = Database(folder.database, clock, RandomIds(), busy_timeout=busy_timeout, readers=1)
        try:
            keys = Keys(db, clock)
            await keys.start()
            result = await verbs_of(keys)[verb](arguments)
            await keys.stop()
            if is_new:
                print(f"{where} had no database, and has one now.", file=sys.stderr)
            return result
        finally:
            db.close()
    finally:
        folder.close()


def add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    common: Callable[[argparse.ArgumentParser], None],
) -> None:
    """The two commands; `common` adds what all have that work on a data folder."""
    keys = commands.add_parser(
        "keys",
        help="create, list and revoke API keys",
        description="From the first key on, every call of the API needs one.",
    ).add_subparsers(dest="action", required=True, metavar="ACTION")
    creating = keys.add_parser(
        "create",
        help="make a key",
        description="Print a new key. It is not kept, and cannot be shown again.",
    )
    creating.add_argument(
        "--project", metavar="ID", default=DEFAULT_PROJECT, help="whose it is (default: default)"
    )
    creating.add_argument("--name", default="", help="what you know it by")
    creating.add_argument(
        "--scope",
        choices=SCOPES,
        default="all",
        help="what it may do: all; read; runs, all to threads and little else; or metrics",
    )
    creating.add_argument(
        "--expires-in", metavar="TIME", type=_seconds, help="how long it is good: 30m, 12h, 90d"
    )
    for flag, what in LIMITS.items():
        creating.add_argument(
            f"--{flag}", metavar="N", type=int, help=f"{what} (default: as [limits] says; 0: any)"
        )
    listing = keys.add_parser("list", help="list the keys", description="List all keys.")
    revoking = keys.add_parser(
        "revoke", help="revoke a key", description="Have the server take a key no more, at once."
    )
    revoking.add_argument("id", metavar="ID", help="the key's id, as it is listed")

    projects = commands.add_parser(
        "projects",
        help="create, change and list projects",
        description="Projects see nothing of each other; a key belongs to one.",
    ).add_subparsers(dest="action", required=True, metavar="ACTION")
    founding = projects.add_parser("create", help="make a project", description="Make a project.")
    founding.add_argument("name", metavar="NAME", help="what you know it by")
    setting = projects.add_parser(
        "set",
        help="change a project",
        description="Change what a project goes by, from the next request on.",
    )
    setting.add_argument("id", metavar="ID", help="the project's id, as it is listed")
    for command, is_needed in ((founding, False), (setting, True)):
        command.add_argument(
            "--busy-policy",
            choices=(*BUSY_POLICIES, AS_SERVER),
            default=AS_SERVER,
            required=is_needed,
            help="what becomes of what is sent into a busy thread, where a request does not say; "
            "server: as runs.busy_policy says",
        )
    showing = projects.add_parser("list", help="list the projects", description="List all.")
    for command in (creating, listing, revoking, founding, setting, showing):
        common(command)


def keys_command(settings: Settings, options: argparse.Namespace) -> int:
    """Only a new key itself goes to standard output, so that a script can take it from there."""
    match options.action:
        case "create":
            _create_key(settings, options)
        case "revoke":
            administer(settings, "keys.revoke", {"id": options.id})
            print(f"{options.id} is revoked.")
        case _:
            _print_table(
                (
                    "id",
                    "key",
                    "project",
                    "scope",
                    "created",
                    "last used",
                    "state",
                    "limits",
                    "name",
                ),
                map(_key_line, administer(settings, "keys.list", {})),
            )
    return 0


def projects_command(settings: Settings, options: argparse.Namespace) -> int:
    """What is created is told by its id."""
    match options.action:
        case "create":
            wanted = {"name": options.name, "busy_policy": _policy(options)}
            print(administer(settings, "projects.create", wanted)["id"])
        case "set":
            wanted = {"id": options.id, "busy_policy": _policy(options)}
            administer(settings, "projects.set", wanted)
            print(f"{options.id} is changed.")
        case _:
            _print_table(
                ("id", "busy policy", "name"),
                (
                    [each["id"], each["busy_policy"] or AS_SERVER, each["name"]]
                    for each in administer(settings, "projects.list", {})
                ),
            )
    return 0


def _policy(options: argparse.Namespace) -> BusyPolicy | None:
    return None if options.busy_policy == AS_SERVER else options.busy_policy


def _create_key(settings: Settings, options: argparse.Namespace) -> None:
    wanted = {
        "project": options.project,
        "name": options.name,
        "scope": options.scope,
        "lifetime": options.expires_in,
        "limits": {name: getattr(options, name) for name in OwnLimits.model_fields},
    }
    made = administer(settings, "keys.create", wanted)
    print(made["secret"])
    until = f", good until {_when(made['expires_at'])}" if made["expires_at"] else ""
    print(
        f"This is {made['id']} of project {made['project_id']}{until}. It is shown only now.",
        file=sys.stderr,
    )


def _key_line(key: Json) -> list[str]:
    return [
        key["id"],
        key["hint"],
        key["project_id"],
        key["scope"],
        _when(key["created_at"]),
        _when(key["last_used_at"]) if key["last_used_at"] else "never",
        _state(key),
        " ".join(f"{name}={most}" for name, most in key["limits"].items()) or "-",
        key["name"],
    ]


def _state(key: Json) -> str:
    if key["revoked_at"]:
        return f"revoked {_when(key['revoked_at'])}"
    if not key["expires_at"]:
        return "good"
    over = key["expires_at"] <= time.time()
    return f"{'expired' if over else 'good until'} {_when(key['expires_at'])}"


def _when(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def _print_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    rows = [head, *([_printable(cell) for cell in line] for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _printable(text: str) -> str:
    """A name may hold what would end its line, or tell the terminal what to do."""
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(escaped)


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([1-9]\d{0,5})([mhd])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 30m, 12h or 90d")
    return int(found[1]) * UNITS[found[2]]
