"""From settings to models: which files there are, their engines, and the names they go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from server.bundled import bundled_path
from server.chat.dialects import dialect_for
from server.chat.template import ChatTemplate, TemplateError
from server.config import Settings
from server.engine.client import WorkerEngine
from server.engine.protocol import Engine
from server.engine.settings import EngineSettings
from server.runs.local import LocalModel
from server.runs.models import Catalog, Model

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class ModelProblem(Exception):
    """A model cannot be served; the text says why, for the user."""


def find_models(settings: Settings) -> dict[str, Path]:
    """The model files at hand, by id. Of two files with one id, the first folder's counts."""
    found: dict[str, Path] = {}
    if (path := _given_path(settings)) is not None:
        found[path.stem] = path
    for folder in _folders(settings):
        for path in sorted(folder.glob("*.gguf")):
            found.setdefault(path.stem, path)
    return found


def chosen_model(settings: Settings) -> str:
    """The id of the model to serve: the default, or the stem of the file it is given as."""
    path = _given_path(settings)
    return settings.models.default if path is None else path.stem


def open_engines(settings: Settings) -> dict[str, Engine]:
    """An engine, not yet started, for each model to serve. Raises ModelProblem."""
    name = chosen_model(settings)
    path = find_models(settings).get(name)
    if path is None:
        folders = ", ".join(map(str, _folders(settings)))
        raise ModelProblem(f"no model '{name}': there is no {name}.gguf in {folders}")
    if not path.is_file():
        raise ModelProblem(f"no model file at {path}")
    return {name: WorkerEngine(path, name=name, description="", settings=engine_settings(settings))}


def engine_settings(settings: Settings) -> EngineSettings:
    """The engine's section, in the engine's own words."""
    section = settings.engine
    return EngineSettings(**{f.name: getattr(section, f.name) for f in fields(EngineSettings)})


def build_catalog(engines: Mapping[str, Engine], settings: Settings, created: int) -> Catalog:
    """The catalog over started engines. Raises ModelProblem for a chat template that is broken."""
    models = [_model(name, engine, created) for name, engine in engines.items()]
    return Catalog(models, settings.models.aliases_for(models[0].id))


def _model(name: str, engine: Engine, created: int) -> Model:
    info = engine.info
    try:
        template = ChatTemplate(info.chat_template or CHATML, bos=info.bos, eos=info.eos)
        return Model(name, created, LocalModel(engine, template, dialect_for(template)))
    except TemplateError as error:
        raise ModelProblem(f"the chat template of {info.path} cannot be used: {error}") from error


def _given_path(settings: Settings) -> Path | None:
    """The file that `models.default` names, if it is a path and not an id."""
    default = settings.models.default
    return Path(default) if "/" in default or default.endswith(".gguf") else None


def _folders(settings: Settings) -> list[Path]:
    """Where models are looked for; in a checkout the first is also the last."""
    unique: dict[Path, Path] = {}
    for folder in (
        settings.models.directory,
        settings.server.data_dir / "models",
        bundled_path("models"),
    ):
        unique.setdefault(folder.resolve(), folder)
    return list(unique.values())
