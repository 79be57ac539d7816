"""Settings: where they come from, and what is said of wrong ones."""

import dataclasses
import math
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from server.bundled import bundled_path
from server.config import (
    AUTO,
    ConfigError,
    EngineSection,
    ModelSection,
    RunsSettings,
    Settings,
    load_settings,
    setting_names,
)
from server.engine.protocol import Sampling
from server.engine.settings import EngineSettings
from server.runs.executor import ExecutorSettings

SAMPLING = {"top_k", "min_p", "repetition_penalty"}  # used by whoever asks the engine


def config(folder: Path, text: str) -> Path:
    """A config file with `text`."""
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_without_any_source_the_defaults_hold() -> None:
    """No file, no environment and no flags give the defaults."""
    assert load_settings() == Settings()


def test_the_config_file_in_the_project_lists_every_setting_with_its_default() -> None:
    """config.toml has exactly the settings of the code, and changes none of them."""
    path = bundled_path("config.toml")
    listed = [
        f"{section}.{name}"
        for section, values in tomllib.loads(path.read_text()).items()
        for name in values
    ]
    assert listed == setting_names()
    assert load_settings(path) == Settings()


def test_every_setting_in_the_config_file_is_explained() -> None:
    """Each line of config.toml that sets something stands under a comment or names itself."""
    lines = bundled_path("config.toml").read_text().splitlines()
    bare = [
        line
        for before, line in pairwise(lines)
        if " = " in line and line[0] not in '#"' and not before.startswith("#")
    ]
    assert bare == ["min_p = 0.0", "repetition_penalty = 1.0"]


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    """Each source wins over the ones below it, setting by setting."""
    path = config(tmp_path, '[server]\nport = 1\nhost = "file"\n[runs]\nexpires_after = 60')
    environ = {"ASSISTANTS_SERVER__PORT": "2", "ASSISTANTS_SERVER__HOST": "environment"}
    settings = load_settings(path, environ, {"server.port": 3, "server.data_dir": None})
    assert settings.server.port == 3
    assert settings.server.host == "environment"
    assert settings.server.data_dir == Path("data")
    assert settings.runs.expires_after == 60
    assert settings.runs.restarts == 5


def test_other_variables_are_left_alone() -> None:
    """Variables without a section, or of other programs, are no settings."""
    environ = {"ASSISTANTS_FAILPOINTS": "x", "OTHER__PORT": "1", "PATH": "/bin"}
    assert load_settings(environ=environ) == Settings()


