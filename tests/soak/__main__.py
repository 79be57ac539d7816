"""The long form: `make soak`, or `python -m tests.soak --minutes 30 --seed 1`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.soak.soak import Plan, soaking


def main() -> int:
    """Soak a server, and print what was seen; returns 1 if something was not as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with (
        TemporaryDirectory() as folder,
        soaking(Path(folder), Plan(60 * options.minutes, options.seed)) as soak,
    ):
        asyncio.run(soak.last())
        print(soak.report())
    return 1 if soak.faults else 0


if __name__ == "__main__":
    sys.exit(main())
