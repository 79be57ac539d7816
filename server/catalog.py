"""From settings to models: which files and endpoints there are, and the names they go by."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from pathlib import Path

from server.bundled import bundled_path
from server.chat.dialects import DIALECTS
from server.config import NGRAMS, NO_RERANKER, ModelSection, Settings, in_environment
from server.engine.client import WorkerEngine
from server.engine.devices import Gpus, find_gpus
from server.engine.gguf import Part, find_files
from server.engine.machine import available_memory, computes_on_gpu
from server.engine.pool import Loadable, ModelPool, Stay
from server.engine.protocol import Engine, Sampling
from server.engine.settings import EngineSettings
from server.engine.upstream import ChatEndpoint, EndpointSettings, shown
from server.runs.local import LocalModel
from server.runs.models import Catalog, Model
from server.runs.upstream import UpstreamLimits, UpstreamModel
from server.search import minilm
from server.search.embedder import Embedder, ModelEmbedder, NgramEmbedder
from server.search.prefixes import Prefixes, prefixes_of
from server.search.reranker import Reranker

log = logging.getLogger(__name__)

UPSTREAM_CONTEXT = 32_768  # of an endpoint whose limit the settings leave open


class ModelProblem(Exception):
    """A model cannot be served; the text says why, for the user."""


def by_files(settings: Settings) -> Settings:
    """The same, with the sections of models under the ids that files have.

    A variable's name has no small letters: a section that has no file of its name belongs to the
    one whose id is spelled like it there.
    """
    ids = [chosen_model(settings)]
    ids += [name for folder in _folders(settings) for name, _ in find_files(folder)]
    spelled = {in_environment(name): name for name in reversed(ids)}

    def named(name: str, own: ModelSection) -> str:
        if name in ids or own.path is not None or own.upstream is not None:
            return name
        found = spelled.get(in_environment(name), name)
        return name if found in settings.model else found

    sections = {named(name, own): own for name, own in settings.model.items()}
    return settings.model_copy(update={"model": sections})


def find_models(settings: Settings) -> dict[str, Path]:
    """The model files at hand, by id: the default one first, then those that settings name.

    Of two files with one id, the first folder's counts. A file that is named need not be there.
    """
    here = {name: own for name, own in settings.model.items() if own.upstream is None}
    named = {name: own.path for name, own in here.items() if own.path is not None}
    if (path := _given_path(settings)) is not None:
        named[chosen_model(settings)] = path
    found = dict(named)
    for folder in _folders(settings):
        for name, path in find_files(folder):
            found.setdefault(name, path)
    for name in here:
        found.setdefault(name, settings.models.directory / f"{name}.gguf")
    first, elsewhere = chosen_model(settings), settings.model.keys() - here.keys()
    return {i: found[i] for i in sorted(found, key=lambda i: i != first) if i not in elsewhere}


def find_endpoints(settings: Settings) -> dict[str, str]:
    """The URLs of the models that have an endpoint, by id, as they may be shown."""
    models = settings.model.items()
    return {name: shown(section.upstream) for name, section in models if section.upstream}


def chosen_model(settings: Settings) -> str:
    """The id of the default model, which may be given as a file."""
    path = _given_path(settings)
    return settings.models.default if path is None else Part.of(path).stem


def open_engines(settings: Settings) -> dict[str, Engine]:
    """An engine, not yet started, for each model that runs here; a default one is the first.

    Raises ModelProblem if there is no such file.
    """
    name, paths = chosen_model(settings), find_models(settings)
    here = settings.of_model(name).upstream is None
    if here and name not in paths:
        folders = ", ".join(map(str, _folders(settings)))
        raise ModelProblem(f"no model '{name}': there is no {name}.gguf in {folders}")
    if here and not paths[name].is_file():
        raise ModelProblem(f"no model file at {paths[name]}")
    return {name: _worker(name, path, settings) for name, path in paths.items()}


def _worker(name: str, path: Path, settings: Settings) -> WorkerEngine:
    return WorkerEngine(
        path,
        name=name,
        settings=engine_settings(settings.of_model(name)),
        cache=cache_folder(settings),
        counts_gpu=_counts_gpu(settings),
    )


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
    """The catalog over engines, which need not be started, and over endpoints.

    The default model is an endpoint's if the settings say so, else the first engine's. An alias of
    a model that is not among them is no error, but logged.
    """
    local = [
        Model(name, created, _local(engine, settings.of_model(name)))
        for name, engine in engines.items()
    ]
    remote = [_upstream(name, each, settings, created) for name, each in endpoints.items()]
    first = chosen_model(settings)
    models = sorted([*local, *remote], key=lambda model: model.id != first)
    aliases = settings.models.aliases_for(models[0].id)
    catalog = Catalog(models, aliases)
    for alias, name in aliases.items():
        if name not in catalog.models:
            log.warning("models.alias_of_none", extra={"alias": alias, "model": name})
    return catalog


def _local(engine: Engine, section: ModelSection) -> LocalModel:
    dialect = None if section.dialect is None else DIALECTS[section.dialect]
    return LocalModel(engine, _usual_sampling(section), dialect)


def _upstream(name: str, endpoint: ChatEndpoint, settings: Settings, created: int) -> Model:
    section = settings.of_model(name)
    context = section.context or UPSTREAM_CONTEXT
    limits = UpstreamLimits(section.slots, context, section.upstream_limit)
    return Model(name, created, UpstreamModel(endpoint, limits))


def _usual_sampling(section: ModelSection) -> Sampling:
    """What holds where a request says nothing, as OpenAI's never do."""
    return Sampling(
        top_k=section.top_k,
        min_p=section.min_p,
        repetition_penalty=section.repetition_penalty,
    )


