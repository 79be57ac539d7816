"""From request to columns: defaults, normal forms, and what a modification changes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from server import schemas
from server.schemas import merge_resources

SEARCH = {"ranker": "default_2024_08_21", "score_threshold": 0.0, "hybrid_search": None}
CODE = {"type": "code_interpreter"}


def stored_tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool as a new assistant keeps it."""
    body = schemas.CreateAssistant.model_validate({"model": "m", "tools": [tool]})
    kept: dict[str, Any] = body.stored()["tools"][0]
    return kept


def changes(body: dict[str, Any], **current: Any) -> dict[str, Any]:
    """What a modification sets on an assistant."""
    row = SimpleNamespace(**{"tools": [], "tool_resources": {}, **current})
    return schemas.ModifyAssistant.model_validate(body).changes(row)


def test_an_assistant_has_the_hosted_apis_defaults() -> None:
    """Also where null was given."""
    bare = {
        "name": None,
        "description": None,
        "model": "m",
        "instructions": None,
        "tools": [],
        "top_p": 1.0,
        "temperature": 1.0,
        "reasoning_effort": None,
        "tool_resources": {},
        "metadata": {},
        "response_format": "auto",
    }
    assert schemas.CreateAssistant.model_validate({"model": "m"}).stored() == bare
    nulls = {key: None for key in bare if key not in ("model", "tools")}
    assert schemas.CreateAssistant.model_validate({"model": "m", **nulls}).stored() == bare


def test_a_function_has_its_keys_in_order_and_says_whether_it_is_strict() -> None:
    """name, description, parameters, strict; a schema of no arguments where none was given."""
    function = {"strict": None, "description": "d", "name": "f"}
    kept = stored_tool({"type": "function", "function": function})["function"]
    assert list(kept.items()) == [
        ("name", "f"),
        ("description", "d"),
        ("parameters", {"type": "object", "properties": {}}),
        ("strict", False),
    ]
    bare = stored_tool({"type": "function", "function": {"name": "f", "parameters": {"a": 1}}})
    assert bare["function"] == {"name": "f", "parameters": {"a": 1}, "strict": False}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {"ranking_options": SEARCH}),
        ({"file_search": {}}, {"ranking_options": SEARCH}),
        (
            {"file_search": {"max_num_results": 3}},
            {"max_num_results": 3, "ranking_options": SEARCH},
        ),
        (
            {"file_search": {"ranking_options": {"score_threshold": 1}}},
            {"ranking_options": {**SEARCH, "score_threshold": 1.0}},
        ),
    ],
)
def test_file_search_always_tells_its_ranking(given: Any, kept: Any) -> None:
    """The number of results comes first, if it was given."""
    assert stored_tool({"type": "file_search", **given}) == {
        "type": "file_search",
        "file_search": kept,
    }


@pytest.mark.parametrize("tool", [CODE, {"type": "file_search"}])
def test_what_was_shown_can_be_sent_back(tool: dict[str, Any]) -> None:
    """A client may read an assistant's tools and send them again, with all their nulls."""
    shown = stored_tool(tool)
    assert stored_tool(shown) == shown


def test_code_interpreter_has_resources_as_soon_as_it_is_a_tool() -> None:
    """An empty list of files, after the resources of file search."""
    given = {"file_search": {"vector_store_ids": ["vs_1"]}}
    assert list(merge_resources([CODE], given).items()) == [
        ("file_search", {"vector_store_ids": ["vs_1"]}),
        ("code_interpreter", {"file_ids": []}),
    ]


def test_a_vector_store_to_be_made_has_no_id_yet() -> None:
    """Whoever makes it fills in the place."""
    wanted = [{"file_ids": ["file-1"], "chunking_strategy": {"type": "auto"}}]
    body = {"tool_resources": {"file_search": {"vector_stores": wanted}}}
    given = schemas.CreateThread.model_validate(body)
    assert given.stored()["tool_resources"] == {"file_search": {"vector_store_ids": []}}
    assert given.tool_resources is not None
    assert [each.file_ids for each in given.tool_resources.new_stores()] == [["file-1"]]


def test_a_modification_sets_only_what_was_given() -> None:
    """Absent keys change nothing; null gives back the default."""
    assert changes({}) == {}
    assert changes({"name": None, "temperature": None}) == {"name": None, "temperature": 1.0}
    assert changes({"metadata": None}) == {"metadata": {}}
    assert changes({"model": "n", "response_format": {"type": "json_object"}}) == {
        "model": "n",
        "response_format": {"type": "json_object"},
    }


