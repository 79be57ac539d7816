"""The families that are known, by the names that settings use."""

from __future__ import annotations

from server.chat.dialects.dialect import Dialect
from server.chat.layout import CallLayout

# No calls at all: what an endpoint writes, which tells calls apart itself.
PLAIN = Dialect("plain")

# Hermes 2 and 3, Qwen 2.5 and 3, Granite 4, and many others.
HERMES = Dialect(
    "hermes",
    CallLayout(
        before='<tool_call>\n{"name": "',
        between='", "arguments": ',
        after="}\n</tool_call>",
        separator="\n",
    ),
    call_open="<tool_call>",
    call_close="</tool_call>",
    sign="<tool_call>",
)

# Qwen3-Coder, Qwen 3.5, Nemotron 3. Some write the function's block without its wrapper.
QWEN_CODER = Dialect(
    "qwen3-coder",
    CallLayout(
        before="<tool_call>\n<function=",
        between=">\n",
        after="</function>\n</tool_call>",
        separator="\n",
        arguments="tagged",
    ),
    form="tagged",
    call_open="<tool_call>",
    call_close="</tool_call>",
    bare="<function=",
    spare=HERMES.layout,
    sign="<tool_call>\n<function=",
)

# Llama 3.1 to 3.3. The tag is for the tools that are built in, and is written before others, too.
LLAMA = Dialect(
    "llama3",
    CallLayout(before='{"name": "', between='", "parameters": ', after="}", separator="; "),
    call_open="<|python_tag|>",
    bare="{",
    sign='"parameters"',
)

# Mistral Nemo and what came before it: a list of calls.
MISTRAL_LIST = Dialect(
    "mistral-list",
    CallLayout(
        section_open="[TOOL_CALLS][",
        before='{"name": "',
        between='", "arguments": ',
        after="}",
        separator=", ",
        section_close="]",
    ),
    call_open="[TOOL_CALLS]",
    sign="[TOOL_CALLS]",
    id_length=9,
)

# Mistral Small 3.2, Magistral, Devstral, Ministral: a name and arguments a call.
MISTRAL = Dialect(
    "mistral",
    CallLayout(before="[TOOL_CALLS]", between="[ARGS]", after=""),
    form="named",
    call_open="[TOOL_CALLS]",
    separators=("[CALL_ID]", "[ARGS]"),
    sign="[ARGS]",
    id_length=9,
)

# DeepSeek V3 and R1. They do not always close the fence.
DEEPSEEK = Dialect(
    "deepseek",
    CallLayout(
        section_open="<｜tool▁calls▁begin｜>",
        before="<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        between="\n```json\n",
        after="\n```<｜tool▁call▁end｜>",
        separator="\n",
        section_close="<｜tool▁calls▁end｜>",
    ),
    form="named",
    call_open="<｜tool▁call▁begin｜>",
    call_tail="```",
    call_close="<｜tool▁call▁end｜>",
    separators=("<｜tool▁sep｜>", "```json"),
    name_field=-1,
    silent=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    sign="```json",
)

DEEPSEEK_V31 = Dialect(
    "deepseek-v3.1",
    CallLayout(
        section_open="<｜tool▁calls▁begin｜>",
        before="<｜tool▁call▁begin｜>",
        between="<｜tool▁sep｜>",
        after="<｜tool▁call▁end｜>",
        section_close="<｜tool▁calls▁end｜>",
    ),
    form="named",
    call_open="<｜tool▁call▁begin｜>",
    call_close="<｜tool▁call▁end｜>",
    separators=("<｜tool▁sep｜>",),
    name_field=-1,
    silent=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    sign="<｜tool▁call▁begin｜>",
)

# gpt-oss. Its models spell a header in several ways, its template in another, which they repeat;
# the first is the one that they were trained on. The end of a call ends the turn.
HARMONY = Dialect(
    "harmony",
    CallLayout(
        before="<|channel|>commentary to=functions.",
        between=" <|constrain|>json<|message|>",
        after="",
        separator="<|call|><|start|>assistant",
        other_before=" to=functions.",
        other_between="<|channel|>commentary <|constrain|>json<|message|>",
    ),
    form="harmony",
    call_open=" to=functions.",
    answer_open="<|channel|>final<|message|>",
    remark_open="<|channel|>commentary<|message|>",
    remark_close="<|end|><|start|>assistant",
    reasoning_open="<|channel|>analysis<|message|>",
    reasoning_close="<|end|><|start|>assistant",
    silent=(
        "<|start|>",
        "<|channel|>",
        "<|constrain|>",
        "<|message|>",
        "<|end|>",
        "<|call|>",
        "<|return|>",
    ),
    sign="<|message|>",
)

# Command R7B and Command A.
COMMAND_R = Dialect(
    "command-r",
    CallLayout(
        section_open="<|START_ACTION|>[\n    ",
        before='{"tool_call_id": "0", "tool_name": "',
        between='", "parameters": ',
        after="}",
        separator=",\n    ",
        section_close="\n]<|END_ACTION|>",
    ),
    call_open="<|START_ACTION|>",
    call_close="<|END_ACTION|>",
    answer_open="<|START_RESPONSE|>",
    answer_close="<|END_RESPONSE|>",
    reasoning_open="<|START_THINKING|>",
    reasoning_close="<|END_THINKING|>",
    silent=("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"),
    sign="<|START_ACTION|>",
)

PHI = Dialect(
    "phi4-mini",
    CallLayout(
        section_open="<|tool_call|>[",
        before='{"name": "',
        between='", "arguments": ',
        after="}",
        separator=", ",
        section_close="]<|/tool_call|>",
    ),
    call_open="<|tool_call|>",
    call_close="<|/tool_call|>",
    sign="<|/tool_call|>",
)

# Granite 3; Granite 4 writes as Hermes does.
GRANITE = Dialect(
    "granite",
    CallLayout(
        section_open="<|tool_call|>[",
        before='{"name": "',
        between='", "arguments": ',
        after="}",
        separator=", ",
        section_close="]",
    ),
    call_open="<|tool_call|>",
    answer_open="<response>",
    answer_close="</response>",
    sign="<|tool_call|>",
)

# Gemma 4. What a grammar has it write are JSON's own quotes, which it is read with, too.
GEMMA = Dialect(
    "gemma4",
    CallLayout(before="<|tool_call>call:", between="", after="<tool_call|>"),
    form="loose",
    call_open="<|tool_call>",
    call_close="<tool_call|>",
    reasoning_open="<|channel>thought\n",
    reasoning_close="<channel|>",
    sign="<|tool_call>",
)

# Gemma 2 and 3, and whatever has a template without tools: they are told what to write.
JSON = Dialect(
    "json",
    CallLayout(before='{"name": "', between='", "arguments": ', after="}", separator="\n"),
    call_open="```json",
    call_close="```",
    bare="{",
)

# In the order in which they are tried: what has markers of its own before what has none.
DIALECTS = {
    dialect.name: dialect
    for dialect in (
        QWEN_CODER,
        HERMES,
        MISTRAL,
        MISTRAL_LIST,
        DEEPSEEK,
        DEEPSEEK_V31,
        HARMONY,
        COMMAND_R,
        PHI,
        GRANITE,
        GEMMA,
        LLAMA,
        JSON,
    )
}
