"""The formats of dates as patterns: llguidance's own have a 29th of February in every year."""

from __future__ import annotations

from typing import Final

_LEAP_YEAR: Final = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)"
_DAYS: Final = (
    "(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])",
    "(0[469]|11)-(0[1-9]|[12][0-9]|30)",
    "02-(0[1-9]|1[0-9]|2[0-8])",
)
_DATE: Final = f"([0-9]{{4}}-({'|'.join(_DAYS)})|{_LEAP_YEAR}-02-29)"
_HOURS: Final = "([01][0-9]|2[0-3]):[0-5][0-9]"
_TIME: Final = rf"{_HOURS}:[0-5][0-9](\.[0-9]+)?(Z|[+-]{_HOURS})"
PATTERNS: Final = {"date": f"^{_DATE}$", "date-time": f"^{_DATE}T{_TIME}$"}
