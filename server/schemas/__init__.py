"""The wire: what clients send and receive. Pure pydantic, no table, no rule.

A request's `stored()` or `changes()` gives column values; a response's `from_row(row)` reads
them.
"""

from server.schemas.assistants import Assistant, AssistantDeleted, CreateAssistant, ModifyAssistant
from server.schemas.chat import (
    AssistantMessage,
    ChatAnswer,
    ChatChoice,
    ChatCompletion,
    ChatCompletionDetails,
    ChatFinishReason,
    ChatFunctionCall,
    ChatImagePart,
    ChatMessage,
    ChatPromptDetails,
    ChatTextPart,
    ChatToolCall,
    ChatUsage,
    CreateChatCompletion,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from server.schemas.common import PLAIN_INTEGER, JsonObject, ListPage, ListQuery, Shown, Usage
from server.schemas.embeddings import (
    CreateEmbedding,
    Embedding,
    EmbeddingList,
    EmbeddingUsage,
)
from server.schemas.encoding import compact, pretty, to_wire
from server.schemas.errors import Error, ErrorBody
from server.schemas.messages import (
    CreateMessage,
    Message,
    MessageDeleted,
    MessagesQuery,
    ModifyMessage,
    text_part,
)
from server.schemas.models import Model, ModelList
from server.schemas.runs import (
    CreateRun,
    CreateThreadAndRun,
    ModifyRun,
    Run,
    RunStatus,
    SubmitToolOutputs,
    ToolOutput,
)
from server.schemas.steps import IncludeQuery, RunStep, StepsQuery
from server.schemas.threads import CreateThread, ModifyThread, Thread, ThreadDeleted
from server.schemas.tools import Tool, merge_resources

__all__ = [
    "PLAIN_INTEGER",
    "Assistant",
    "AssistantDeleted",
    "AssistantMessage",
    "ChatAnswer",
    "ChatChoice",
    "ChatCompletion",
    "ChatCompletionDetails",
    "ChatFinishReason",
    "ChatFunctionCall",
    "ChatImagePart",
    "ChatMessage",
    "ChatPromptDetails",
    "ChatTextPart",
    "ChatToolCall",
    "ChatUsage",
    "CreateAssistant",
    "CreateChatCompletion",
    "CreateEmbedding",
    "CreateMessage",
    "CreateRun",
    "CreateThread",
    "CreateThreadAndRun",
    "Embedding",
    "EmbeddingList",
    "EmbeddingUsage",
    "Error",
    "ErrorBody",
    "IncludeQuery",
    "JsonObject",
    "ListPage",
    "ListQuery",
    "Message",
    "MessageDeleted",
    "MessagesQuery",
    "Model",
    "ModelList",
    "ModifyAssistant",
    "ModifyMessage",
    "ModifyRun",
    "ModifyThread",
    "Run",
    "RunStatus",
    "RunStep",
    "Shown",
    "StepsQuery",
    "SubmitToolOutputs",
    "SystemMessage",
    "Thread",
    "ThreadDeleted",
    "Tool",
    "ToolMessage",
    "ToolOutput",
    "Usage",
    "UserMessage",
    "compact",
    "merge_resources",
    "pretty",
    "text_part",
    "to_wire",
]
