"""The formats of dates as patterns: llguidance's own have a 29th of February in every year."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from server.schemas.json_schema import walk

_LEAP_YEAR: Final = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)"
_DAYS: Final = (
    "(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])",
    "(0[469]|11)-(0[1-9]|[12][0-9]|30)",
    "02-(0[1-9]|1[0-9]|2[0-8])",
)
_DATE: Final = f"([0-9]{{4}}-({'|'.join(_DAYS)})|{_LEAP_YEAR}-02-29)"
_HOURS: Final = "([01][0-9]|2[0-3]):[0-5][0-9]"
_TIME: Final = rf"{_HOURS}:[0-5][0-9](\.[0-9]+)?(Z|[+-]{_HOURS})"
_PATTERNS: Final = {"date": f"^{_DATE}$", "date-time": f"^{_DATE}T{_TIME}$"}


def with_real_dates(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema, whose dates are days that there were or will be.

    A date that has a pattern besides is left as it is: of two patterns only one has a place.
    """
    told: dict[str, Any] = orjson.loads(orjson.dumps(schema))
    for node in walk(told):
        part = node.schema
        if isinstance(part, dict) and part.get("format") in _PATTERNS and "pattern" not in part:
            part["pattern"] = _PATTERNS[part.pop("format")]
    return told
