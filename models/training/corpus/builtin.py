"""The tools that the server itself brings, as conversations list them."""

from typing import Any

from corpus.dice import Dice

SEARCH, QUERY = "file_search", "query"
CODE, SOURCE = "code_interpreter", "code"
# What the server itself says of them.
SERVERS_SEARCH = (
    "Searches the files. Returns numbered passages; cite each one that you use by its number in "
    "brackets, like [1]."
)
SERVERS_CODE = (
    "Runs Python code and returns what it prints. Files are read and written in /mnt/data."
)
# The last description of each is held out.
SEARCH_DESCRIPTIONS = [
    SERVERS_SEARCH,
    SERVERS_SEARCH,
    "Searches the files",
    "Search the attached files for text",
    "Searches the user's files and returns the passages that fit best",
    "Finds passages in the documents. Answer from what it returns.",
    "Look up information in the knowledge base",
    "Search uploaded documents",
    "Searches the files of this assistant and of this thread",
    "Finds what the files say about a question",
]
CODE_DESCRIPTIONS = [
    SERVERS_CODE,
    SERVERS_CODE,
    "Runs Python code",
    "Runs Python and returns what it prints",
    "Execute Python code. Files are in /mnt/data.",
    "Runs Python code in a sandbox. Files are read and written in /mnt/data.",
    "Python interpreter for calculations, data and plots",
    "Run code to work with numbers and files in /mnt/data",
    "Executes Python. Save files in /mnt/data.",
    "Runs a Python program and gives back its output",
]


def file_search(dice: Dice) -> dict[str, Any]:
    return _tool(SEARCH, _described(dice, SEARCH_DESCRIPTIONS), QUERY)


def code_interpreter(dice: Dice) -> dict[str, Any]:
    return _tool(CODE, _described(dice, CODE_DESCRIPTIONS), SOURCE)


def _described(dice: Dice, descriptions: list[str]) -> str:
    return dice.phrasing(descriptions) + dice.pick(["", "", "."])


def _tool(name: str, description: str, parameter: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {parameter: {"type": "string"}},
        "required": [parameter],
    }
    function = {"name": name, "description": description, "parameters": schema}
    return {"type": "function", "function": function}
