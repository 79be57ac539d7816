"""The container images and the compose file say nothing that the server does not understand."""

from __future__ import annotations

import re
from pathlib import Path
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
    assert f"http://127.0.0.1:{settings.server.port}/readyz" in stage


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
