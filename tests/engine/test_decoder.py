"""Continuous batching, on a model made of arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.engine.backend import Outcome
from server.engine.batch import Batch
from server.engine.messages import End
from server.engine.protocol import Sampling
from tests.engine.arithmetic import ArithmeticBackend, answer
from tests.engine.serving import Served, ending_prompt, prompt_of, talkative_prompts


def test_sequences_that_decode_together_say_what_they_say_alone() -> None:
    """Each sequence gets exactly its own tokens, in one step for all."""
    served = Served(ArithmeticBackend())
    prompts = [prompt_of(seed, 5 + seed) for seed in range(4)]
    for number, prompt in enumerate(prompts):
        served.ask(number, prompt)
    served.run()
    assert [served.said[n] for n in range(4)] == [answer(prompt, 8) for prompt in prompts]
    assert max(len(step.tokens) for step in served.steps) == 4


def test_a_request_joins_between_two_steps() -> None:
    """A new prompt is decoded in the very next step, beside the stream that runs."""
    served = Served(ArithmeticBackend())
    served.ask(1, prompt_of(1, 4), most=20)
    served.step()
    served.ask(2, prompt_of(2, 4))
    assert {token.number for token in served.step().tokens} == {1, 2}


def test_an_end_of_turn_token_ends_and_is_counted_but_not_said() -> None:
    """`stop` counts the token that ended the turn; the caller never sees it."""
    served = Served(ArithmeticBackend())
    prompt = ending_prompt()
    served.ask(1, prompt, most=60)
    served.run()
    said = answer(prompt, 60)
    assert served.said[1] == said
    assert served.ends[1] == End(1, "stop", len(prompt), len(said) + 1, 0)


def test_max_tokens_and_the_context_end_with_length() -> None:
    """A generation ends at its own limit, or where the context is full."""
    served = Served(ArithmeticBackend(context=12, cells=48))
    served.ask(1, prompt_of(1, 4), most=3)
    served.ask(2, prompt_of(2, 4), most=100)
    served.ask(3, prompt_of(2, 4), most=0)
    served.run()
    counts = {n: (end.reason, end.completion_tokens) for n, end in served.ends.items()}
    assert counts == {1: ("length", 3), 2: ("length", 8), 3: ("length", 0)}


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [([], "empty"), ([1] * 64, "64 tokens"), ([1, 97], "vocabulary"), ([-1], "vocabulary")],
)
def test_a_prompt_that_cannot_be_decoded_fails_alone(prompt: list[int], reason: str) -> None:
    """It is refused before it reaches the batch, and the others go on."""
    served = Served(ArithmeticBackend())
    served.ask(1, prompt)
    served.ask(2, prompt_of(2, 4))
    served.run()
    assert reason in served.failures[1]
    assert served.said[2] == answer(prompt_of(2, 4), 8)


@pytest.mark.parametrize(
    ("seconds_per_token", "streams", "prompts", "length", "chunk"),
    [
        (0.01, 8, 1, 400, 50),  # the shortest step: one prompt, and many streams to hold up
        (0.01, 4, 1, 400, 75),  # longer, with the square of how many wait for each stream
        (0.01, 4, 2, 400, 252),  # all that the batch takes, where half as many wait as stream
        (0.01, 8, 1, 100, 100),  # what is read within a second is read in one go
        (0.01, 8, 1, 101, 50),
        (1.0, 8, 1, 400, 4),  # never less than the smallest chunk
    ],
)
def test_a_step_reads_as_much_as_the_streams_can_bear(
    seconds_per_token: float, streams: int, prompts: int, length: int, chunk: int
) -> None:
    """Beside streams prompts come in chunks, by what they cost and by how many wait."""
    served = Served(ArithmeticBackend(slots=12, context=512, cells=4096), batch=256, chunk=4)
    served.backend.seconds_per_token = seconds_per_token
    for number, prompt in enumerate(talkative_prompts(streams)):
        served.ask(number, prompt, most=40)
    served.step()
    for number in range(streams, streams + prompts):
        served.ask(number, prompt_of(number, length), most=1)
    before = len(served.said[0])
    served.step()
    assert served.backend.batches[-1] == chunk + streams
    assert len(served.said[0]) == before + 1


def test_a_slow_machine_is_not_taken_for_one_that_hangs() -> None:
    """No step takes more than some seconds, not even the first one, with nobody else to hold up."""
    served = Served(ArithmeticBackend(slots=2, context=512, cells=4096), batch=256, chunk=4)
    served.backend.seconds_per_token = 0.5
    served.decoder.warm_up()
    served.ask(1, prompt_of(1, 400), most=1)
    served.run()
    assert served.backend.batches[0] == 32
    assert set(served.backend.batches[1:-1]) == {20}
    assert served.said[1] == answer(prompt_of(1, 400), 1)


def test_what_streams_cost_is_not_taken_for_the_prompts() -> None:
    """A step beside streams takes their time, too; the next chunk is not made smaller for it."""
    served = Served(ArithmeticBackend(slots=12, context=512, cells=4096), batch=256, chunk=4)
    served.backend.seconds_per_token = 0.01
    served.ask_eight(steps=20)
    served.ask(8, prompt_of(8, 400), most=1)
    for _ in range(5):
        served.step()
    assert served.backend.batches[-5:] == [50 + 8] * 5


def test_cancel_ends_within_one_step_wherever_the_sequence_is() -> None:
    """Waiting, in its prompt, or streaming: the next step reports the end, with what was said."""
    served = Served(ArithmeticBackend(slots=2), batch=8)
    served.ask(1, prompt_of(1, 4), most=50)
    served.step()
    served.ask(2, prompt_of(2, 60), most=2)
    served.ask(3, prompt_of(3, 4))
    served.step()
    for number in (1, 2, 3):
        served.decoder.cancel(number)
    served.step()
    assert {n: end.reason for n, end in served.ends.items()} == dict.fromkeys(
        range(1, 4), "cancelled"
    )
    assert served.ends[1].completion_tokens == len(served.said[1]) == 2
    assert served.decoder.idle


def test_ends_and_refusals_need_no_step() -> None:
    """Whoever was cancelled or refused hears of it before the others' next tokens are computed."""
    served = Served(ArithmeticBackend())
    served.ask(1, prompt_of(1, 4), most=20)
    served.ask(2, prompt_of(2, 4), most=20)
    served.step()
    assert served.decoder.news() is None
    served.decoder.cancel(2)
    served.ask(3, [])
    news, computed = served.decoder.news(), len(served.backend.batches)
    assert news is not None
    assert [(end.number, end.reason) for end in news.ends] == [(2, "cancelled")]
    assert [failure.number for failure in news.failures] == [3]
    assert (news.live, len(served.backend.batches)) == (1, computed)
    assert served.decoder.news() is None
    served.run()
    assert served.said[1] == answer(prompt_of(1, 4), 20)