def test_resources_are_replaced_tool_by_tool() -> None:
    """What a modification does not name stays; null drops all of it."""
    current = {"file_search": {"vector_store_ids": ["vs_1"]}}
    files = {"code_interpreter": {"file_ids": ["file-1"]}}
    assert changes({"tools": [CODE]}, tool_resources=current)["tool_resources"] == {
        **current,
        "code_interpreter": {"file_ids": []},
    }
    both = changes({"tool_resources": files}, tool_resources=current)
    assert both == {"tool_resources": {**current, **files}}
    assert changes({"tool_resources": None}, tools=[CODE], tool_resources=current) == {
        "tool_resources": {"code_interpreter": {"file_ids": []}}
    }


def test_a_thread_is_modified_in_the_same_way() -> None:
    """Metadata is replaced as a whole, resources tool by tool."""
    row = SimpleNamespace(tool_resources={"file_search": {"vector_store_ids": ["vs_1"]}})
    modify = schemas.ModifyThread.model_validate
    files = {"code_interpreter": {"file_ids": ["file-1"]}}
    assert modify({}).changes(row) == {}
    assert modify({"metadata": {"a": "b"}}).changes(row) == {"metadata": {"a": "b"}}
    assert modify({"tool_resources": files}).changes(row) == {
        "tool_resources": {**row.tool_resources, **files}
    }
    assert modify({"tool_resources": None, "metadata": None}).changes(row) == {
        "tool_resources": {},
        "metadata": {},
    }


def test_content_becomes_parts_with_annotations_and_details() -> None:
    """A string is one text part; images get the detail `auto`."""
    image = {"type": "image_file", "image_file": {"file_id": "file-1"}}
    url = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
    content = [{"type": "text", "text": "hi"}, image, url]
    body = schemas.CreateMessage.model_validate({"role": "user", "content": content})
    assert body.stored()["content"] == [
        {"type": "text", "text": {"value": "hi", "annotations": []}},
        {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "auto"}},
        url,
    ]
    plain = schemas.CreateMessage.model_validate({"role": "assistant", "content": "hi"})
    assert plain.stored() == {
        "role": "assistant",
        "content": [schemas.text_part("hi")],
        "attachments": [],
        "metadata": {},
    }


def test_attachments_are_kept_as_they_were_given() -> None:
    """Also twice the same file with different tools."""
    attachments = [
        {"file_id": "file-1", "tools": [CODE]},
        {"file_id": "file-1", "tools": [{"type": "file_search"}]},
    ]
    body = {"role": "user", "content": "hi", "attachments": attachments}
    assert schemas.CreateMessage.model_validate(body).stored()["attachments"] == attachments


def test_a_run_keeps_its_own_options_and_overrides_the_assistants() -> None:
    """Null overrides nothing; an empty list of tools does."""
    bare = schemas.CreateRun.model_validate({"assistant_id": "a", "model": None, "tools": None})
    assert bare.overrides() == {}
    assert bare.stored() == {
        "metadata": {},
        "max_completion_tokens": None,
        "max_prompt_tokens": None,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "x_sampling": None,
    }
    choice = {"type": "function", "function": {"name": "f"}}
    full = schemas.CreateRun.model_validate(
        {
            "assistant_id": "a",
            "model": "m",
            "instructions": "",
            "tools": [],
            "temperature": 0,
            "top_p": 0.5,
            "reasoning_effort": "low",
            "response_format": {"type": "text"},
            "tool_choice": choice,
            "truncation_strategy": {"type": "last_messages", "last_messages": 2},
            "parallel_tool_calls": False,
        }
    )
    assert full.overrides() == {
        "model": "m",
        "instructions": "",
        "tools": [],
        "temperature": 0.0,
        "top_p": 0.5,
        "reasoning_effort": "low",
        "response_format": {"type": "text"},
    }
    assert full.stored()["tool_choice"] == choice
    assert full.stored()["truncation_strategy"] == {"type": "last_messages", "last_messages": 2}


def test_a_schema_format_keeps_its_wire_name() -> None:
    """`schema` is a reserved name in pydantic, not on the wire."""
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    body = schemas.CreateAssistant.model_validate({"model": "m", "response_format": wanted})
    assert body.stored()["response_format"] == wanted


def test_resources_of_a_thread_and_run_are_the_runs_own() -> None:
    """Only this endpoint takes them."""
    resources = {"code_interpreter": {"file_ids": ["file-1"]}}
    body = {"assistant_id": "a", "tool_resources": resources}
    overrides = schemas.CreateThreadAndRun.model_validate(body).overrides()
    assert overrides == {"tool_resources": resources}


def test_a_call_without_an_output_gave_an_empty_one() -> None:
    """As a function that returns nothing."""
    body = {"tool_outputs": [{"tool_call_id": "call_1"}]}
    assert schemas.SubmitToolOutputs.model_validate(body).tool_outputs[0].output == ""
