"""A self-hosted server that speaks the OpenAI Assistants API v2 over a local llama.cpp model."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("assistants-server")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0.0.0"