def test_a_cancelled_long_prompt_is_not_decoded_any_further() -> None:
    """A cancellation seen while its prompt is about to be decoded skips the step."""
    served = Served(ArithmeticBackend(context=512, cells=2048), batch=256)
    served.ask(1, prompt_of(1, 400))
    served.decoder.interrupt(1)
    served.step()
    assert served.backend.batches == []
    served.decoder.cancel(1)
    served.run()
    assert served.ends[1].reason == "cancelled"


class EagerBackend(ArithmeticBackend):
    """Hears of a cancellation at the worst moment: when its step is about to begin."""

    served: Served | None = None

    def decode(self, batch: Batch) -> Outcome:
        if self.served is not None:
            self.served.decoder.interrupt(1)
        return super().decode(batch)


@pytest.mark.parametrize("rolls_back", [True, False])
def test_a_cancellation_that_comes_as_the_step_begins_is_not_lost(rolls_back: bool) -> None:
    """The step of the long prompt is cut short, whatever came first."""
    backend = EagerBackend(context=512, cells=2048, rolls_back=rolls_back)
    served = Served(backend, batch=256)
    served.ask(1, prompt_of(1, 400))
    backend.served = served
    served.step()
    assert backend.batches == []
    served.decoder.cancel(1)
    served.run()
    assert served.ends[1].reason == "cancelled"


@pytest.mark.parametrize("rolls_back", [True, False])
def test_an_interrupt_costs_nobody_else_what_it_has(rolls_back: bool) -> None:
    """Beside others a step is cut short only where it can be taken back."""
    backend = EagerBackend(context=1024, cells=4096, rolls_back=rolls_back)
    backend.seconds_per_token = 0.001
    served = Served(backend, batch=512, chunk=255)
    stream = talkative_prompts(1)[0]
    served.ask(2, stream, most=40)
    for _ in range(3):
        served.step()
    served.ask(1, prompt_of(1, 1000))
    backend.served, before = served, len(backend.batches)
    served.step()
    served.decoder.cancel(1)
    served.run()
    assert served.said[2] == answer(stream, 40)
    read = sum(backend.batches[before:])
    assert (read < 100) == rolls_back
    assert sum(count for count in backend.batches if count > 1) <= len(stream) + 1000


class VisitedBackend(ArithmeticBackend):
    """While it computes somebody else comes, at `moments` after the beginning of its steps."""

    served: Served | None = None
    moments: tuple[float, ...] = ()

    def decode(self, batch: Batch) -> Outcome:
        if self.served is not None and self.moments:
            moment, *rest = self.moments
            self.moments = tuple(rest)
            self.now += moment
            self.served.decoder.welcome()
            number = 10 + len(rest)
            self.served.ask(number, prompt_of(number, 40))
        return super().decode(batch)


