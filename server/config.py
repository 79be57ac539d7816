"""Every setting, by section, and where its value comes from.

Flags win over the environment (`ASSISTANTS_<SECTION>__<KEY>`), the environment over the config
file, the file over the defaults here. A model has a section of its own, `[model.<id>]`, in the
environment `ASSISTANTS_MODEL__<ID>__<KEY>`; what it leaves open is taken from `[engine]`. A part of
the server is handed its own section, never the whole.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

ENVIRONMENT_PREFIX = "ASSISTANTS_"
AUTO = "auto"
NEVER = "never"
NGRAMS = "ngrams"
NO_RERANKER = "none"
DEFAULT_MODEL = "default"
DEFAULT = "models.default"
MODEL = "model"  # the section that has a section for each model
ANY_MODEL = "<id>"

OPENAI_NAMES = (
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-4-turbo",
    "gpt-3.5-turbo",
    "gpt-*",
    "chatgpt-*",
    "codex-*",
    "o1*",
    "o3*",
    "o4*",
)


class ConfigError(Exception):
    """A setting is unknown or has a value that cannot be used; the text is one sentence."""


def _or_word(word: str, meaning: float | None) -> WrapValidator:
    """The word stands for a value; who writes another one is told the word, too."""

    def validate(value: object, otherwise: ValidatorFunctionWrapHandler) -> object:
        if value == word:
            return meaning
        try:
            return otherwise(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            said = re.sub("^Input should be ", f"should be {word!r}, or ", reason)
            raise ValueError(said) from error

    return WrapValidator(validate)


def _parsed_if_text(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


def _at_home(path: Path) -> Path:
    """A `~` or `~user` at the beginning is that user's home folder, as in a shell.

    Paths go to other processes as text, and into answers.
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        raise ValueError("should be UTF-8") from None
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("should begin with the home folder of a user that there is") from None


def _named_at_home(path: str) -> str:
    """The same for what may be no path, or be written in another way."""
    return str(_at_home(Path(path))) if path.startswith("~") and "/" in path else path


def _adapters_at_home(scales: dict[str, float]) -> dict[str, float]:
    return {_named_at_home(path): scale for path, scale in scales.items()}


def _base_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^/?#\s]+[^?#\s]*", value):
        raise ValueError("should be a base URL such as http://127.0.0.1:8001/v1")
    return value


LARGEST: Final = 2**53  # what is added to it, as the time is, still fits into a row

