"""One table of settings, and what follows from it or is held against it."""

import inspect
import re
from decimal import Decimal
from pathlib import Path

import pytest

from taskmaster import Taskmaster
from taskmaster.address import address
from taskmaster.cli import ctl, master, run, slave, spawn
from taskmaster.cli.options import parser_of
from taskmaster.cli.plain import plain
from taskmaster.converters import MaxFailures
from taskmaster.errors import UsageError
from taskmaster.settings import (TABLE, Settings, converted, cores,
                                 default_of, flags, from_python, made,
                                 of_script)

REFERENCE = Path(__file__).parents[2] / 'docs' / 'reference.md'
SCRIPTS = {module.SCRIPT.name: module.SCRIPT
           for module in (master, slave, spawn, run, ctl)}
WORDS = {'master': ['m'], 'slave': ['m'], 'spawn': ['m', '2'],
         'run': ['m', '2'], 'ctl': ['status']}


def parser(name):
    script = SCRIPTS[name]
    return parser_of(name, script.about, script.examples)


def parsed(name, *words):
    return made(vars(parser(name).parse_intermixed_args(
        [*WORDS[name], *words])), environ={})


def test_each_field_but_the_folder_is_a_setting():
    assert list(TABLE) == list(Settings._fields[1:])


# -- the parsers ----------------------------------------------------------

@pytest.mark.parametrize('name', SCRIPTS)
def test_what_is_not_given_has_its_default(name):
    settings = parsed(name)
    for setting, value in settings._asdict().items():
        if setting in of_script(name) and not TABLE[setting].word:
            assert value == default_of(setting, name), setting


@pytest.mark.parametrize('name', SCRIPTS)
def test_a_script_takes_its_own_settings_and_no_other(name, capsys):
    shown = parser(name).format_help()
    offered = set(re.findall(r'^  (--[a-z-]+)', shown, re.M))
    assert offered == {'--version'} | {
        '--' + setting.replace('_', '-')
        for setting, its in of_script(name).items() if not its.word}


def test_the_help_says_default_and_unit():
    words = ' '.join(parser('run').format_help().split())
    assert 'how many jobs the queue holds (default: 10000 jobs)' in words
    assert 'N% counts after the first 100 jobs (default: 100 jobs)' in words
    assert 'look for the master (default: 60 seconds)' in words
    words = ' '.join(parser('ctl').format_help().split())
    assert 'look for the master (default: 5 seconds)' in words


@pytest.mark.parametrize('words, meant, rest', [
    ([], False, []), (['--retry-failed'], True, []),
    (['--retry-failed', 'a=1'], True, ['a=1']),
    (['--retry-failed=ValueError at m.py:3'], 'ValueError at m.py:3', []),
    (['--retry-failed=', 'a=1'], True, ['a=1'])])
def test_a_flag_that_may_have_a_value_takes_no_word_for_it(
        words, meant, rest):
    for found in (parsed('run', *words),
                  made(plain('run', ['m', '2', *words]), {})):
        assert (found.retry_failed, list(found.arguments)) == (meant, rest)
    assert from_python({'retry_failed': meant}).retry_failed == meant


@pytest.mark.parametrize('script, words, slaves, rest', [
    ('run', ['m'], None, []), ('run', ['m', '3'], 3, []),
    ('run', ['m', 'a=1'], None, ['a=1']),
    ('run', ['m', '3', 'a=1', 'b=2'], 3, ['a=1', 'b=2']),
    ('run', ['--size', '9', 'm', 'a=1'], None, ['a=1']),
    ('run', ['m', '--size', '9', '4', '--inline', 'a=1'], 4, ['a=1']),
    ('run', ['--retry-failed', 'm', '4'], 4, []),
    ('run', ['m', '--limit=9', 'a=3'], None, ['a=3']),
    ('spawn', ['m'], None, []), ('spawn', ['m', '3'], 3, [])])
def test_how_many_slaves_need_not_be_said(script, words, slaves, rest):
    """A slave for each core; N is the first word if it is digits alone."""
    for found in (vars(parser(script).parse_intermixed_args(words)),
                  plain(script, words)):
        assert found['target'] == 'm'
        assert found['slaves'] == (slaves or cores())
        assert list(found.get('arguments', [])) == rest
    assert Settings().slaves == 2           # of the Python API


