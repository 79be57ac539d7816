"""How much of a model's next prompt the answers to its calls may take. Sizes are tokens."""

from __future__ import annotations

from server.chat.values import ChatMessage
from server.runs.turns import ModelCall, TurnRequest
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
    kept = min(await _kept(request, count), cost.prompt_tokens)
    later = limit // 8 + TEMPLATE_ROOM  # for a call or two more
    return min(share, limit - kept - cost.completion_tokens - later)


async def _kept(request: TurnRequest, count: Count) -> int:
    """What stays: the instructions, the newest question, and what the run said since."""
    question = max((n for n, unit in enumerate(request.units) if unit[0].role == "user"), default=0)
    messages = [message for unit in request.units[question:] for message in unit]
    said = [part for message in messages for part in _texts_of(message)]
    text = "\n".join([request.instructions or "", *said])
    return await count(text) + TEMPLATE_ROOM * (len(messages) + 2)


def _texts_of(message: ChatMessage) -> list[str]:
    """All that a prompt says of a message."""
    return [message.content, *(call.name + call.arguments for call in message.tool_calls)]