Positive = Annotated[int, Field(gt=0, le=LARGEST)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
PositiveOrAuto = Annotated[Positive | None, _or_word(AUTO, None)]
CountOrAuto = Annotated[Count | None, _or_word(AUTO, None)]
SecondsOrNever = Annotated[float, Field(gt=0), _or_word(NEVER, math.inf)]
Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Scale = Annotated[float, Field(allow_inf_nan=False)]
Place = Annotated[Path, AfterValidator(_at_home)]
PlaceOrAuto = Annotated[Place | None, _or_word(AUTO, None)]
TextOrAuto = Annotated[str | None, _or_word(AUTO, None)]
BusyPolicy = Literal["error", "queue", "interrupt"]
BUSY_POLICIES: Final[tuple[BusyPolicy, ...]] = get_args(BusyPolicy)
EndpointUrl = Annotated[str, AfterValidator(_base_url)]
SplitMode = Literal["none", "layer", "row", "tensor"]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
DialectName = Literal[
    "hermes",
    "qwen3-coder",
    "llama3",
    "mistral",
    "mistral-list",
    "deepseek",
    "deepseek-v3.1",
    "harmony",
    "command-r",
    "phi4-mini",
    "granite",
    "gemma4",
    "json",
]
DialectOrAuto = Annotated[DialectName | None, _or_word(AUTO, None)]


class Section(BaseModel):
    """A frozen group of settings; `load_settings` has refused unknown keys before one is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(Section):
    """Where the server listens and keeps its data."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    data_dir: Place = Path("data")
    allow_open: bool = False
    shutdown_grace: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10.0


class DatabaseSettings(Section):
    """How the database is opened."""

    busy_timeout: Seconds = 5.0
    readers: Positive = 4


class LimitsSettings(Section):
    """What a request, a key and a project may have at most; 0 is no limit of the latter two.

    And for how long, and of how many requests, an `Idempotency-Key` is known.
    """

    body_bytes: Positive = 16 * 2**20
    json_depth: Annotated[int, Field(gt=0, le=200)] = 64  # orjson writes 254, and we add some
    body_timeout: Seconds = 60.0
    requests_per_minute: Count = 0
    tokens_per_minute: Count = 0
    concurrent_runs: Count = 0
    project_assistants: Count = 0
    project_threads: Count = 0
    project_files: Count = 0
    project_vector_stores: Count = 0
    idempotency_lifetime: Positive = 86_400
    idempotency_keys: Positive = 100_000


class RunsSettings(Section):
    """How long a run may take, how often it is tried again, and what waits for it in its thread."""

    expires_after: Positive = 600
    sweep_interval: Seconds = 1.0
    completion_cap: Positive = 2048
    tool_rounds: Positive = 100
    worker_deaths: Positive = 2
    restarts: Count = 5
    project_queue: Positive = 2000
    queue: Positive = 10_000
    busy_policy: BusyPolicy = "error"
    busy_waiting: Positive = 32


class StreamsSettings(Section):
    """What is held for the readers of a run's events, and what is done about slow ones."""

    ring_bytes: Positive = 4 * 2**20
    total_bytes: Positive = 256 * 2**20
    keep: Seconds = 600.0
    ping: Seconds = 15.0
    send_buffer: Positive = 65536
    stuck_after: Seconds = 30.0


class FilesSettings(Section):
    """How large files may be, alone and together, how long they may take, who may have them back.

    `project_bytes` 0 is no limit.
    """

    max_bytes: Positive = 512 * 2**20
    max_upload_bytes: Positive = 8 * 2**30
    max_part_bytes: Positive = 64 * 2**20
    project_bytes: Count = 0
    silence: Seconds = 60.0
    sweep_interval: Seconds = 60.0
    download_all: bool = False


class ExtractionSettings(Section):
    """What the text of one document may cost, and how much of it there may be."""

    memory: Positive = 2**30
    seconds: Positive = 30
    text_bytes: Positive = 32 * 2**20


class VectorStoresSettings(Section):
    """How files are taken into vector stores."""

    parallel: Positive = 2
    attempts: Positive = 3
    retry_after: Seconds = 2.0
    max_tokens: Positive = 5_000_000
    sweep_interval: Seconds = 10.0


class SearchSettings(Section):
    """How files are searched. Without an embedding model: by the one that is made, if it is there.

    NGRAMS is by words and pieces of words. Indexes may have `index_bytes` of memory. A `reranker`
    reads up to `reranked` pairs of a query and a passage once more.
    """

    embedding_model: TextOrAuto = None
    reranker: Annotated[str, Field(min_length=1)] = NO_RERANKER
    reranked: Positive = 20
    index_bytes: Positive = 2 * 2**30


class CodeInterpreterSettings(Section):
    """Where a model's code runs, and what it may take there.

    Without an environment: the one that is made beside the server, if it is there.
    """

    backend: Literal["auto", "bubblewrap", "landlock", "remote", "off"] = "auto"
    socket: Place = Path("/run/sandbox/socket")
    environment: PlaceOrAuto = None
    sessions: Positive = 32
    spare: Count = 1
    idle_after: Seconds = 3600.0
    seconds: Seconds = 120.0
    cpu_seconds: Positive = 600
    memory: Positive = 2**30
    process_memory: Positive = 3 * 2**30
    processes: Positive = 64
    open_files: Positive = 256
    disk: Positive = 256 * 2**20
    file_bytes: Positive = 64 * 2**20
    inodes: Positive = 20_000
    output_bytes: Positive = 200_000
    figures: Positive = 10
    first_uid: Positive = 59_000


class EngineSection(Section):
    """How a model is loaded and decoded; None is chosen from the file and the machine."""

    slots: Annotated[int, Field(ge=1, le=255)] = 16
    context: PositiveOrAuto = None
    kv_cells: PositiveOrAuto = None
    threads: PositiveOrAuto = None
    batch: Positive = 512
    prefill_chunk_busy: Positive = 64
    idle_cells: Count = 0
    cache_ram_bytes: CountOrAuto = None
    cache_disk_bytes: Count = 4 * 2**30
    top_k: Count = 40
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] = 1.0
    gpu_layers: Annotated[int, Field(ge=-1)] = -1
    split_mode: SplitMode = "layer"
    tensor_split: Annotated[tuple[Share, ...], BeforeValidator(_parsed_if_text)] = ()
    main_gpu: Count = 0
    cache_type_k: CacheType = "f16"
    cache_type_v: CacheType = "f16"
    flash_attention: bool = True
    spin: Count = 1000
    load_timeout: Seconds = 300.0
    hang_timeout: Seconds = 60.0


