"""The least that FastAPI does for a POST: the peer that api.py measures against."""

from __future__ import annotations

import uvicorn
import uvloop
from fastapi import FastAPI

from server.app import HttpServer, listen

app = FastAPI()


@app.post("/")
async def echo(body: dict[str, object]) -> dict[str, object]:
    """What came."""
    return body


async def main() -> None:
    """Serve until killed."""
    with listen("127.0.0.1", 0, 65536) as listener:
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(app, log_config=None, lifespan="off", access_log=False)
        await HttpServer(config, stuck_after=30.0).serve(sockets=[listener])


if __name__ == "__main__":
    uvloop.run(main())