def visited(*moments: float, **backend: bool) -> Served:
    """A decoder that knows how fast it reads, and who has just been asked something long."""
    model = VisitedBackend(context=512, cells=4096, **backend)
    model.seconds_per_token = 0.002
    served = Served(model, batch=256)
    served.answer(1, prompt_of(1, 60))
    model.batches.clear()
    model.served, model.moments = served, moments
    served.ask(2, prompt_of(2, 100))
    return served


def test_requests_that_come_together_are_read_together() -> None:
    """A step that has only begun to read begins anew with whoever comes."""
    served = visited(0.01, 0.01)
    served.step()
    assert served.backend.batches == []
    for _ in range(2):
        served.step()
    assert served.backend.batches == [180]
    served.run()
    assert served.said[2] == answer(prompt_of(2, 100), 8)
    assert served.said[10] == answer(prompt_of(10, 40), 8)
    assert served.ends[2].cached_tokens == 0


@pytest.mark.parametrize("moments", [(0.03,), (0.02, 0.02)])
def test_who_comes_later_waits(moments: tuple[float, ...]) -> None:
    """A step begins anew only in its first eighth, and has no more of these for having done so."""
    served = visited(*moments)
    while not served.backend.batches:
        served.step()
    assert served.backend.batches == [100 + 40 * (len(moments) - 1)]


def test_who_speaks_is_not_held_up_for_company() -> None:
    """A step with a stream in it goes on."""
    served = visited()
    served.step()
    served.ask(3, prompt_of(3, 100))
    before = len(served.backend.batches)
    assert isinstance(served.backend, VisitedBackend)
    served.backend.moments = (0.001,)
    served.step()
    assert len(served.backend.batches) == before + 1


def test_a_state_without_a_middle_is_not_begun_anew() -> None:
    """That would cost all that was read."""
    served = visited(0.001, rolls_back=False)
    served.step()
    assert served.backend.batches


@pytest.mark.parametrize("token", [-1, 97])
def test_a_bias_on_an_unknown_token_fails_alone(token: int) -> None:
    """It would be an index out of the row; the others go on."""
    served = Served(ArithmeticBackend())
    served.ask(1, prompt_of(1, 4), sampling=Sampling(logit_bias=((token, 1.0),)))
    assert served.answer(2, prompt_of(2, 4)) == answer(prompt_of(2, 4), 8)
    assert "logit_bias" in served.failures[1]


def test_a_returning_conversation_reuses_its_prefix() -> None:
    """Only new tokens are decoded, and the count of cached ones says so."""
    served = Served(ArithmeticBackend())
    first = prompt_of(1, 20)
    served.ask(1, first, most=4)
    served.run()
    longer = first + served.said[1] + [7, 8, 9]
    decoded = sum(served.backend.batches)
    served.ask(2, longer, most=1)
    served.run()
    assert served.ends[2].cached_tokens == 23  # all but the last one said, which was never decoded
    assert sum(served.backend.batches) - decoded == len(longer) - 23
    assert served.said[2] == answer(longer, 1)


def test_the_same_prompt_again_decodes_one_token() -> None:
    """The last prompt token is always decoded: its logits are not kept."""
    served = Served(ArithmeticBackend())
    for number in (1, 2):
        served.ask(number, prompt_of(1, 20), most=2)
        served.run()
    assert served.ends[2].cached_tokens == 19
    assert served.said[1] == served.said[2]


def test_scopes_share_nothing() -> None:
    """What one scope has sent is not visible in another one's count of cached tokens."""
    served = Served(ArithmeticBackend())
    for number, scope in enumerate(("a", "b", "a"), start=1):
        served.ask(number, prompt_of(1, 30), most=1, scope=scope)
        served.run()
    assert [served.ends[n].cached_tokens for n in (1, 2, 3)] == [0, 0, 29]


def test_a_short_common_start_does_not_take_another_chats_slot() -> None:
    """Chats that share only the template's first tokens keep their own slots."""
    served = Served(ArithmeticBackend())
    start = prompt_of(9, 10)
    chats = [start + prompt_of(seed, 20) for seed in (1, 2)]
    for number, chat in enumerate(chats + chats):
        served.ask(number, chat, most=1)
        served.run()
    assert [served.ends[n].cached_tokens for n in range(4)] == [0, 0, 29, 29]


