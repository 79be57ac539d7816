"""A server whose model does what the user's last message says: `python scripted_server.py DATA`.

Each of the message's lines is an order: `say TEXT`, `call NAME ARGUMENTS`, `hold` (wait until the
run is cancelled) or `fail`. After tool outputs it says the last one. Code is orders, too: `print
TEXT`, `draw`, and `write NAME`, whose file has the names of all files in it. So a client in any
language can ask for exactly the answer that its scenario needs.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from server.app import Entrance, create_app, listen, running, stop_on_signals
from server.config import load_settings
from server.engine.protocol import EngineError, Request
from server.engine.scripted import ScriptedEngine, ScriptedGeneration, decode
from server.sandbox.values import FileIn, Image, Logs, Output, Result, SessionKey, Written

TURN = re.compile(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", re.DOTALL)
OUTPUT = re.compile(r"<tool_response>\n(.*)\n</tool_response>", re.DOTALL)
WORDS = re.compile(r"\s*\S+|\s+")
PICTURE = b"\x89PNG\r\n\x1a\n"


class ObedientEngine(ScriptedEngine):
    """Prepares each answer as it is asked for."""

    def generate(self, request: Request) -> ScriptedGeneration:
        asked = TURN.findall(decode(request.prompt).decode())[-1]
        output = OUTPUT.fullmatch(asked)
        self._obey(f"say The output is {output[1]}." if output else asked)
        return super().generate(request)

    def _obey(self, asked: str) -> None:
        pieces: list[str] = []
        for order, _, rest in (line.partition(" ") for line in asked.splitlines()):
            match order:
                case "say":
                    pieces += WORDS.findall(rest)
                case "call":
                    name, _, arguments = rest.partition(" ")
                    call = f'{{"name": "{name}", "arguments": {arguments}}}'
                    pieces.append(f"<tool_call>\n{call}\n</tool_call>")
                case "hold":
                    return self.says(pieces=pieces, pause_after=len(pieces))
                case "fail":
                    broken = EngineError("The model broke.")
                    return self.fails(broken, after=len(pieces), text="".join(pieces))
        return self.says(pieces=pieces)


class ObedientSandbox:
    """Does what code says, and nothing else."""

    problem = None

    def __init__(self) -> None:
        self._folders = defaultdict[SessionKey, dict[str, bytes]](dict)

    async def run(
        self,
        session: SessionKey,
        code: str,
        files: Sequence[FileIn],
        emit: Callable[[Output], None],
        *,
        has_run: bool = False,
    ) -> Result:
        folder = self._folders[session]
        names = "Files: " + ", ".join([*(file.name for file in files), *folder])
        result = Result([], [], None, None)
        for order, _, rest in (line.partition(" ") for line in code.splitlines()):
            match order:
                case "print":
                    result.outputs.append(Logs(f"{rest}\n"))
                case "draw":
                    result.outputs.append(Image(PICTURE, "png"))
                case "write":
                    folder[rest] = names.encode()
                    result.written.append(Written(rest, len(folder[rest])))
                case "hold":
                    await asyncio.Event().wait()
        for output in result.outputs:
            emit(output)
        return result

    async def read(self, session: SessionKey, name: str, into: Path) -> int:
        return await asyncio.to_thread(into.write_bytes, self._folders[session][name])

    async def close_session(self, session: SessionKey) -> None:
        self._folders.pop(session, None)

    async def close(self) -> None:
        self._folders.clear()


async def main(data_dir: str) -> None:
    """Serve until a signal, and say where."""
    settings = load_settings(None, {}, {"server.data_dir": data_dir})
    stop = asyncio.Event()
    stop_on_signals(stop)
    engines = {settings.models.default: ObedientEngine()}
    with listen("127.0.0.1", 0, settings.streams.send_buffer) as listener:
        parts = running(settings, engines, sandbox=ObedientSandbox())
        async with (
            Entrance(listener, settings.streams, settings.limits) as entrance,
            parts as services,
        ):
            host, port = listener.getsockname()
            print(f"http://{host}:{port}/v1\nReady.", flush=True)  # noqa: T201 - it is a command
            await entrance.serve(create_app(services, settings), stop, 0.0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
