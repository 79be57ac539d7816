"""How hard a model is to think, in the words that chat templates have for it."""

from __future__ import annotations

from collections.abc import Collection

SWITCHES = ("enable_thinking", "thinking")
LEVEL = "reasoning_effort"
# The levels that all templates with levels know, for those that OpenAI's API has beside them.
NEAREST = {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}
WITHOUT = ("none", "minimal")

Variables = dict[str, str | bool]


def effort_variables(effort: str | None, known: Collection[str], source: str) -> Variables:
    """The variables that tell a template of an effort, of those that it has."""
    if effort is None:
        return {}
    variables: Variables = {name: effort not in WITHOUT for name in SWITCHES if name in known}
    if LEVEL in known:
        spelled = any(f"{quote}{effort}{quote}" in source for quote in "'\"")
        variables[LEVEL] = effort if spelled else NEAREST.get(effort, effort)
    return variables