def build_pool(catalog: Catalog, settings: Settings, now: Callable[[], float]) -> ModelPool:
    """The pool of the models that take memory here."""
    local: dict[str, Loadable] = {
        name: model.local for name, model in catalog.models.items() if model.local is not None
    }
    stays = {name: _stay(name, catalog, settings) for name in local}
    return ModelPool(local, stays, memory=_memory(settings), now=now)


async def preload(pool: ModelPool, catalog: Catalog, settings: Settings) -> None:
    """Load the default model, and begin to load what is to be loaded at the start, too.

    Raises EngineUnavailable for the default model.
    """
    async with pool.using(catalog.default):
        await pool.survey()
    local = (model.id for model in catalog.models.values() if model.local is not None)
    pool.preload(name for name in local if settings.of_model(name).preload)


def embedding_model(models: Collection[str], settings: Settings) -> str | None:
    """Which of these makes texts comparable; None: their words do. Raises ModelProblem."""
    wanted = settings.search.embedding_model
    if wanted == NGRAMS:
        return None
    if wanted is None:
        return minilm.NAME if minilm.NAME in models else None
    if wanted not in models:
        raise ModelProblem(f"search.embedding_model: there is no file of a model '{wanted}'")
    return wanted


async def build_embedder(
    engines: Mapping[str, Engine], pool: ModelPool, settings: Settings
) -> Embedder:
    """What makes texts comparable. Loads nothing. Raises ModelProblem, EngineUnavailable."""
    name = embedding_model(engines, settings)
    if name is None:
        return NgramEmbedder()
    measured = await engines[name].measure()
    if not measured.embeds or measured.ranks:
        does = "ranks texts" if measured.ranks else "writes text"
        raise ModelProblem(f"search.embedding_model: '{name}' {does}; it makes no embeddings")
    return ModelEmbedder(
        name,
        engines[name],
        pool,
        identity=await engines[name].identify(),
        dimensions=measured.dimensions,
        window=measured.context,
        prefixes=_prefixes(name, settings.of_model(name)),
    )


def reranking_model(models: Collection[str], settings: Settings) -> str | None:
    """Which of these has the last word on what was found, if any. Raises ModelProblem."""
    wanted = settings.search.reranker
    if wanted == NO_RERANKER:
        return None
    if wanted not in models:
        raise ModelProblem(f"search.reranker: there is no file of a model '{wanted}'")
    return wanted


async def build_reranker(
    engines: Mapping[str, Engine], pool: ModelPool, settings: Settings
) -> Reranker | None:
    """Loads nothing. Raises ModelProblem, EngineUnavailable."""
    name = reranking_model(engines, settings)
    if name is None:
        return None
    measured = await engines[name].measure()
    if not measured.ranks:
        raise ModelProblem(f"search.reranker: '{name}' is no model that ranks texts")
    window, pairs = measured.context, settings.search.reranked
    return Reranker(name, engines[name], pool, window=window, pairs=pairs)


def _prefixes(name: str, section: ModelSection) -> Prefixes:
    known = prefixes_of(name)
    return Prefixes(
        known.query if section.query_prefix is None else section.query_prefix,
        known.passage if section.passage_prefix is None else section.passage_prefix,
    )


def _memory(settings: Settings) -> int:
    """For all models together."""
    if settings.models.memory is not None:
        return settings.models.memory
    gpus = _gpus(settings)
    return available_memory() if gpus is None else gpus.free


def _counts_gpu(settings: Settings) -> bool:
    """Whether of each model only that part counts which is on a GPU: the rest is elsewhere."""
    gpus = _gpus(settings)
    return gpus is not None and not gpus.shared


def _gpus(settings: Settings) -> Gpus | None:
    """Those whose memory models share: one model that computes there is enough."""
    sections = (settings.engine, *settings.model.values())
    wanted = any(section.gpu_layers for section in sections)
    return find_gpus() if wanted and computes_on_gpu() else None


def _stay(name: str, catalog: Catalog, settings: Settings) -> Stay:
    """The default model stays unless it was told to go: it is the one that is always in use."""
    own = settings.of_model(name)
    usual = math.inf if name == catalog.default else settings.models.idle_after
    return Stay(own.pin, usual if own.idle_after is None else own.idle_after)


def _given_path(settings: Settings) -> Path | None:
    """The file that `models.default` names, if it is a path and not an id.

    What has a section is an id, even if there is such a file.
    """
    default = settings.models.default
    if default in settings.model:
        return None
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
