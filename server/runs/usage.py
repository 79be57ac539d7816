"""Tokens spent, in the wire's words."""

from __future__ import annotations

from typing import Any

from server.db.stores import Spent

NOTHING = Spent(prompt=0, completion=0, cached=0, reasoning=0, turns=0)


def wire_usage(spent: Spent) -> dict[str, Any]:
    """`prompt_token_details` is singular on the wire of runs and steps (recorded)."""
    return {
        "prompt_tokens": spent.prompt,
        "completion_tokens": spent.completion,
        "total_tokens": spent.prompt + spent.completion,
        "prompt_token_details": {"cached_tokens": spent.cached},
        "completion_tokens_details": {"reasoning_tokens": spent.reasoning},
    }
