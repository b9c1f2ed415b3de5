"""What differs between the drivers that a query may be run by.

A `Driver` is of one connection: of the DB-API, Django's, or SQLAlchemy's.
None of their packages is imported here: who has a connection has it loaded.
"""

from __future__ import annotations

import re
import sys
from contextlib import closing
from itertools import chain
from typing import Any, Mapping, Sequence

from ..errors import OperatorError
from ..text import summary

# The packages of drivers of MySQL and MariaDB.
MYSQL = frozenset({'pymysql', 'MySQLdb', 'mysql', 'mariadb', 'cymysql'})
STYLES = ('qmark', 'format', 'pyformat')    # of placeholders
# A % that a driver would take for the beginning of a placeholder.
_LONE_PERCENT = re.compile(r'%(?!s|\(\w+\)s)')


class Driver:
    """Runs queries on a connection of the DB-API, or of Django.

    ``parameters`` are those of the operator's own query, which comes before
    any placeholder of ours.

    ``enters_by_row`` says whether an index is entered by ``(a, b) > (?, ?)``.
    MySQL and MariaDB read a table from its beginning for that.

    Raises OperatorError for a connection that is asynchronous, or is not in
    autocommit mode, and for placeholders that it does not know.
    """

    enters_by_row = True

    def __init__(self, connection: Any,
                 parameters: Sequence[Any] | Mapping[str, Any]):
        self._connection = connection
        self._parameters = parameters
        self._named = isinstance(parameters, Mapping)
        if hasattr(connection, '__aenter__'):
            raise OperatorError(
                f'a walk cannot wait for an {type(connection).__name__}; '
                'connect without async')
        self._check_autocommit()
        package, self._style = self._kind()
        self.enters_by_row = package not in MYSQL
        # mysql.connector leaves %% as it is, where others make it %.
        self._keeps_percent = package == 'mysql'

    def mark(self, number: int) -> str:
        """The placeholder of the value ``number`` (from 0) of ours."""
        if self._named:
            return (f':keyset_{number}' if self._style == 'qmark' else
                    f'%(keyset_{number})s')
        return '?' if self._style == 'qmark' else '%s'

    def select(self, query: str, *values: Sequence[Any]
               ) -> tuple[list[Any], list[str]]:
        """The rows, and the names of their columns.

        ``values`` of ours for each time that the operator's query is in it.
        """
        if self._keeps_percent:
            query = query.replace('%%', '%')
        with closing(self._connection.cursor()) as cursor:
            try:
                cursor.execute(query, self._with(*values))
            except Exception as error:
                self._explain(query, error)
                raise
            return (list(cursor.fetchall()),
                    [column[0] for column in cursor.description])

    def _with(self, *values: Sequence[Any]) -> Any:
        if self._named:
            return {**dict(self._parameters), **{
                f'keyset_{number}': value for number, value
                in enumerate(chain(*values))}}
        return [value for part in values
                for value in (*self._parameters, *part)]

    def _check_autocommit(self) -> None:
        ask = getattr(self._connection, 'get_autocommit', None)
        if callable(ask):       # where `autocommit` is a method, and Django
            state, remedy = ask(), 'connect with autocommit=True'
        else:
            state = getattr(self._connection, 'autocommit', True)
            remedy = 'set its autocommit = True'
        if state in (False, 0):         # -1 is sqlite3's own way, which does
            raise no_autocommit(remedy)

    def _kind(self) -> tuple[str, str]:
        """The package of the driver, and its placeholders.

        These are told by the module of the connection, or one above it.
        """
        vendor = getattr(self._connection, 'vendor', None)
        if vendor and hasattr(self._connection, 'settings_dict'):   # Django
            return ('pymysql' if vendor == 'mysql' else vendor), 'format'
        for kind in type(self._connection).__mro__:
            name = kind.__module__
            while name:
                style = getattr(sys.modules.get(name), 'paramstyle', None)
                if style in STYLES:
                    return name.partition('.')[0], str(style)
                name = name.rpartition('.')[0]
        raise OperatorError(
            'keyset cannot tell what placeholders a '
            f'{type(self._connection).__name__} takes; give it a function '
            'fetch(last, limit) instead')

    def _explain(self, query: str, error: Exception) -> None:
        """Say more of an error that a single % may be the reason of."""
        if (self._style != 'qmark' and not self._keeps_percent
                and _LONE_PERCENT.search(query.replace('%%', ''))):
            raise OperatorError(
                f'{summary(error)}: in a query with %s for its placeholders '
                'write %% for any other %') from error


class SQLAlchemy(Driver):
    """Runs queries on a `sqlalchemy.Connection`."""

    def _check_autocommit(self) -> None:
        level = (self._connection.get_execution_options().get(
            'isolation_level') or getattr(
                self._connection.dialect, '_on_connect_isolation_level', ''))
        if level != 'AUTOCOMMIT':
            raise no_autocommit(
                "give its execution_options(isolation_level='AUTOCOMMIT')")
        if self._parameters and not self._named:
            raise OperatorError('parameters of a query of SQLAlchemy are a '
                                'mapping, for :name in the query')
        self._named = True

    def _kind(self) -> tuple[str, str]:
        return ('pymysql' if self._connection.dialect.name in (
            'mysql', 'mariadb') else ''), 'qmark'

    def select(self, query: str, *values: Sequence[Any]
               ) -> tuple[list[Any], list[str]]:
        text = sys.modules['sqlalchemy'].text
        result = self._connection.execute(text(query), self._with(*values))
        return list(result.fetchall()), list(result.keys())


def find(connection: Any, parameters: Sequence[Any] | Mapping[str, Any]
         ) -> Driver | None:
    """The driver of a connection; None if that is no connection."""
    sqlalchemy: Any = sys.modules.get('sqlalchemy')
    if sqlalchemy and isinstance(
            connection, getattr(sqlalchemy, 'Connection', ())):
        return SQLAlchemy(connection, parameters)
    if hasattr(connection, 'cursor'):
        return Driver(connection, parameters)
    return None


def no_autocommit(remedy: str) -> OperatorError:
    return OperatorError(
        'a walk wants a connection that is in autocommit mode: this one '
        'would hold a transaction open for as long as the walk takes, which '
        'keeps the database from cleaning up, and may hide what others '
        f'commit meanwhile; {remedy}')
