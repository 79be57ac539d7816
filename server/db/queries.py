"""Statements over one connection: SQLAlchemy writes them, once each, and the driver executes them.

What SQLAlchemy does around each execution, and around each row, costs three times what SQLite does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, Final

from sqlalchemy import ClauseElement, Connection, Executable, Insert
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import ReturnsRows

from server.db.connection import DIALECT, driver

Values = Mapping[str, Any]
Process = Callable[[Any], Any]  # of a value, on its way to SQLite or from there

MOST_PREPARED: Final = 1000  # clients choose which columns they change
NOTHING: Final[Values] = {}


class Record(tuple[Any, ...]):
    """A row: its values in order, and by their columns' names as attributes."""

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def _asdict(self) -> dict[str, Any]:
        """By name, as named tuples have it."""
        return dict(zip(type(self)._fields, self, strict=True))


@cache
def _record_with(names: tuple[str, ...]) -> type[Record]:
    """The type of the rows that have these columns."""
    values = {name: property(itemgetter(place)) for place, name in enumerate(names)}
    return type("Record", (Record,), {"_fields": names, "__slots__": (), **values})


class Prepared:
    """A statement as SQL for values of certain names, and the way of values in and of rows out."""

    def __init__(self, statement: ClauseElement, names: frozenset[str]) -> None:
        compiled = statement.compile(dialect=DIALECT, column_keys=sorted(names))
        assert isinstance(compiled, SQLCompiler)
        self.sql = str(compiled)
        self._names = compiled.positiontup or []
        binds = compiled.binds
        own = {name: bind.value for name, bind in binds.items() if not bind.required}
        if isinstance(statement, Insert):
            own |= _defaults(statement.table)
        self._own = {name: own[name] for name in self._names if name in own and name not in names}
        kinds = [binds[name].type.dialect_impl(DIALECT) for name in self._names]
        self._inwards = _needed(kind.bind_processor(DIALECT) for kind in kinds)
        columns = [*statement.exported_columns] if isinstance(statement, ReturnsRows) else []
        kinds = [column.type.dialect_impl(DIALECT) for column in columns]
        self._outwards = _needed(kind.result_processor(DIALECT, None) for kind in kinds)
        self._record = _record_with(
            tuple(column.key or f"column{i}" for i, column in enumerate(columns))
        )

    def bound(self, values: Values) -> list[Any]:
        """The values in the order of the SQL, with those that the statement has itself."""
        if self._own:
            values = {**self._own, **values}
        given = [values[name] for name in self._names]
        for place, process in self._inwards:
            given[place] = process(given[place])
        return given

    def record(self, row: Sequence[Any]) -> Record:
        """A row of the driver's as ours."""
        if self._outwards:
            values = [*row]
            for place, process in self._outwards:
                values[place] = process(values[place])
            row = values
        return self._record(row)


@lru_cache(MOST_PREPARED)
def _prepared(statement: ClauseElement, names: frozenset[str]) -> Prepared:
    return Prepared(statement, names)


def _defaults(table: Any) -> Values:
    """What the columns of a new row have that are not given."""
    return {column.name: column.default.arg for column in table.c if column.default is not None}


def _needed(processes: Iterable[Process | None]) -> list[tuple[int, Process]]:
    """By place, those that are not None."""
    return [(place, each) for place, each in enumerate(processes) if each is not None]


class Queries:
    """Executes statements over a connection, whose driver is `raw`.

    All but `fresh` keep how a statement is executed, and are for those that are built once.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.raw = driver(connection)

    def first(self, statement: ClauseElement, values: Values = NOTHING) -> Record | None:
        """The first row, if there is any."""
        prepared, found = self._executed(statement, values)
        row = found.fetchone()
        found.close()
        return None if row is None else prepared.record(row)

    def one(self, statement: ClauseElement, values: Values = NOTHING) -> Record:
        """The row of which there is one."""
        row = self.first(statement, values)
        assert row is not None, "the statement has a row"
        return row

    def all(self, statement: ClauseElement, values: Values = NOTHING) -> list[Record]:
        """All rows."""
        prepared, found = self._executed(statement, values)
        return [prepared.record(row) for row in found]

    def some(self, statement: ClauseElement, values: Values = NOTHING) -> Iterator[Record]:
        """All rows, each read when it is asked for."""
        prepared, found = self._executed(statement, values)
        return map(prepared.record, found)

    def scalar(self, statement: ClauseElement, values: Values = NOTHING) -> Any:
        """The first value of the first row; None if there is no row."""
        row = self.first(statement, values)
        return None if row is None else row[0]

    def scalars(self, statement: ClauseElement, values: Values = NOTHING) -> list[Any]:
        """The first values of all rows."""
        return [row[0] for row in self.all(statement, values)]

    def run(self, statement: ClauseElement, values: Values = NOTHING) -> int:
        """Execute what has no rows; how many it has changed."""
        _, done = self._executed(statement, values)
        return done.rowcount

    def run_for_each(self, statement: ClauseElement, rows: Sequence[Values]) -> None:
        """Execute it for all of these values, which have the same names."""
        prepared = _prepared(statement, frozenset(rows[0]))
        self.raw.executemany(prepared.sql, map(prepared.bound, rows))

    def fresh(self, statement: Executable, values: Values = NOTHING) -> list[Record]:
        """All rows of a statement that was built for this once."""
        found = self._connection.execute(statement, values)
        record = _record_with(tuple(found.keys()))
        return [record(row) for row in found]

    def _executed(
        self, statement: ClauseElement, values: Values
    ) -> tuple[Prepared, sqlite3.Cursor]:
        prepared = _prepared(statement, frozenset(values))
        return prepared, self.raw.execute(prepared.sql, prepared.bound(values))
