"""The packaged example: numbers, as many as asked for.

    $ tm-run taskmaster.example 2
    $ tm-run taskmaster.example 2 count=1000000
"""

from collections.abc import Iterator


def get_jobs(last: int = 0, count: str = '100000') -> Iterator[int]:
    """The numbers after ``last``, up to ``count``."""
    yield from range(last + 1, int(count) + 1)


def handle_job(number: int) -> None:
    """Whatever is to be done with a number."""
    number * number


def count_jobs(count: str = '100000') -> int:
    return int(count)