class ModelSection(EngineSection):
    """One model: its file, how long it stays, and the engine's settings where it has its own.

    Or the chat endpoint that runs it, `upstream`, and how that is talked to.
    """

    upstream: EndpointUrl | None = None
    upstream_model: str | None = None
    upstream_key: str | None = None
    upstream_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    timeout: Seconds = 120.0
    path: Place | None = None
    dialect: DialectOrAuto = None
    query_prefix: TextOrAuto = None
    passage_prefix: TextOrAuto = None
    pin: bool = False
    preload: bool = False
    idle_after: SecondsOrNever | None = None
    lora: Annotated[
        dict[str, Scale], BeforeValidator(_parsed_if_text), AfterValidator(_adapters_at_home)
    ] = Field(default_factory=dict)


class ModelsSettings(Section):
    """Which models are served and for how long, and the other names that clients may use."""

    default: Annotated[str, Field(min_length=1), AfterValidator(_named_at_home)] = "tiny-assistant"
    directory: Place = Path("models")
    idle_after: SecondsOrNever = 1800.0
    memory: PositiveOrAuto = None
    aliases: Annotated[dict[str, str], BeforeValidator(_parsed_if_text)] = Field(
        default_factory=lambda: dict.fromkeys(OPENAI_NAMES, DEFAULT_MODEL)
    )

    def aliases_for(self, default: str) -> dict[str, str]:
        """The aliases by model id, where `default` is the id of the model that is served first."""
        return {
            pattern: default if name == DEFAULT_MODEL else name
            for pattern, name in self.aliases.items()
        }


class LoggingSettings(Section):
    """What is logged and how it looks."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class TracesSettings(Section):
    """Whether runs are traced; where to, OpenTelemetry's own environment variables say."""

    enabled: bool = False


class Settings(Section):
    """All settings. Only the code that puts the server together sees this."""

    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    limits: LimitsSettings = LimitsSettings()
    runs: RunsSettings = RunsSettings()
    streams: StreamsSettings = StreamsSettings()
    files: FilesSettings = FilesSettings()
    extraction: ExtractionSettings = ExtractionSettings()
    vector_stores: VectorStoresSettings = VectorStoresSettings()
    search: SearchSettings = SearchSettings()
    code_interpreter: CodeInterpreterSettings = CodeInterpreterSettings()
    engine: EngineSection = EngineSection()
    models: ModelsSettings = ModelsSettings()
    logging: LoggingSettings = LoggingSettings()
    traces: TracesSettings = TracesSettings()
    model: dict[str, ModelSection] = Field(default_factory=dict)

    def of_model(self, model_id: str) -> ModelSection:
        """A model's own section, or what holds for a model that has none."""
        return self.model.get(model_id) or ModelSection(**self.engine.model_dump())


class Entry(NamedTuple):
    """A value as it was given: `key` is `section.name`, `source` is where the user would look."""

    key: str
    value: object
    source: str

    @property
    def section(self) -> str:
        """Ids of models may have dots, names have none."""
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]


