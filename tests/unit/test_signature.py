"""What is read from a code object is what `inspect` says."""

import functools
import inspect

import pytest

from taskmaster.usercode import signature


def plain(a, b, c=1): pass                              # noqa: E704
def only(a, /, b, *, c, d=1): pass                      # noqa: E704
def stars(*args, a, **rest): pass                       # noqa: E704
def rest(a=1, **kwargs): pass                           # noqa: E704
def args(a, *more): local = a; return local, more       # noqa: E702,E704
def nothing(): pass                                     # noqa: E704
def generator(a): yield                                 # noqa: E704
async def coroutine(a, b=2): pass                       # noqa: E704
async def both(a, *, b=2): yield                        # noqa: E704


def closure(outer):
    def inside(a, b=1):
        return outer, a
    return inside


FUNCTIONS = [plain, only, stars, rest, args, nothing, generator, coroutine,
             both, closure(1), lambda x, y=1: x]


@pytest.mark.parametrize('function', FUNCTIONS)
def test_a_plain_function_is_read_as_inspect_reads_it(function):
    assert signature._is_plain(function)
    read = signature._parameters(function)
    asynchronous = signature.is_async(function)
    yields = signature.yields(function)
    fits = [signature.fits(function, count) for count in range(4)]
    function.of_its_own = True          # so that it is plain no more
    try:
        assert not signature._is_plain(function)
        assert signature._parameters(function) == read
        assert signature.is_async(function) == asynchronous == (
            inspect.iscoroutinefunction(function)
            or inspect.isasyncgenfunction(function))
        assert signature.yields(function) == yields
        assert [signature.fits(function, n) for n in range(4)] == fits
    finally:
        del function.of_its_own


def test_what_a_decorator_wraps_is_read_through_it():
    @functools.wraps(plain)
    def wrapper(*args, **kwargs):
        return plain(*args, **kwargs)
    assert not signature.takes(wrapper, 'd')
    assert signature.required_positionals(wrapper) == 2
    assert not signature.takes(functools.partial(plain, b=1), 'd')
    assert signature.required_positionals(functools.partial(plain, 1)) == 1


def test_a_wrapper_that_gives_more_itself_fits():
    """As one that opens a connection for a throttle."""
    @functools.wraps(plain)
    def wrapper():
        return plain(1, 2)
    assert signature.fits(wrapper, 0) and not signature.fits(wrapper, 2)
    assert signature.fits(functools.partial(plain, 1), 1)
