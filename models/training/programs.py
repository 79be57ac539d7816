"""Runs a program that the model wrote, in a process and a folder of its own, and sees what it did.

Only for the model of this folder, whose programs follow from its corpus: nothing here keeps
a program from what the user may do.
"""

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from corpus.coding import FOLDER

SECONDS = 10
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
# Stands in for the plotting library: writes down, in place of a picture, what was to be drawn.
PLOTTING = """
drawn = []
def bar(*given, **named): drawn.append(["bar", *map(list, given)])
def plot(*given, **named): drawn.append(["plot", *map(list, given)])
def scatter(*given, **named): drawn.append(["scatter", *map(list, given)])
def hist(*given, **named): drawn.append(["hist", *map(list, given)])
def pie(values, labels=(), **named): drawn.append(["pie", list(values), list(labels)])
def title(text): drawn.append(["title", text])
def xlabel(text): pass
def ylabel(text): pass
def figure(**named): pass
def savefig(path):
    with open(path, "w") as file:
        file.write(repr(drawn))
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    ran: bool
    printed: str
    made: dict[str, str]

    def agrees(self, right: "Outcome") -> bool:
        """Whether the same files were made and the same values printed, however rounded."""
        return self.ran and self.made == right.made and alike(self.printed, right.printed)


def alike(printed: str, right: str) -> bool:
    ours, theirs = NUMBER.findall(printed), NUMBER.findall(right)
    if not theirs:
        return printed.split() == right.split()
    return len(ours) == len(theirs) and all(map(close, ours, theirs))


def close(ours: str, theirs: str) -> bool:
    return abs(float(ours) - float(theirs)) <= 0.01 * max(1.0, abs(float(theirs)) * 0.01)


def run(code: str, files: dict[str, str]) -> Outcome:
    with tempfile.TemporaryDirectory() as name:
        data, library = Path(name, "data"), Path(name, "library", "matplotlib")
        data.mkdir()
        library.mkdir(parents=True)
        Path(library, "__init__.py").touch()
        Path(library, "pyplot.py").write_text(PLOTTING)
        for file, content in files.items():
            Path(data, file).write_text(content, encoding="utf-8")
        return in_folder(code.replace(FOLDER, str(data)), data, library.parent, files)


def in_folder(code: str, data: Path, library: Path, files: dict[str, str]) -> Outcome:
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=data,
            env={"PYTHONPATH": str(library), "PYTHONUTF8": "1"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except (subprocess.TimeoutExpired, ValueError):  # a program with a zero byte in it
        return Outcome(ran=False, printed="", made={})
    made = {
        path.name: path.read_text(encoding="utf-8", errors="replace")
        for path in data.iterdir()
        if path.is_file() and path.name not in files
    }
    return Outcome(done.returncode == 0, done.stdout, made)