def load_settings(
    config_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """All settings, or a ConfigError that names the first wrong one.

    `overrides` are flags by `section.name`; those that are None were not given.
    """
    written, flags = list(_from_file(config_file)), list(_from_flags(overrides or {}))
    spelled = list(_from_environment(environ or {}, ()))
    ids = _model_ids(written, [*written, *spelled, *flags])
    entries = [*written, *_from_environment(environ or {}, ids), *flags]
    return _validated({entry.key: entry for entry in map(_known, entries)})


def setting_names() -> list[str]:
    """Every setting but the models' own as `section.name`, in the order of the sections."""
    return [
        f"{section}.{name}"
        for section, field in Settings.model_fields.items()
        if section != MODEL
        for name in type(field.default).model_fields
    ]


def model_setting_names(model_id: str = ANY_MODEL) -> list[str]:
    """Every setting that a model can have of its own."""
    return [f"{MODEL}.{model_id}.{name}" for name in ModelSection.model_fields]


def _from_file(path: Path | None) -> Iterator[Entry]:
    if path is None:
        return
    for section, values in _read_toml(path).items():
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: {section} stands in no section{_hint(section)}.")
        tables = {section: values} if section != MODEL else _model_tables(path, values)
        for table, settings in tables.items():
            for name, value in settings.items():
                yield Entry(f"{table}.{name}", value, str(path))


def _model_tables(path: Path, models: dict[str, Any]) -> dict[str, dict[str, Any]]:
    for name, table in models.items():
        if not isinstance(table, dict):
            where = f"[{MODEL}.{ANY_MODEL}]"
            raise ConfigError(f"{path}: {MODEL}.{name} stands in no section {where} of a model.")
    return {f"{MODEL}.{model_id}": table for model_id, table in models.items()}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is not valid TOML: it is nested too deeply.") from error


def _from_environment(environ: Mapping[str, str], model_ids: Iterable[str]) -> Iterator[Entry]:
    ids = {in_environment(model_id): model_id for model_id in model_ids}
    for variable, value in environ.items():
        section, separator, name = variable.removeprefix(ENVIRONMENT_PREFIX).partition("__")
        if not separator or not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        if section.lower() == MODEL and "__" in name:
            spelled, _, name = name.rpartition("__")
            section = f"{MODEL}.{ids.get(spelled, spelled.lower().replace('_', '-'))}"
        else:
            section = section.lower()
        yield Entry(f"{section}.{name.lower()}", value, variable)


def in_environment(model_id: str) -> str:
    """A model's id as a variable's name can spell it."""
    return re.sub("[^A-Z0-9]", "_", model_id.upper())


def _model_ids(written: Iterable[Entry], given: Iterable[Entry]) -> list[str]:
    """Those that have a section in the file, and the default one, wherever that is given."""
    sections = (entry.section.partition(".") for entry in written)
    ids = [model_id for section, _, model_id in sections if section == MODEL and model_id]
    defaults = [entry.value for entry in given if entry.key == DEFAULT]
    return [*map(str, defaults[-1:]), *ids]


def _from_flags(overrides: Mapping[str, object]) -> Iterator[Entry]:
    for key, value in overrides.items():
        if value is not None:
            name = "model" if key == DEFAULT else key.rpartition(".")[2].replace("_", "-")
            yield Entry(key, value, f"--{name}")


def _known(entry: Entry) -> Entry:
    if entry.key not in _names_beside(entry.key):
        raise ConfigError(f"{entry.source}: {entry.key} is not a setting{_hint(entry.key)}.")
    return entry


def _names_beside(key: str) -> list[str]:
    """All settings, a model's ones as they are called in the section of `key`."""
    section, _, model_id = key.rpartition(".")[0].partition(".")
    own = model_id if section == MODEL and model_id else ANY_MODEL
    return [*setting_names(), *model_setting_names(own)]


def _hint(key: str) -> str:
    nearest = _nearest(key, _names_beside(key))
    return f"; did you mean {nearest}" if nearest else ""


def _nearest(key: str, names: Iterable[str]) -> str | None:
    """The setting a user most likely meant: the same name in another section, else the closest."""
    names = list(names)
    same = [name for name in names if name.rpartition(".")[2] == key.rpartition(".")[2]]
    return next(iter(same or difflib.get_close_matches(key, names, n=1)), None)


def _validated(entries: Mapping[str, Entry]) -> Settings:
    sections: dict[str, dict[str, object]] = {}
    for entry in entries.values():
        sections.setdefault(entry.section, {})[entry.name] = entry.value
    models = {
        section.removeprefix(f"{MODEL}."): {**sections.get("engine", {}), **sections.pop(section)}
        for section in [*sections]
        if section.startswith(f"{MODEL}.")
    }
    try:
        return Settings.model_validate({**sections, MODEL: models})
    except ValidationError as error:
        raise ConfigError(_sentence(error, entries)) from error


def _sentence(error: ValidationError, entries: Mapping[str, Entry]) -> str:
    first = error.errors(include_url=False)[0]
    depth = 3 if first["loc"][0] == MODEL else 2
    entry = entries[".".join(map(str, first["loc"][:depth]))]
    reason = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return f"{entry.source}: {entry.key} {reason}, and not {entry.value!r}."
