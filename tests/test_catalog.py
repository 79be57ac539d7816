"""Which models there are, by which ids; and which memory they share."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import catalog
from server.catalog import (
    build_catalog,
    by_files,
    chosen_model,
    find_endpoints,
    find_models,
    open_endpoints,
)
from server.config import Settings, load_settings
from server.engine.devices import Gpus
from tests.support import settings_for

MACHINE, GPUS = 1 << 30, 2 << 30


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with a GPU, whatever this one has."""
    monkeypatch.setattr(catalog, "computes_on_gpu", lambda: True)
    monkeypatch.setattr(catalog, "find_gpus", lambda: Gpus(GPUS, shared=False))
    monkeypatch.setattr(catalog, "available_memory", lambda: MACHINE)


@pytest.mark.parametrize(
    ("usual", "own", "memory"),
    [(-1, -1, GPUS), (-1, 0, GPUS), (0, 20, GPUS), (0, 0, MACHINE)],
)
def test_one_model_on_a_gpu_is_enough_to_count_its_memory(
    tmp_path: Path, usual: int, own: int, memory: int
) -> None:
    """Models that compute elsewhere need little of it."""
    settings = settings_for(tmp_path, engine__gpu_layers=usual, model__one__gpu_layers=own)
    assert catalog._memory(settings) == memory
    assert catalog._counts_gpu(settings) is (memory == GPUS)


def test_without_a_gpu_the_machines_memory_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if all layers were to be on one."""
    monkeypatch.setattr(catalog, "computes_on_gpu", lambda: False)
    assert catalog._memory(settings_for(tmp_path)) == MACHINE


@pytest.mark.parametrize(("found", "memory"), [(None, MACHINE), (Gpus(GPUS, shared=True), GPUS)])
def test_without_memory_of_its_own_a_gpu_takes_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Gpus | None, memory: int
) -> None:
    """A GPU that is not there, or that has none of its own: models are counted whole."""
    monkeypatch.setattr(catalog, "find_gpus", lambda: found)
    settings = settings_for(tmp_path, engine__gpu_layers=-1)
    assert catalog._memory(settings) == memory
    assert not catalog._counts_gpu(settings)
    settings = settings_for(tmp_path, models__memory=5, engine__gpu_layers=-1)
    assert catalog._memory(settings) == 5
    assert not catalog._counts_gpu(settings)


def settings_in(folder: Path, config: str = "", **environ: str) -> Settings:
    """Settings of files and variables, where `folder` is that of the models."""
    path = folder / "config.toml"
    path.write_text(config)
    places = {"MODELS__DIRECTORY": str(folder), "SERVER__DATA_DIR": str(folder / "data")}
    given = {**places, **environ}
    variables = {f"ASSISTANTS_{name}": value for name, value in given.items()}
    return by_files(load_settings(path, variables))


def test_a_variable_finds_the_model_of_a_file(tmp_path: Path) -> None:
    """However its name is written, in whatever folder it is, in one part or several."""
    (tmp_path / "data" / "models").mkdir(parents=True)
    for name in ("Qwen2.5-7B_Q4.gguf", "qwen3.gguf", "data/models/Big-00001-of-00002.gguf"):
        (tmp_path / name).touch()
    settings = settings_in(
        tmp_path,
        "[model.other]\npin = true",
        MODEL__QWEN2_5_7B_Q4__SLOTS="1",
        MODEL__QWEN3__SLOTS="2",
        MODEL__BIG__SLOTS="3",
        MODEL__OTHER__SLOTS="4",
        MODEL__NEW_ONE__SLOTS="5",
    )
    slots = {name: own.slots for name, own in settings.model.items()}
    assert slots == {"Qwen2.5-7B_Q4": 1, "qwen3": 2, "Big": 3, "other": 4, "new-one": 5}
    assert {"qwen2-5-7b-q4", "big"}.isdisjoint(find_models(settings))


def test_a_variable_finds_the_default_model(tmp_path: Path) -> None:
    """Be it a file anywhere, or an endpoint that has no section in the file of settings."""
    path = tmp_path / "elsewhere" / "My.Model-00001-of-00002.gguf"
    settings = settings_in(tmp_path, MODELS__DEFAULT=str(path), MODEL__MY_MODEL__SLOTS="1")
    assert settings.of_model(chosen_model(settings)).slots == 1
    assert set(settings.model) == {"My.Model"}
    url = "http://127.0.0.1:1/v1"
    settings = settings_in(tmp_path, MODELS__DEFAULT="A/B.c", MODEL__A_B_C__UPSTREAM=url)
    assert find_endpoints(settings) == {"A/B.c": url}
    assert chosen_model(settings) == "A/B.c"


def test_a_section_of_its_own_is_left_alone(tmp_path: Path) -> None:
    """What has a file, an endpoint or a namesake is another model than the one spelled like it."""
    (tmp_path / "Some.One.gguf").touch()
    for own in ('path = "x.gguf"', 'upstream = "http://a/v1"', "[model.'Some.One']\npin = true"):
        settings = settings_in(tmp_path, f"[model.some-one]\nslots = 1\n{own}")
        assert "some-one" in settings.model


def test_what_has_a_section_is_an_id_and_no_path(tmp_path: Path) -> None:
    """Ids may look like paths."""
    name = str(tmp_path / "a.gguf")
    Path(name).touch()
    (tmp_path / "data").mkdir()
    settings = settings_in(
        tmp_path, f"[models]\ndefault = '{name}'\n[model.'{name}']\nupstream = 'http://a/v1'"
    )
    assert chosen_model(settings) == name
    brought = find_models(settings_in(tmp_path / "data", "")).keys()  # with the server
    assert find_models(settings).keys() - brought == {"a"}
    assert find_endpoints(settings) == {name: "http://a/v1"}


def test_an_alias_of_no_model_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Requests by that name would be refused, and nobody would know why."""
    settings = settings_in(
        tmp_path,
        '[model.here]\nupstream = "http://127.0.0.1:9/v1"\n'
        '[models]\ndefault = "here"\n'
        '[models.aliases]\na = "default"\nb = "here"\nc = "hree"\n',
    )
    made = build_catalog({}, open_endpoints(settings), settings, created=0)
    [line] = caplog.records
    assert (line.msg, vars(line)["alias"], vars(line)["model"]) == (
        "models.alias_of_none",
        "c",
        "hree",
    )
    assert [made.resolve(name) is not None for name in "abc"] == [True, True, False]
