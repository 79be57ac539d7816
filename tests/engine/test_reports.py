"""When a worker tells what its steps did: at once, or while a core is free."""

from __future__ import annotations

import pytest

from server.engine.messages import FromWorker, Step, Token
from server.engine.worker import Reports
from tests.engine.arithmetic import ArithmeticBackend
from tests.engine.serving import Served, prompt_of


class Told:
    """Reports, and the numbers of the steps that were sent."""

    def __init__(self, *, holds: bool) -> None:
        self.numbers: list[int] = []
        self.reports = Reports(self._hear, holds=holds)

    def put(self, number: int, *, steady: bool, seconds: float = 0.02) -> None:
        step = Step((Token(number, 0, ""),), (), (), 1, 0, seconds)
        self.reports.put(step, steady=steady)

    def _hear(self, message: FromWorker) -> None:
        assert isinstance(message, Step)
        self.numbers.append(message.tokens[0].number)


def test_a_steady_step_is_told_when_the_next_one_has_computed() -> None:
    """A held report is sent by the next flush, and only once."""
    told = Told(holds=True)
    told.put(1, steady=True)
    assert told.numbers == []
    told.reports.flush()
    assert told.numbers == [1]
    told.reports.flush()
    assert told.numbers == [1]


@pytest.mark.parametrize(("steady", "seconds"), [(False, 0.02), (True, 0.2)])
def test_news_and_the_text_of_long_steps_are_told_at_once(steady: bool, seconds: float) -> None:
    """A begin, an end or a slow step is not kept from whoever waits for it."""
    told = Told(holds=True)
    told.put(1, steady=steady, seconds=seconds)
    assert told.numbers == [1]


def test_nothing_overtakes_what_is_held() -> None:
    """What comes after a held report is sent after it."""
    told = Told(holds=True)
    told.put(1, steady=True)
    told.put(2, steady=False)
    assert told.numbers == [1, 2]


def test_where_cores_are_free_nothing_is_held() -> None:
    """Waiting would buy nothing there."""
    told = Told(holds=False)
    told.put(1, steady=True)
    assert told.numbers == [1]


def test_a_stream_is_steady_from_its_second_token_to_the_last_but_one() -> None:
    """And none is while another one waits, begins or ends."""
    served = Served(ArithmeticBackend(slots=2))
    served.ask(1, prompt_of(1, 4), most=8)
    seen = []
    for number in range(8):
        if number == 2:
            served.ask(2, prompt_of(2, 4), most=3)
        if number == 3:
            served.ask(3, prompt_of(3, 4), most=1)
        served.step()
        seen.append(served.decoder.steady)
    #               first       2 begins  3 waits  2 ends  3 begins, and ends        ends
    assert seen == [False, True, False, False, False, False, True, False]


def test_what_is_held_goes_out_between_computing_and_sampling() -> None:
    """And once a step, also in one that reads a prompt."""
    served = Served(ArithmeticBackend())
    served.ask(1, prompt_of(1, 4), most=3)
    events: list[str] = []
    compute, sample = served.backend.decode, served.backend.logits
    served.backend.decode = lambda batch: [events.append("compute"), compute(batch)][1]  # type: ignore
    served.backend.logits = lambda row: [events.append("sample"), sample(row)][1]  # type: ignore
    while not served.decoder.idle:
        served.decoder.step(lambda: events.append("told"))
    assert events == ["compute", "told", "sample"] * 3
