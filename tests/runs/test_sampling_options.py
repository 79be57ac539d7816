"""The extension `x_sampling`: what a run says of it reaches the model, or is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from server.engine.protocol import InvalidRequest, Sampling
from server.runs.local import sampling_of
from server.runs.turns import Budget, SamplingOptions, TurnRequest
from tests.covering import covers
from tests.runs.story import HELLO, Json, Story, refusal, text_of

RUNS = "POST /v1/threads/{thread_id}/runs"
WITH_THREAD = "POST /v1/threads/runs"
ALL = {
    "top_k": 7,
    "min_p": 0.1,
    "seed": 42,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "repetition_penalty": 1.1,
    "logit_bias": {"17": -100, "18": 1.5},
    "stop": ["\n\n", "END"],
}
FIELDS = " ".join(ALL)


@covers(RUNS, "x_sampling", "taken", "default")
@covers(WITH_THREAD, "x_sampling", "taken", "default")
@covers("SamplingOptions", FIELDS, "taken", "default")
async def test_options_reach_the_model(story: Story) -> None:
    """All of them, for both ways to create a run; without them the model's defaults hold."""
    await story.run(temperature=0.5, x_sampling=ALL)
    await story.run()
    body: Json = {"assistant_id": story.assistant_id, "thread": {"messages": [HELLO]}}
    body["stream"] = True
    await story.http.post("/v1/threads/runs", json={**body, "x_sampling": {"top_k": 3}})
    asked, usual, third = (request.sampling for request in story.engine.requests)
    assert asked == Sampling(
        temperature=0.5,
        top_k=7,
        min_p=0.1,
        seed=42,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.1,
        logit_bias=((17, -100), (18, 1.5)),
    )
    assert usual == Sampling()
    assert third == replace(usual, top_k=3)


@covers("SamplingOptions", "stop", "taken")
@pytest.mark.parametrize("stop", ["END", ["never", "END"]], ids=str)
async def test_one_string_stops_as_a_list_of_it_does(story: Story, stop: Any) -> None:
    """As in OpenAI's chat completions; what is neither is refused in these words."""
    story.engine.says("One END two")
    run = await story.run(x_sampling={"stop": stop})
    assert [text_of(message) for message in await story.answers(run)] == ["One "]
    refused = (await story.create(x_sampling={"stop": 1})).json()["error"]
    assert (refused["param"], refused["code"]) == ("x_sampling.stop", "invalid_type")
    assert "one of a string or array of strings" in refused["message"]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        pytest.param(name, good, bad, marks=covers("SamplingOptions", name, "limit", "error"))
        for name, good, bad in [
            ("top_k", [0, 2**31 - 1], [-1, 2**31, 1.5, "1"]),
            ("min_p", [0, 1], [-0.1, 1.1, "0"]),
            ("seed", [-(2**63), 2**63 - 1], [-(2**63) - 1, 2**63, 0.5]),
            ("presence_penalty", [-2, 2], [-2.1, 2.1, "1"]),
            ("frequency_penalty", [-2, 2], [-2.1, 2.1, "1"]),
            ("repetition_penalty", [0.01, 10], [0, 10.1, "1"]),
            (
                "stop",
                ["a", "a" * 256, [], ["a"] * 16, ["a" * 256]],
                ["", "a" * 257, ["a"] * 17, ["a" * 257], [""], [1], 1, {}],
            ),
            (
                "logit_bias",
                [{}, {"0": 100, "1": -100}, {str(n): 1 for n in range(1024)}],
                [{"a": 1}, {"1": 101}, {"1": "1"}, {str(n): 1 for n in range(1025)}, []],
            ),
        ]
    ],
)
async def test_limits(story: Story, name: str, good: list[Any], bad: list[Any]) -> None:
    """What is just within is taken; what is beyond, or of another type, is refused by its name."""
    for value in good:
        await story.run(x_sampling={name: value})
    for value in bad:
        answer = await story.create(x_sampling={name: value})
        assert answer.status_code == 400, value
        assert answer.json()["error"]["param"].startswith(f"x_sampling.{name}")


@covers(RUNS, "x_sampling", "error")
@covers(WITH_THREAD, "x_sampling", "error")
async def test_what_is_no_such_object(story: Story) -> None:
    """Another type, and a key that is no option."""
    body = {"assistant_id": story.assistant_id, "x_sampling": []}
    for answer in (
        await story.create(x_sampling=[]),
        await story.http.post("/v1/threads/runs", json=body),
    ):
        assert answer.json()["error"]["param"] == "x_sampling"
    assert "temperature" in refusal(await story.create(x_sampling={"temperature": 1}))


async def test_a_token_that_the_model_does_not_have(story: Story) -> None:
    """Only the engine knows its vocabulary; the run says what was wrong with the request."""
    story.engine.fails(InvalidRequest("The logit_bias has a token that is not the model's."))
    run = await story.run(x_sampling={"logit_bias": {"999999999": 1}})
    assert run["status"] == "failed"
    assert run["last_error"]["code"] == "invalid_prompt"


def test_what_is_absent_is_the_models_own_way() -> None:
    """The settings' defaults hold option by option."""
    request = TurnRequest(None, (), Budget(None, 1, 1), options=SamplingOptions(min_p=0.2))
    usual = Sampling(top_k=20, min_p=0.05, repetition_penalty=1.2)
    assert sampling_of(request, usual) == replace(usual, min_p=0.2)