def test_auto_leaves_the_choice_to_the_engine() -> None:
    """`auto` is the absence of a choice, from the file and from the environment."""
    settings = load_settings(environ={"ASSISTANTS_ENGINE__CONTEXT": AUTO})
    assert settings.engine.context is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nprot = 1", "server.prot is not a setting; did you mean server.port."),
        ("[serve]\nport = 1", "serve.port is not a setting; did you mean server.port."),
        ("[zzz]\nqqqqqq = 1", "zzz.qqqqqq is not a setting."),
        ("port = 1", "port stands in no section; did you mean server.port."),
        ('[server]\nport = "x"', "server.port should be a valid integer"),
        ("[server]\nport = 70000", "and not 70000."),
        ("[streams]\nkeep = 0", "streams.keep should be greater than 0, and not 0."),
        ("[limits]\njson_depth = 201", "limits.json_depth should be less than or equal to 200"),
        ("[runs]\nexpires_after = 9223372036854775807", "should be less than or equal to 90071992"),
        ("[limits]\ntokens_per_minute = 1_000_000_000_000_000_000_000", "should be less than"),
        ("[streams]\nkeep = nan", "streams.keep should be a finite number, and not nan."),
        ('[logging]\nlevel = "loud"', "logging.level should be 'debug', 'info'"),
        ("[models]\naliases = 1", "models.aliases should be a valid dictionary"),
        ("[models.aliases]\nx = 1", "models.aliases should be a valid string"),
        ("[server\n", "is not valid TOML"),
        ("a = " + "[" * 5000, "is not valid TOML: it is nested too deeply."),
        ("[model.a]\nslot = 1", "model.a.slot is not a setting; did you mean model.a.slots."),
        ("[model.a]\nport = 1", "model.a.port is not a setting; did you mean server.port."),
        ("[server]\npin = 1", "server.pin is not a setting; did you mean model.<id>.pin."),
        ('[model."a.b"]\npin = 7', "model.a.b.pin should be a valid boolean"),
        ("[model]\npin = true", "model.pin stands in no section [model.<id>] of a model."),
        ("[model.a]\nlora = { x = nan }", "model.a.lora should be a finite number"),
        ("[engine]\nslots = 0\n[model.a]\npin = true", "engine.slots should be greater"),
        ('[models]\nidle_after = "always"', "idle_after should be 'never', or a valid number"),
        ("[models]\nidle_after = nan", "idle_after should be 'never', or greater than 0, and"),
        ('[engine]\ncontext = "max"', "engine.context should be 'auto', or a valid integer"),
        ("[engine]\nkv_cells = 0", "should be 'auto', or greater than 0, and not 0."),
        ('[model.a]\ndialect = "qwen"', "model.a.dialect should be 'auto', or 'hermes', "),
        ('[engine]\ncache_type_k = "q3"', "engine.cache_type_k should be 'f32', 'f16'"),
    ],
)
def test_a_wrong_config_file_is_refused_in_one_sentence(
    tmp_path: Path, text: str, said: str
) -> None:
    """The sentence names the file, the setting, and the nearest one where it is unknown."""
    path = config(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_config_file_is_named(tmp_path: Path) -> None:
    """A file that was asked for and is not there is an error."""
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read: No such file"):
        load_settings(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ASSISTANTS_SERVER__PROT", "1", "did you mean server.port"),
        ("ASSISTANTS_SERVER__PORT", "x", "server.port should be a valid integer"),
        ("ASSISTANTS_MODELS__ALIASES", "{", "models.aliases"),
        ("ASSISTANTS_MODEL__A__PTH", "x", "model.a.pth is not a setting; .* model.a.path"),
        ("ASSISTANTS_MODEL__PATH", "x", "model.path is not a setting"),
        ("ASSISTANTS_MODEL__A__LORA", "[", "model.a.lora"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, said: str) -> None:
    """What is wrong in the environment is told with the variable's name."""
    with pytest.raises(ConfigError, match=said) as caught:
        load_settings(environ={variable: value})
    assert str(caught.value).startswith(f"{variable}: ")


def test_a_wrong_flag_is_named() -> None:
    """What is wrong on the command line is told with the flag's name."""
    with pytest.raises(ConfigError, match=r"--port: server\.port should be"):
        load_settings(overrides={"server.port": -1})
    with pytest.raises(ConfigError, match=r"--model: models\.default String should have"):
        load_settings(overrides={"models.default": ""})


def test_aliases_follow_the_model_that_is_served() -> None:
    """`default` in the aliases is the served model; other ids stand for themselves."""
    environ = {"ASSISTANTS_MODELS__ALIASES": '{"gpt-*": "default", "o1": "other"}'}
    models = load_settings(environ=environ).models
    assert models.aliases_for("mine") == {"gpt-*": "mine", "o1": "other"}


def test_a_model_has_the_engines_settings_where_it_has_none_of_its_own(tmp_path: Path) -> None:
    """Also `auto`, which takes that back; a model without a section has just the engine's."""
    path = config(
        tmp_path,
        "[engine]\ncontext = 4096\nslots = 4\n"
        '[model."qwen2.5-7b"]\nslots = 2\ncontext = "auto"\nlora = { "a.gguf" = 0.5 }',
    )
    settings = load_settings(path, {"ASSISTANTS_ENGINE__BATCH": "64"})
    own = settings.of_model("qwen2.5-7b")
    assert (own.slots, own.context, own.batch) == (2, None, 64)
    assert own.lora == {"a.gguf": 0.5}
    other = settings.of_model("other")
    assert (other.slots, other.context, other.batch) == (4, 4096, 64)
    assert (other.path, other.pin, other.preload, other.idle_after) == (None, False, False, None)


def test_the_environment_spells_a_models_id_in_capitals_and_underscores(tmp_path: Path) -> None:
    """It means the model of the file that is spelled so, else a new one with dashes."""
    path = config(tmp_path, '[model."qwen2.5_7B"]\npin = true')
    environ = {
        "ASSISTANTS_MODEL__QWEN2_5_7B__SLOTS": "3",
        "ASSISTANTS_MODEL__NEW_ONE__PATH": "new.gguf",
        "ASSISTANTS_MODEL__NEW_ONE__TENSOR_SPLIT": "[3, 1]",
    }
    models = load_settings(path, environ).model
    assert set(models) == {"qwen2.5_7B", "new-one"}
    assert models["qwen2.5_7B"].pin
    assert models["qwen2.5_7B"].slots == 3
    assert models["new-one"].path == Path("new.gguf")
    assert models["new-one"].tensor_split == (3, 1)


def test_a_time_may_be_never() -> None:
    """`never` is longer than any time."""
    environ = {"ASSISTANTS_MODELS__IDLE_AFTER": "never", "ASSISTANTS_MODEL__A__IDLE_AFTER": "60"}
    settings = load_settings(environ=environ)
    assert settings.models.idle_after == math.inf
    assert settings.of_model("a").idle_after == 60


def test_the_examples_of_a_models_section_are_some(tmp_path: Path) -> None:
    """What config.toml shows in comments is taken, with every setting that only models have."""
    lines = bundled_path("config.toml").read_text().splitlines()
    start = lines.index("# [model.my-model]")
    path = config(tmp_path, "\n".join(line.removeprefix("# ") for line in lines[start:]))
    shown = load_settings(path).of_model("my-model")
    assert shown.path == Path("models/my-model-q4_k_m.gguf")
    tables = tomllib.loads(path.read_text())["model"].values()
    written = {name for table in tables for name in table}
    assert written >= set(ModelSection.model_fields) - set(EngineSection.model_fields)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8001/v1", "ftp://host/v1", "http://", "http://h/v1?k=1"]
)
def test_an_endpoint_has_a_base_url(url: str) -> None:
    """What is no URL that paths can be added to is refused, with an example of one."""
    with pytest.raises(ConfigError, match=r"big\.upstream should be a base URL such as http://"):
        load_settings(environ={"ASSISTANTS_MODEL__BIG__UPSTREAM": url})


def test_paths_may_be_in_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever they come from; what is no path stays as it is."""
    monkeypatch.setenv("HOME", "/home/ada")
    path = config(
        tmp_path,
        '[server]\ndata_dir = "~/data"\n'
        '[models]\ndirectory = "~"\n'
        '[code_interpreter]\nsocket = "~/socket"\nenvironment = "~/packages"\n'
        '[model.a]\npath = "~/a.gguf"\nlora = { "~/b.gguf" = 1.0, "c.gguf" = 2.0 }',
    )
    environ = {"ASSISTANTS_MODEL__B__PATH": "~/b.gguf"}
    settings = load_settings(path, environ, {"models.default": "~/a.gguf"})
    home = Path("/home/ada")
    assert settings.server.data_dir == home / "data"
    assert settings.models.directory == home
    assert settings.models.default == "/home/ada/a.gguf"
    assert settings.code_interpreter.socket == home / "socket"
    assert settings.code_interpreter.environment == home / "packages"
    assert settings.of_model("a").path == home / "a.gguf"
    assert settings.of_model("a").lora == {"/home/ada/b.gguf": 1.0, "c.gguf": 2.0}
    assert settings.of_model("b").path == home / "b.gguf"
    assert load_settings(overrides={"models.default": "~a"}).models.default == "~a"


def test_a_home_folder_is_somebodys(tmp_path: Path) -> None:
    """No folder is made that is called as nobody is."""
    with pytest.raises(ConfigError, match=r"server\.data_dir should begin with the home folder"):
        load_settings(config(tmp_path, '[server]\ndata_dir = "~nobody-here/data"'))


def test_settings_cannot_be_changed() -> None:
    """A section is a value."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().server.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("section", "taken"),
    [(EngineSection(), EngineSettings()), (RunsSettings(), ExecutorSettings())],
)
def test_a_section_has_the_names_and_defaults_of_the_part_it_is_for(
    section: EngineSection | RunsSettings, taken: EngineSettings | ExecutorSettings
) -> None:
    """A section can be handed over field by field, and neither side has a default of its own."""
    assert section.model_dump(exclude=SAMPLING) == {
        name: value for name, value in dataclasses.asdict(taken).items() if name != "lora"
    }


def test_models_choose_tokens_alike_unless_told_otherwise() -> None:
    """The settings have the sampler's own defaults, but for a top_k, which it has too."""
    assert EngineSection().model_dump(include=SAMPLING) == {
        name: getattr(Sampling(), name) for name in SAMPLING
    }


def test_the_engine_takes_all_of_a_model_but_when_it_is_loaded() -> None:
    """And how models are talked to. Adapters belong to one model only: [engine] has none."""
    endpoint = {"upstream", "upstream_model", "upstream_key", "upstream_limit", "timeout"}
    loading = {"path", "pin", "preload", "idle_after"}
    speech = {"dialect", "query_prefix", "passage_prefix"}
    assert set(ModelSection.model_fields) - loading - speech - endpoint - SAMPLING == {
        field.name for field in dataclasses.fields(EngineSettings)
    }