def test_a_new_chat_forks_from_one_that_shares_its_instructions() -> None:
    """The common start is decoded once, and the chat that had it first keeps its own rest."""
    served = Served(ArithmeticBackend(context=128))
    instructions = prompt_of(9, 20)
    chats = [instructions + prompt_of(seed, 30) for seed in (1, 2, 3)]
    served.ask(0, chats[0], most=20)
    for _ in range(5):
        served.step()
    served.ask(1, chats[1], most=1)
    served.run()
    served.ask(2, chats[2], most=1)
    served.run()
    served.ask(3, chats[0] + [5], most=1)
    served.run()
    assert [served.ends[n].cached_tokens for n in range(4)] == [0, 20, 20, 50]
    assert [served.said[n] for n in (1, 2)] == [answer(chat, 1) for chat in chats[1:]]


def test_a_model_that_cannot_roll_back_reuses_whole_prefixes_only() -> None:
    """Recurrent states and sliding windows have no middle to return to."""
    served = Served(ArithmeticBackend(rolls_back=False))
    first = prompt_of(1, 20)
    served.ask(1, first, most=4)
    served.run()
    longer = first + served.said[1] + [7]
    served.ask(2, longer, most=1)
    served.run()
    served.ask(3, [*first, 3], most=1)
    served.run()
    assert [served.ends[n].cached_tokens for n in (2, 3)] == [23, 0]
    assert served.said[3] == answer([*first, 3], 1)


def test_idle_prefixes_make_room_the_longest_unused_first() -> None:
    """Cells are taken from the conversation that was away the longest."""
    served = Served(ArithmeticBackend(slots=3, cells=64), batch=64)
    for number, seed in enumerate((1, 2, 3), start=1):
        served.ask(number, prompt_of(seed, 25), most=1)
        served.run()
    for number, seed in ((4, 3), (5, 1)):
        served.ask(number, prompt_of(seed, 25), most=1)
        served.run()
    assert served.ends[4].cached_tokens == 24
    assert served.ends[5].cached_tokens == 0


def test_sequences_that_outgrow_the_cells_all_finish() -> None:
    """The youngest is parked and comes back; nobody fails, nobody's text changes."""
    served = Served(ArithmeticBackend(slots=4, context=64, cells=64))
    prompts = [prompt_of(seed, 20) for seed in range(4)]
    for number, prompt in enumerate(prompts):
        served.ask(number, prompt, most=40)
    served.run()
    assert [served.said[n] for n in range(4)] == [answer(prompt, 40) for prompt in prompts]
    assert all(end.reason in {"length", "stop"} for end in served.ends.values())


def test_a_context_fuller_than_counted_parks_and_goes_on() -> None:
    """llama.cpp's own word that it is full counts, whatever we have counted."""
    served = Served(ArithmeticBackend())
    prompts = [prompt_of(seed, 20) for seed in range(3)]
    for number, prompt in enumerate(prompts):
        served.ask(number, prompt)
    served.step()
    served.backend.refuses = 2
    served.run()
    assert [served.said[n] for n in range(3)] == [answer(prompt, 8) for prompt in prompts]


prompts = st.tuples(st.integers(0, 5), st.integers(1, 40))


@settings(max_examples=150, deadline=None)
@given(
    requests=st.lists(
        st.tuples(prompts, st.integers(0, 30), st.integers(0, 6), st.sampled_from("ab")),
        min_size=1,
        max_size=12,
    ),
    cancels=st.dictionaries(st.integers(0, 11), st.integers(0, 30)),
    slots=st.integers(1, 4),
    cells=st.integers(48, 160),
    real_cells=st.integers(48, 160),
    rolls_back=st.booleans(),
)
def test_every_sequence_gets_exactly_its_own_tokens(
    requests: list[tuple[tuple[int, int], int, int, str]],
    cancels: dict[int, int],
    slots: int,
    cells: int,
    real_cells: int,
    rolls_back: bool,
) -> None:
    """Whatever arrives, is cancelled, overflows or reuses a prefix: all texts are right."""
    served = Served(
        ArithmeticBackend(slots=slots, context=48, cells=cells, rolls_back=rolls_back), batch=16
    )
    served.backend.real_cells = min(cells, real_cells)
    expected = {}
    for number, (prompt, most, pause, scope) in enumerate(requests):
        served.ask(number, prompt_of(*prompt), most, scope)
        expected[number] = answer(prompt_of(*prompt), min(most, 48 - prompt[1]))
        for _ in range(pause):
            served.step()
        if cancels.get(number, 31) <= 15:
            served.decoder.cancel(number)
    served.run()
    assert served.ends.keys() == expected.keys()
    for number, end in served.ends.items():
        said = served.said[number]
        assert said == expected[number][: len(said)]
        assert end.reason == "cancelled" or said == expected[number]
        assert end.prompt_tokens == requests[number][0][1]
        assert end.completion_tokens == len(said) + (end.reason == "stop")
    assert served.backend.cells_held <= min(cells, real_cells)
