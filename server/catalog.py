"""From settings to models: which files and endpoints there are, and the names they go by."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from server.bundled import bundled_path
from server.chat.dialects import dialect_for
from server.chat.template import ChatTemplate, TemplateError
from server.config import ModelSection, Settings
from server.engine.client import WorkerEngine
from server.engine.protocol import Engine
from server.engine.settings import EngineSettings
from server.engine.upstream import ChatEndpoint, EndpointSettings, shown
from server.runs.local import LocalModel
from server.runs.models import Catalog, Model
from server.runs.upstream import UpstreamLimits, UpstreamModel

UPSTREAM_CONTEXT = 32_768  # of an endpoint whose limit the settings leave open
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


def find_endpoints(settings: Settings) -> dict[str, str]:
    """The URLs of the models that have an endpoint, by id, as they may be shown."""
    models = settings.model.items()
    return {name: shown(section.upstream) for name, section in models if section.upstream}


def chosen_model(settings: Settings) -> str:
    """The id of the model to serve: the default, or the stem of the file it is given as."""
    path = _given_path(settings)
    return settings.models.default if path is None else path.stem


def open_engines(settings: Settings) -> dict[str, Engine]:
    """An engine, not yet started, for each model to serve here. Raises ModelProblem."""
    name = chosen_model(settings)
    if settings.of_model(name).upstream is not None:
        return {}
    path = find_models(settings).get(name)
    if path is None:
        folders = ", ".join(map(str, _folders(settings)))
        raise ModelProblem(f"no model '{name}': there is no {name}.gguf in {folders}")
    if not path.is_file():
        raise ModelProblem(f"no model file at {path}")
    cache = cache_folder(settings)
    engine = WorkerEngine(
        path, name=name, settings=engine_settings(settings.of_model(name)), cache=cache
    )
    return {name: engine}


def open_endpoints(settings: Settings) -> dict[str, ChatEndpoint]:
    """The endpoint of each model that has one. Asks nothing of them. Raises ModelProblem."""
    return {
        name: ChatEndpoint(_endpoint_settings(name, section, section.upstream))
        for name, section in settings.model.items()
        if section.upstream is not None
    }


def _endpoint_settings(name: str, section: ModelSection, url: str) -> EndpointSettings:
    if section.path is not None:
        raise ModelProblem(f"model '{name}' has both a path and an upstream; it can have one")
    key = "" if section.upstream_key is None else os.environ.get(section.upstream_key, "")
    if section.upstream_key is not None and not key:
        raise ModelProblem(
            f"model '{name}': there is no key in the environment variable {section.upstream_key}"
        )
    return EndpointSettings(url, section.upstream_model or name, key, section.timeout)


def cache_folder(settings: Settings) -> Path:
    """Where all models' snapshots of threads are."""
    return settings.server.data_dir / "cache"


def engine_settings(section: ModelSection) -> EngineSettings:
    """A model's section, in the engine's own words."""
    return EngineSettings(**{f.name: getattr(section, f.name) for f in fields(EngineSettings)})


def build_catalog(
    engines: Mapping[str, Engine],
    endpoints: Mapping[str, ChatEndpoint],
    settings: Settings,
    created: int,
) -> Catalog:
    """The catalog over started engines and endpoints.

    Raises ModelProblem for a chat template that is broken.
    """
    local = [_model(name, engine, created) for name, engine in engines.items()]
    remote = [_upstream(name, each, settings, created) for name, each in endpoints.items()]
    default = local[0].id if local else chosen_model(settings)
    return Catalog([*local, *remote], settings.models.aliases_for(default))


def _upstream(name: str, endpoint: ChatEndpoint, settings: Settings, created: int) -> Model:
    section = settings.of_model(name)
    context = section.context or UPSTREAM_CONTEXT
    limits = UpstreamLimits(section.slots, context, section.upstream_limit)
    return Model(name, created, UpstreamModel(endpoint, limits))


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