@pytest.mark.parametrize('script, words, said', [
    ('run', [], 'the following arguments are required: TARGET'),
    ('run', ['m', '0'], 'argument N: must be at least 1'),
    ('run', ['m', '--limt=3'], 'unrecognized arguments: --limt=3'),
    ('spawn', ['m', 'x'], 'unrecognized arguments: x'),
    ('ctl', [], 'the following arguments are required: COMMAND')])
def test_a_usage_error_is_one_line_with_a_pointer(
        script, words, said, capsys):
    with pytest.raises(SystemExit) as end:
        parser(script).parse_intermixed_args(words)
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        f'tm-{script}: {said}; see tm-{script} --help\n')


@pytest.mark.parametrize('text, found', [
    ('4301', ('127.0.0.1', 4301)), ('0', ('127.0.0.1', 0)),
    ('db1', ('db1', 3050)), ('db1:4301', ('db1', 4301)),
    (':4301', ('127.0.0.1', 4301)), ('::1', ('::1', 3050)),
    ('[::1]:4301', ('::1', 4301)), ('10.0.0.5', ('10.0.0.5', 3050))])
def test_where_a_host_is(text, found):
    assert address(text) == found


@pytest.mark.parametrize('text', ['65536', '99999999', 'db1:x', '[::1'])
def test_where_no_host_is(text):
    with pytest.raises(UsageError):
        address(text)


def test_key_and_key_file_are_one_or_the_other(capsys):
    with pytest.raises(SystemExit) as end:
        parsed('run', '--key=a', '--key-file=b')
    assert end.value.code == 2
    assert '--key-file: not allowed with argument --key' in (
        capsys.readouterr().err)


@pytest.mark.parametrize('flag', [
    '--size=0', '--size=ten', '--max-failures=101%', '--max-failures=nan%',
    '--max-failures=0', '--rate=0', '--rate=nan', '--rate=inf', '--limit=0',
    '--total=-1', '--threads=10001', '--retries=-1', '--timeout=nan',
    '--timeout=1e9', '--job-timeout=0.001', '--log-level=loud',
    '--max-jobs-per-slave=0', '--batch=0', '--max-runtime=-1'])
def test_what_is_refused_is_named_and_why(flag, capsys):
    name, _, text = flag[2:].partition('=')
    name = name.replace('-', '_')
    with pytest.raises(SystemExit) as end:
        parsed('run', flag)
    assert end.value.code == 2
    typed = capsys.readouterr().err
    with pytest.raises(ValueError, match=f'^{name}: ') as error:
        converted(name, text)
    assert str(error.value).partition(': ')[2] in typed


def test_an_empty_host_is_none():
    assert made({'host': ''}, {}).host is None
    assert made({'host': None}, {'TASKMASTER_HOST': ''}).host is None
    assert made({'host': ''}, {'TASKMASTER_HOST': 'db1'}).host == 'db1'
    assert made({'host': 'db2'}, {'TASKMASTER_HOST': 'db1'}).host == 'db2'


def test_what_is_typed_for_a_child_gives_the_same_settings():
    settings = parsed('run', '--threads=3', '--retries=2', '--timeout=7.5',
                      '--batch=9', '--tls-ca=a b', '--size=5', '--inline')
    again = parsed('slave', *flags(settings, 'slave'))
    for name in of_script('slave'):
        assert getattr(again, name) == getattr(settings, name), name
    assert flags(Settings(), 'slave') == []


def test_the_key_of_the_environment_comes_last():
    environ = {'TASKMASTER_KEY': 'e'}
    assert made({'key': 'k'}, environ).key == 'k'
    assert made({'key': ''}, environ).key == ''
    assert made({'key_file': '/f'}, environ).key is None
    assert made({}, environ).key == 'e'


