"""What pydantic finds wrong with a request, as the hosted API tells it: one fault at a time.

It looks in an object for what is missing, then for what is unknown, then field by field in the
schema's order, and so down into each. Texts and codes are the hosted API's, with their slips.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.errors import InvalidRequest

Fault = Mapping[str, Any]
Path = Sequence[str | int]

EXPECTED = {
    "bool_type": "a boolean",
    "dict_type": "an object",
    "float_type": "a decimal",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer",
    "int_type": "an integer",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "none_required": "null",
    "string_type": "a string",
}
ARRAYS_OF_STRINGS = ("file_ids", "part_ids", "vector_store_ids", "include")


def to_openai(faults: Sequence[Fault]) -> InvalidRequest:
    """The one error of a request. The first part of each path says where it was: body, query."""
    fault = foremost(faults)
    describe = RULES.get(fault["type"], _of_wrong_type if fault["type"] in EXPECTED else _other)
    return describe(fault, param_of(fault["loc"][1:], fault["type"]))


def to_old_words(faults: Sequence[Fault]) -> InvalidRequest:
    """The same in the words of the service's older validator, which files have kept."""
    fault = foremost(faults)
    path = [str(part) for part in fault["loc"][1:]]
    if fault["type"] in WITHOUT_PATH:
        path, name = path[:-1], path[-1]
        text = WITHOUT_PATH[fault["type"]].format(name)
    else:
        text = f"{fault['input']!r} {_old_rule(fault)}"
    param = ".".join(path)
    return InvalidRequest(f"{text} - '{param}'" if param else text, param or None)


WITHOUT_PATH = {
    "missing": "'{}' is a required property",
    "extra_forbidden": "Additional properties are not allowed ('{}' was unexpected)",
}
OLD_TYPES = {"int_type": "integer", "model_type": "object", "string_type": "string"}


def _old_rule(fault: Fault) -> str:
    match fault["type"]:
        case "literal_error":
            return f"is not one of {_choices(fault)}"
        case "greater_than_equal":
            return f"is less than the minimum of {fault['ctx']['ge']}"
        case "less_than_equal":
            return f"is greater than the maximum of {fault['ctx']['le']}"
    return f"is not of type '{OLD_TYPES[fault['type']]}'"


def _choices(fault: Fault) -> list[str]:
    return re.findall(r"'([^']*)'", fault["ctx"]["expected"])


def foremost(faults: Sequence[Fault], depth: int = 0) -> Fault:
    here = [fault for fault in faults if len(fault["loc"]) == depth + 1]
    for kind in ("missing", "extra_forbidden"):
        for fault in here:
            if fault["type"] == kind:
                return fault
    first = faults[0]
    if len(first["loc"]) <= depth + 1:
        return first
    branch = first["loc"][depth]
    return foremost([f for f in faults if f["loc"][depth : depth + 1] == (branch,)], depth + 1)


def param_of(path: Path, kind: str) -> str:
    """`messages[0].role`: the path without the tags of unions, which a client does not know."""
    param = ""
    for i, part in enumerate(path):
        if isinstance(part, int):
            param += f"[{part}]"
        elif _named_by_client(path, i, kind) or not (part.startswith("<") and part.endswith(">")):
            param += f".{part.removesuffix('[]')}"
    return param.removeprefix(".")


def _named_by_client(path: Path, i: int, kind: str) -> bool:
    """A key that no schema knows, and so may look like a tag."""
    unknown = kind == "extra_forbidden" and i == len(path) - 1
    return unknown or (i > 0 and path[i - 1] in ("metadata", "attributes"))


def kind_of(value: Any) -> str:
    """The hosted API's words for JSON types."""
    if value is None:
        return "null"
    words = {
        bool: "a boolean",
        int: "an integer",
        float: "a decimal number",
        str: "a string",
        list: "an array",
    }
    return words.get(type(value), "an object")


def listed(values: Sequence[str], word: str) -> str:
    """`'a'`, `'a' and 'b'`, `'a', 'b', and 'c'`."""
    quoted = [f"'{value}'" for value in values]
    if len(quoted) < 3:
        return f" {word} ".join(quoted)
    return f"{', '.join(quoted[:-1])}, {word} {quoted[-1]}"


def missing(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"Missing required parameter: '{param}'.", param, "missing_required_parameter"
    )


def unknown(param: str) -> InvalidRequest:
    return InvalidRequest(f"Unknown parameter: '{param}'.", param, "unknown_parameter")


def repeated(param: str, times: int) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid '{param}': expected it at most once, but got it {times} times.",
        param,
        "invalid_value",
    )


def wrong_type(param: str, expected: str, value: Any) -> InvalidRequest:
    where = f"'{param}'" if param else "the request body"
    return InvalidRequest(
        f"Invalid type for {where}: expected {expected}, but got {kind_of(value)} instead.",
        param or None,
        "invalid_type",
    )


def wrong_choice(param: str, values: Sequence[str], value: Any) -> InvalidRequest:
    if not isinstance(value, str):
        several = "one of " if len(values) > 1 else ""
        return wrong_type(param, several + listed(values, "or"), value)
    return InvalidRequest(
        f"Invalid value: '{value}'. Supported values are: {listed(values, 'and')}.",
        param,
        "invalid_value",
    )


def _missing(fault: Fault, param: str) -> InvalidRequest:
    return missing(param)


def _missing_part(fault: Fault, param: str) -> InvalidRequest:
    return missing(f"{param}.{fault['ctx']['name']}".removeprefix("."))


def _unknown(fault: Fault, param: str) -> InvalidRequest:
    return unknown(param)


def _unrecognized(fault: Fault, _: str) -> InvalidRequest:
    """Chat completions say it of their own keys in words that are older than all others."""
    return InvalidRequest(fault["msg"])


