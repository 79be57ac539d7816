"""Where training keeps what it makes: outside the repository."""

import argparse
from pathlib import Path

FOLDER = Path.home() / ".cache" / "assistants-server" / "training"


def folder_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of vocabulary and checkpoint")


def vocabulary_of(folder: Path) -> Path:
    return folder / "tokenizer.json"


def checkpoint_of(folder: Path) -> Path:
    return folder / "checkpoint.pt"
