"""How much of a model's next prompt the answers to its calls may take. Sizes are tokens."""

from __future__ import annotations

from collections.abc import Sequence

from server.chat.values import ChatMessage
from server.runs.turns import ModelCall, TurnRequest, Unit
from server.tools.tool import Count

LARGE_CONTEXT = 32_000  # from which on a model is given more
MOST_TOKENS, FEWER_TOKENS = 16_000, 4_000
TEMPLATE_ROOM = 64  # that a template adds to a message, generously


async def room_for_answers(request: TurnRequest, cost: ModelCall, count: Count) -> int:
    """What all answers of one turn may take, beside what has to stay in the prompt."""
    budget = request.budget
    most = MOST_TOKENS if budget.context >= LARGE_CONTEXT else FEWER_TOKENS
    share = min(most, budget.context // 2, most if budget.prompt is None else budget.prompt // 2)
    limit = budget.prompt_limit
    if budget.prompt is not None:
        limit = min(limit, budget.prompt - cost.prompt_tokens)
    kept = await _kept(request, cost, count)
    later = limit // 8 + TEMPLATE_ROOM  # for a call or two more
    return min(share, limit - kept - cost.completion_tokens - later)


async def _kept(request: TurnRequest, cost: ModelCall, count: Count) -> int:
    """What stays: the prompt as it was, without what was said before its newest question.

    That may have been left out of it; so what is there at least is counted, too.
    """
    question = max((n for n, unit in enumerate(request.units) if unit[0].role == "user"), default=0)
    before, since = request.units[:question], request.units[question:]
    earlier = await count(_text_of(before)) if before else 0
    told = await count(f"{request.instructions or ''}\n{_text_of(since)}")
    least = told + TEMPLATE_ROOM * (sum(map(len, since)) + 2)
    return max(cost.prompt_tokens - earlier, min(least, cost.prompt_tokens))


def _text_of(units: Sequence[Unit]) -> str:
    """All that a prompt says of them."""
    return "\n".join(part for unit in units for message in unit for part in _texts_of(message))


def _texts_of(message: ChatMessage) -> list[str]:
    return [message.content, *(call.name + call.arguments for call in message.tool_calls)]
