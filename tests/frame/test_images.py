"""The container images and the compose file say nothing that the server does not understand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from server.bundled import bundled_path
from server.config import load_settings

ROOT = bundled_path("pyproject.toml").parent
SETTING = re.compile(r"(ASSISTANTS_\w+__\w+)=(\S+)")


def stages() -> dict[str, str]:
    """The text of each stage of the Dockerfile, by name."""
    parts = re.split(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def services() -> dict[str, dict[str, Any]]:
    """The services of the compose file."""
    return yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_an_image_runs_without_rights_and_keeps_its_data_in_volumes(name: str) -> None:
    """Each image has a user of its own, two volumes, a health check, and settings that hold."""
    stage = stages()[name]
    settings = load_settings(environ=dict(SETTING.findall(stage)))
    assert settings.server.data_dir == Path("/data")
    assert settings.models.directory == Path("/models")
    assert not settings.server.allow_open
    assert re.search(r"^USER 10001:10001$", stage, re.MULTILINE)
    assert 'VOLUME ["/data", "/models"]' in stage
    assert f"http://127.0.0.1:{settings.server.port}/healthz" in stage


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_the_health_check_asks_the_server_itself(name: str, status: int) -> None:
    """Not the proxy that Docker's settings name to containers; and whether it lives, not more.

    One that loads a model for minutes, or whose disk is full, is not to be ended for it.
    """

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    found = re.search(r"^HEALTHCHECK [^\[]*(\[.*\])$", stages()[name], re.MULTILINE)
    assert found is not None
    _, option, script = json.loads(found[1])
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        asked = script.replace(":8000/", f":{server.server_port}/")
        proxy = {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
        process = subprocess.run(
            (sys.executable, option, asked), env={**os.environ, **proxy}, capture_output=True
        )
        server.shutdown()
    assert (process.returncode == 0) == (status == 200)


def test_both_images_run_alike() -> None:
    """The two images differ in how they are built, and in nothing from there on."""
    cpu, cuda = (stages()[name].partition("\nENV ")[2].strip() for name in ("cpu", "cuda"))
    assert cpu == cuda


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_compose_opens_the_server_to_this_machine_only(name: str) -> None:
    """Without keys it is published on loopback; it can write its data only, and has no powers."""
    service = services()[name]
    settings = load_settings(environ={"ASSISTANTS_SERVER__ALLOW_OPEN": environment(service)})
    assert settings.server.allow_open
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "cap_add" not in service
    assert service["build"]["target"] in stages()


@pytest.mark.parametrize(
    ("name", "sandbox"), [("cpu", "code-sandbox"), ("gpu", "code-sandbox-gpu")]
)
def test_code_runs_in_a_container_without_anything(name: str, sandbox: str) -> None:
    """No network, no data, no secrets, few of root's powers; the server finds it by its socket."""
    server, service = services()[name], services()[sandbox]
    variables = {**service["environment"], **server["environment"]}
    settings = load_settings(environ=variables).code_interpreter
    assert settings.backend == "remote"
    assert load_settings(environ=service["environment"]).code_interpreter.backend == "landlock"
    assert service["volumes"] == [f"sandbox:{settings.socket.parent}"]
    assert service["volumes"][0] in server["volumes"]
    assert server["depends_on"] == [sandbox]
    assert service["network_mode"] == "none"
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["image"] == server["image"]
    assert service.get("profiles") == server.get("profiles")
    assert service["command"] == ["sandbox"]
    assert set(service["environment"]) == {"ASSISTANTS_CODE_INTERPRETER__BACKEND"}
    assert f"mkdir {settings.socket.parent} " in (ROOT / "Dockerfile").read_text()


def environment(service: dict[str, Any]) -> str:
    """What a service says about being open."""
    return service["environment"]["ASSISTANTS_SERVER__ALLOW_OPEN"]


def test_only_the_gpu_service_has_to_be_asked_for() -> None:
    """`docker compose up` starts the CPU server alone: both would take the same port."""
    assert "profiles" not in services()["cpu"]
    assert services()["gpu"]["profiles"] == ["gpu"]
