"""The chat template that the bundled model is trained with, rendered as clients of a GGUF do."""

from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATE = Path(__file__).parents[2] / "models" / "training" / "template.jinja"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Where"},
                "unit": {"type": "string", "enum": ["C", "F"]},
                "days": {"type": ["integer", "null"]},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["city", "days"],
        },
    },
}


def rendered(messages: list[dict[str, Any]], **given: Any) -> str:
    """The prompt, the same whether or not the environment trims blocks."""
    text = TEMPLATE.read_text(encoding="utf-8")
    prompts = {
        ImmutableSandboxedEnvironment(trim_blocks=trimmed, lstrip_blocks=trimmed)
        .from_string(text)
        .render(messages=messages, **given)
        for trimmed in (True, False)
    }
    (prompt,) = prompts
    return prompt


def calling(call: dict[str, Any]) -> str:
    """A turn of the assistant that is one call."""
    return rendered([{"role": "assistant", "content": None, "tool_calls": [call]}])


def test_turns_are_framed() -> None:
    """Every message is a turn of its own, and the assistant's is opened for generation."""
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert rendered(messages, add_generation_prompt=True) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_content_is_inserted_verbatim() -> None:
    """No character of a message is changed, trimmed or escaped."""
    content = "  <b>&'\"{{ x }} {% y %}\n\n "
    assert rendered([{"role": "user", "content": content}]) == (
        f"<|im_start|>user\n{content}<|im_end|>\n"
    )


def test_tools_are_listed_as_call_skeletons() -> None:
    """The list stands in the system turn, which is made if there is none."""
    skeleton = (
        '<tools>\n{"name": "get_weather", "arguments": {"city": "string", "unit": optional "C|F", '
        '"days": integer, "tags": optional ["string"]}} Get the weather\n</tools>'
    )
    user = {"role": "user", "content": "Hi"}
    framed = "<|im_start|>user\nHi<|im_end|>\n"
    assert rendered([user], tools=[WEATHER]) == (
        f"<|im_start|>system\n{skeleton}<|im_end|>\n{framed}"
    )
    system = {"role": "system", "content": "Be kind."}
    assert rendered([system, user], tools=[WEATHER]) == (
        f"<|im_start|>system\nBe kind.\n{skeleton}<|im_end|>\n{framed}"
    )


def test_calls_are_written_alike_however_they_are_given() -> None:
    """Arguments may be JSON text or a mapping; the function may be nested or flat."""
    arguments = {"city": 'K<ö> "x"\n', "days": 2, "deep": [True, None, {"a": 0.5}]}
    text = '{"city": "K<ö> \\"x\\"\\n", "days": 2, "deep": [true, null, {"a": 0.5}]}'
    expected = (
        '<|im_start|>assistant\n<tool_call>\n{"name": "f", "arguments": '
        f"{text}}}\n</tool_call><|im_end|>\n"
    )
    assert calling({"name": "f", "arguments": arguments}) == expected
    assert calling({"name": "f", "arguments": text}) == expected
    assert calling({"type": "function", "function": {"name": "f", "arguments": text}}) == expected


def test_results_of_one_round_share_a_turn() -> None:
    """Tool messages that follow one another are answered as one."""
    messages = [{"role": "tool", "content": "57"}, {"role": "tool", "content": "0.06"}]
    assert rendered(messages) == (
        "<|im_start|>user\n<tool_response>\n57\n</tool_response>\n"
        "<tool_response>\n0.06\n</tool_response><|im_end|>\n"
    )


def test_a_tool_without_parameters_is_listed() -> None:
    """A function may have neither a description nor parameters."""
    prompt = rendered([], tools=[{"type": "function", "function": {"name": "ping"}}])
    assert '<tools>\n{"name": "ping", "arguments": {}}\n</tools>' in prompt
