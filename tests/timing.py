"""Bounds on time, mostly the processor's, without garbage collections.

How fast it is, benchmarks tell.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def little_work(seconds: float, clock: Callable[[], float] = time.thread_time) -> Iterator[None]:
    """What is inside takes less time than that: the thread's on a processor, or by the clock given.

    No garbage is collected meanwhile: thousands of tests leave a second's work.
    """
    gc.disable()
    try:
        begun = clock()
        yield
        took = clock() - begun
    finally:
        gc.enable()
    assert took < seconds