def _of_wrong_type(fault: Fault, param: str) -> InvalidRequest:
    is_metadata = fault["type"] == "dict_type" and param.endswith("metadata")
    expected = "a metadata object" if is_metadata else EXPECTED[fault["type"]]
    return wrong_type(param, expected, fault["input"])


def _not_a_list(fault: Fault, param: str) -> InvalidRequest:
    items = "strings" if param.endswith(ARRAYS_OF_STRINGS) else "objects"
    return wrong_type(param, f"an array of {items}", fault["input"])


def _not_a_choice(fault: Fault, param: str) -> InvalidRequest:
    return wrong_choice(param, _choices(fault), fault["input"])


def _no_union_member(fault: Fault, param: str) -> InvalidRequest:
    value, types, key = fault["input"], fault["ctx"]["types"].split(), fault["ctx"]["key"]
    if not isinstance(value, dict) or not types:
        return wrong_type(param, fault["ctx"]["expected"], value)
    if key not in value:
        return missing(f"{param}.{key}")
    return wrong_choice(f"{param}.{key}", types, value[key])


def _too_long(fault: Fault, param: str) -> InvalidRequest:
    most, value = fault["ctx"]["max_length"], fault["input"]
    if isinstance(value, dict):
        return InvalidRequest(
            f"Invalid '{param}': too many properties. Expected an object with at most {most} "
            f"properties, but got an object with {len(value)} properties instead.",
            param,
            "object_above_max_properties",
        )
    return InvalidRequest(
        f"Invalid '{param}': array too long. Expected an array with maximum length {most}, "
        f"but got an array with length {len(value)} instead.",
        param,
        "array_above_max_length",
    )


def _empty_array(fault: Fault, param: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid '{param}': empty array. Expected an array with minimum length 1, "
        "but got an empty array instead.",
        param,
        "empty_array",
    )


def _string_too_long(fault: Fault, param: str) -> InvalidRequest:
    most, value = fault["ctx"]["max_length"], fault["input"]
    lengths = (
        f"Expected a string with maximum length {most}, "
        f"but got a string with length {len(value)} instead."
    )
    if fault["loc"][-1] == "[key]":
        parent, param = _of_key(fault, param)
        return InvalidRequest(
            f"Invalid property name in '{parent}': '{value[:3]}...{value[-3:]}' is too long. "
            f"{lengths}",
            param,
            "property_name_above_max_length",
        )
    return InvalidRequest(
        f"Invalid '{param}': string too long. {lengths}", param, "string_above_max_length"
    )


def _of_key(fault: Fault, param: str) -> tuple[str, str]:
    """The object that a wrong key is in, and where it stands."""
    param = param.removesuffix(".[key]")
    return param.removesuffix(f".{fault['input']}"), param


def _empty_string(fault: Fault, param: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid '{param}': empty string. Expected a string with minimum length 1, "
        "but got an empty string instead.",
        param,
        "empty_string",
    )


def _wrong_pattern(fault: Fault, param: str) -> InvalidRequest:
    where = f"'{param}'"
    if fault["loc"][-1] == "[key]":
        parent, param = _of_key(fault, param)
        where = f"property name in '{parent}'"
    return InvalidRequest(
        f"Invalid {where}: string does not match pattern. "
        f"Expected a string that matches the pattern '{fault['ctx']['pattern']}'.",
        param,
        "invalid_value",
    )


def _wrong_url(fault: Fault, param: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid '{param}'. Expected a valid URL, but got a value with an invalid format.",
        param,
        "invalid_value",
    )


def _above(fault: Fault, param: str) -> InvalidRequest:
    return _out_of_bounds(fault, param, "above maximum", "<=", fault["ctx"]["le"], "above_max")


def _below(fault: Fault, param: str) -> InvalidRequest:
    return _out_of_bounds(fault, param, "below minimum", ">=", fault["ctx"]["ge"], "below_min")


def _out_of_bounds(
    fault: Fault, param: str, side: str, sign: str, bound: Any, code: str
) -> InvalidRequest:
    number = "decimal" if isinstance(bound, float) else "integer"
    limit = f"{bound:g}" if isinstance(bound, float) else bound
    return InvalidRequest(
        f"Invalid '{param}': {number} {side} value. "
        f"Expected a value {sign} {limit}, but got {fault['input']} instead.",
        param,
        f"{number}_{code}_value",
    )


def _schema_refused(fault: Fault, param: str) -> InvalidRequest:
    """The hosted API points at a function's parameters, and at a response format as a whole."""
    if param.endswith(("function", "tools")):
        param = param if param.endswith("tools") else f"{param}.parameters"
        return InvalidRequest(fault["msg"], param, "invalid_function_parameters")
    return InvalidRequest(fault["msg"], param.removesuffix(".json_schema"))


def _other(fault: Fault, param: str) -> InvalidRequest:
    where = f"'{param}'" if param else "request"
    return InvalidRequest(f"Invalid {where}: {fault['msg']}.", param or None, "invalid_value")


RULES: dict[str, Callable[[Fault, str], InvalidRequest]] = {
    "extra_forbidden": _unknown,
    "greater_than_equal": _below,
    "less_than_equal": _above,
    "list_type": _not_a_list,
    "literal_error": _not_a_choice,
    "missing": _missing,
    "missing_part": _missing_part,
    "no_union_member": _no_union_member,
    "schema_refused": _schema_refused,
    "string_pattern_mismatch": _wrong_pattern,
    "string_too_long": _string_too_long,
    "string_too_short": _empty_string,
    "too_long": _too_long,
    "too_short": _empty_array,
    "unrecognized": _unrecognized,
    "url_format": _wrong_url,
}
