"""What is read without argparse is what argparse would have read."""

import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmaster.cli import ctl, master, run, slave, spawn
from taskmaster.cli.options import parser_of
from taskmaster.cli.plain import plain
from taskmaster.settings import Settings, flags, of_script

SCRIPTS = {module.SCRIPT.name: module.SCRIPT
           for module in (master, slave, spawn, run, ctl)}


def by_argparse(name, arguments):
    """What argparse reads, or None: it has something to say instead."""
    script = SCRIPTS[name]
    parser = parser_of(name, script.about, script.examples)
    try:
        with contextlib.redirect_stderr(io.StringIO()), \
                contextlib.redirect_stdout(io.StringIO()):
            return vars(parser.parse_intermixed_args(arguments))
    except SystemExit:
        return None


def flag_of(name):
    return '--' + name.replace('_', '-')


@st.composite
def command_lines(draw):
    """Of all that a script takes, and of what it does not."""
    name = draw(st.sampled_from(sorted(SCRIPTS)))
    texts = st.sampled_from(['5', '1%', 'off', 'debug', 'm', 'a=b', '', '-1',
                             '0', 'a b', '-', '--'])
    option = st.tuples(
        st.sampled_from(sorted(map(flag_of, of_script(name)))
                        + ['--version', '--help', '-h', '--no', '--rate_']),
        st.sampled_from(['=', '']), texts)
    parts = draw(st.lists(st.one_of(option.map(''.join), texts,
                                    st.just('m'), st.just('2')), max_size=6))
    return name, parts


@given(command_lines())
def test_it_reads_what_argparse_reads_or_leaves_it(line):
    name, arguments = line
    values = plain(name, arguments)
    assert values is None or values == by_argparse(name, arguments)


@pytest.mark.parametrize('name, arguments', [
    ('run', ['m']), ('run', ['m', '2']),
    ('run', ['m', '2', 'a=b', 'c=d', '--reset']),
    ('run', ['m', '--limit=5', '2', '--rate', '100', 'shard=3']),
    ('run', ['m', '2', '--retry-failed', '--max-failures=5%']),
    ('master', ['m', '--host=0.0.0.0:3050', '--key-file=key']),
    ('slave', ['m', '--threads=8', '--retries', '3']),
    ('spawn', ['m', '4', '--job-timeout=60']),
    ('ctl', ['status', '--json']), ('ctl', ['rate', '500']),
    ('ctl', ['stop', '--run=m'])])
def test_what_is_typed_every_day_needs_no_argparse(name, arguments):
    assert plain(name, arguments) == by_argparse(name, arguments) is not None


@pytest.mark.parametrize('name, arguments', [
    ('run', []), ('run', ['--help']), ('run', ['--version']),
    ('run', ['m', '2', '--limit']), ('run', ['m', '2', '--limit=0']),
    ('run', ['m', '2', '--lim=5']), ('run', ['m', '2', '--no']),
    ('run', ['m', '2', '--reset=yes']), ('run', ['m', '2', '--key_file=a']),
    ('slave', ['m', 'n']), ('ctl', ['rate', '5', '6']),
    ('run', ['m', '2', '--key=a', '--key-file=b']),
    ('run', ['m', '2', '--get_jobs=a']), ('run', ['m', '2', '--target=m'])])
def test_where_there_is_something_to_say_argparse_says_it(name, arguments):
    assert plain(name, arguments) is by_argparse(name, arguments) is None


def test_what_children_are_started_with_is_plain():
    """Or each of them would load argparse."""
    settings = Settings(threads=3, batch=5, retries=2, timeout=7.5,
                        log_level='debug', tls_ca='/a b/c=d', host='h:1')
    words = ['m:function', *flags(settings, 'slave')]
    values = plain('slave', words)
    assert values is not None
    assert {**values, 'target': ''} == {
        name: getattr(settings, name) for name in of_script('slave')}