def test_files_are_found_from_the_folder_of_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = made({'state': 'x.state', 'tls_ca': '../crt', 'key_file': 'k'},
                    {})
    assert settings.folder == str(tmp_path)
    assert settings.state == str(tmp_path / 'x.state')
    assert settings.tls_ca == f'{tmp_path}/../crt'
    assert settings.key_file == 'k'     # it is read at once


# -- when to stop ---------------------------------------------------------

def test_max_failures():
    few, share = converted('max_failures', 3), converted('max_failures', '5%')
    assert [few.reached(n, 1000) for n in (2, 3)] == [False, True]
    assert [share.reached(6, n) for n in (99, 100, 120)] == [
        False, True, False]
    assert (str(few), str(share), str(MaxFailures(share=0.005))) == (
        '3', '5%', '0.5%')


# -- from Python ----------------------------------------------------------

def test_a_keyword_for_each_setting_that_python_may_give():
    """With the same default, which mypy cannot see in the table."""
    keywords = {
        name: parameter.default for name, parameter
        in inspect.signature(Taskmaster).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY}
    assert list(keywords) == [name for name, setting in TABLE.items()
                              if setting.python]
    for name, default in keywords.items():
        assert converted(name, default) == (
            Settings._field_defaults[name]), name


@pytest.mark.parametrize('name, value, meant', [
    ('max_failures', 5, MaxFailures(jobs=5)),
    ('max_failures', '5%', MaxFailures(share=0.05)),
    ('rate', '500', 500.0), ('rate', 500, 500.0), ('rate', 'off', None),
    ('rate', None, None), ('size', '10', 10), ('timeout', 3, 3.0),
    ('dry_run', True, True), ('limit', None, None),
    ('state', Path('/a/b'), '/a/b'), ('log_level', 'debug', 'debug')])
def test_a_value_means_what_a_flag_means(name, value, meant):
    made = getattr(from_python({name: value}), name)
    assert (made, type(made)) == (meant, type(meant))


@pytest.mark.parametrize('name, value, error', [
    ('size', None, TypeError), ('size', True, TypeError),
    ('size', [1], TypeError), ('size', 10.5, ValueError),
    ('size', 'many', ValueError), ('rate', Decimal(5), TypeError),
    ('rate', float('nan'), ValueError), ('dry_run', 1, TypeError),
    ('dry_run', 'yes', TypeError), ('inline', None, TypeError),
    ('state', 5, TypeError), ('state', b'x', TypeError),
    ('host', 3050, TypeError), ('log_level', 'loud', ValueError),
    ('key', b'secret', TypeError)])
def test_a_value_of_a_wrong_kind_is_named(name, value, error):
    with pytest.raises(error, match=f'^{name}'):
        from_python({name: value})


def test_key_or_key_file_from_python():
    with pytest.raises(TypeError, match='key_file: give it or key'):
        from_python({'key': 'a', 'key_file': 'b'})


# -- the reference --------------------------------------------------------

def test_the_table_of_the_reference():
    """Each flag stands in it once, with the scripts that take it."""
    text = REFERENCE.read_text()
    table = text.partition('## Options')[2].partition('\n## ')[0]
    stated = {}
    for row in re.findall(r'^\| `--.*\|$', table, re.M):
        options, scripts = row.strip('| ').split(' | ')[:2]
        for flag in re.findall(r'`(--[a-z-]+)', options):
            assert flag not in stated, f'{flag} stands there twice'
            stated[flag] = scripts
    every = 'master, slave, spawn, run, ctl'
    assert stated.pop('--version') == 'all'
    assert stated == {
        '--' + name.replace('_', '-'):
        ', '.join(setting.scripts).replace(every, 'all')
        for name, setting in TABLE.items() if not setting.word}
    # And the defaults that are numbers.
    for name, default in Settings._field_defaults.items():
        flag = '--' + name.replace('_', '-')
        if (name in TABLE and not TABLE[name].word and default is not None
                and not isinstance(default, (bool, str))):
            row, = re.findall(rf'^\|.*`{flag}[ `].*\|$', table, re.M)
            shown = f'{default:g}' if isinstance(default, float) else default
            assert re.search(rf': {shown}\b', row) or re.search(
                rf' {shown}\b', row), row
