"""Where the files that travel with the code are: migrations, the tiny model, the default config."""

from pathlib import Path

_INSTALLED = Path(__file__).parent / "_bundled"
_CHECKOUT = Path(__file__).parent.parent


def bundled_path(name: str) -> Path:
    """The path of a file or folder that travels with the code, e.g. `models/tiny-assistant.gguf`.

    An installed wheel carries them inside the package; a checkout has them at its top level.
    """
    root = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
    return root / name
