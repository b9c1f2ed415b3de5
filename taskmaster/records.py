"""What scripts have of `typing`, which they do not load: it takes 5 ms.

So other names of it are imported under ``if TYPE_CHECKING``, and that is had
from here; aliases of types are made there too.  Only what operators import
(`api`, `iterators`) has the library's, as its annotations may be looked at.

A script makes fifty classes with `NamedTuple` before it does anything.  That
of `typing` compiles the annotation of each field, which nobody reads here;
this one makes the very same class without, in two thirds of the time.
"""

from __future__ import annotations

TYPE_CHECKING = False       # type checkers go by the name

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
    from typing import Protocol as Protocol
else:
    from collections import namedtuple

    # What a class body has that is no attribute of the class.
    LEFT_OUT = {'__module__', '__qualname__', '__annotations__'}

    class _Maker(type):
        """Its instances' subclasses are tuples, and none of its own."""

        def __new__(mcs, name, bases, body):
            fields = body.get('__annotations__', {})
            made = namedtuple(name, fields, module=body['__module__'],
                              defaults=[body[field] for field in fields
                                        if field in body])
            made.__qualname__ = body['__qualname__']
            made.__annotations__ = fields
            for attribute, value in body.items():
                if attribute not in LEFT_OUT and attribute not in fields:
                    setattr(made, attribute, value)
            return made

    NamedTuple = type.__new__(_Maker, 'NamedTuple', (), {})

    class Protocol:
        """What another class is to have; nobody asks while it runs."""
