"""Keys and jobs as JSON: a literal where that is exact, else a pickle.

A literal is what a person can read: ``30421``, ``('eu', 17)``.  It is used
only when reading it gives the same value of the same types.
"""

from __future__ import annotations

import io
import pickle
from json import dumps

from ..errors import ConfigError, OperatorError
from ..records import TYPE_CHECKING
from ..text import safe_repr, short, summary

if TYPE_CHECKING:
    from typing import Any, Callable, ClassVar

MAX_KEY = 64 * 1024         # bytes of an encoded key
MAX_LITERAL = 64 * 1024     # reading a literal takes 100 times its size
PICKLE_PROTOCOL = 4         # one that every supported Python reads

_SCALARS = (type(None), bool, int, float, complex, str, bytes)
_REMEDY = 'give the module a get_key(job) that returns a plain value, an id'


def encode_key(key: Any) -> dict[str, str]:
    """``{'literal': text}`` or ``{'pickle': base64, 'repr': text}``.

    Raises OperatorError when ``key`` is None, cannot be pickled, does not
    come back as the same, is not equal to itself (NaN), or takes more than
    64 kB.
    """
    if key is None:
        raise OperatorError(f'the key of a job is None: {_REMEDY}')
    try:
        encoded = encode(key)
        kept = identity(decode(encoded)) == identity(key)
        ordered = _equals_itself(key)
    except BaseException as error:      # of the operator's own methods
        raise _refused(key, summary(error)) from error
    if not kept:
        raise _refused(key, 'its pickle does not come back as the same value')
    if not ordered:
        raise _refused(key, 'it is not equal to itself, so nothing can be '
                            'found by it')
    if len(dumps(encoded)) > MAX_KEY:
        raise _refused(key, 'it takes more than 64 kB')
    return encoded


def decode_key(encoded: dict[str, str]) -> Any:
    """The key that ``encode_key`` was given.

    Raises ConfigError when its pickle cannot be read here.
    """
    try:
        return decode(encoded)
    except Exception as error:
        raise ConfigError(
            f'the saved key {short(encoded.get("repr", ""))} cannot be '
            f'unpickled here ({summary(error)}): make what it needs '
            'importable, or start over with --reset') from error


def same(one: Any, other: Any) -> bool:
    """Whether the same would be saved of both keys.

    That tells apart what ``==`` does not: True, 1 and 1.0, and the two hours
    of one name at the end of summer time (`fold`).  The order in which a set
    or a dict was filled makes no difference.  What cannot be pickled is the
    same as nothing.
    """
    try:
        return identity(one) == identity(other)
    except BaseException:       # of the operator's own methods
        return False


def encode(value: Any) -> dict[str, str]:
    """As ``encode_key``, of any value; raises whatever pickling it raises."""
    pickled = pickle.dumps(value, PICKLE_PROTOCOL)
    literal = _literal(value) if len(pickled) <= MAX_LITERAL else None
    if literal is not None:
        return {'literal': literal}
    import base64       # most keys are literals
    return {'pickle': base64.b64encode(pickled).decode('ascii'),
            'repr': safe_repr(value)}


def decode(encoded: dict[str, str]) -> Any:
    """What ``encode`` was given; raises whatever unpickling it raises."""
    if 'literal' in encoded:
        return _read(encoded['literal'])
    import base64       # most keys are literals
    return pickle.loads(base64.b64decode(encoded['pickle'], validate=True))


def identity(value: Any) -> bytes:
    """Two values have one identity if the same would be saved of both.

    Raises whatever pickling raises.
    """
    try:
        return _canonical(value)
    except Exception:       # it holds itself, say
        return pickle.dumps(value, PICKLE_PROTOCOL)


def _canonical(value: Any) -> bytes:
    file = io.BytesIO()
    _Canonical(file, PICKLE_PROTOCOL).dump(value)
    return file.getvalue()


class _Canonical(pickle._Pickler):
    """Writes the same for the same value, to be compared but not to be read.

    A plain pickle also depends on which parts of a value are one object (so
    there is no memo here), and on the order in which sets and dicts were
    filled (so they are sorted, by the pickles of what is in them).  Only the
    pickler in Python can be told how to write built-in types.
    """

    save: Callable[[Any], None]     # it is there, but type checkers miss it

    def __init__(self, file: io.BytesIO, protocol: int):
        super().__init__(file, protocol)
        self.fast = True        # without a memo

    def _save_set(self, items: set[Any] | frozenset[Any]) -> None:
        self.save(type(items))
        self.save(sorted(map(_canonical, items)))

    def _save_dict(self, items: dict[Any, Any]) -> None:
        self.save(dict)
        self.save(sorted((_canonical(key), _canonical(value))
                         for key, value in items.items()))

    dispatch: ClassVar[dict[type, Callable[..., None]]] = {
        **pickle._Pickler.dispatch,
        set: _save_set, frozenset: _save_set, dict: _save_dict}


def _equals_itself(value: Any) -> bool:
    """Whether neither it nor a part of it is a NaN of whatever type."""
    if isinstance(value, dict):
        value = [*value.items()]
    if isinstance(value, (tuple, list, set, frozenset)):
        return all(map(_equals_itself, value))
    return bool(value == value)


def _literal(value: Any) -> str | None:
    """The repr of ``value`` if that says all about it, else None."""
    try:
        if not _plain(value):
            return None
        text = repr(value)
        # Of plain values no two differ and have one repr (-0.0 and 0.0,
        # True and 1 do differ in it), so this compares values and types.
        return text if repr(_read(text)) == text else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None     # nan, inf, an int too long to print, very deep lists


def _read(literal: str) -> Any:
    """The value of a literal; most are the whole numbers of a table."""
    if literal.isascii() and literal.isdecimal():
        return int(literal)
    import ast          # it takes a while
    return ast.literal_eval(literal)


def _plain(value: Any) -> bool:
    """Made of the very types of literals, not of subclasses of them."""
    kind = type(value)
    if kind in (tuple, list, set):
        return all(map(_plain, value))
    if kind is dict:
        return all(_plain(k) and _plain(v) for k, v in value.items())
    return kind in _SCALARS


def _refused(key: Any, why: str) -> OperatorError:
    return OperatorError(
        f'the key {short(safe_repr(key))} cannot be saved ({why}): {_REMEDY}')
