"""What TARGET and NAME=VALUE mean: real files, real imports."""

import errno
import functools
import importlib
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

from taskmaster.errors import ConfigError, UsageError
from taskmaster.usercode import naming, signature, source, targets

ROOT = str(pathlib.Path(targets.__file__).resolve().parents[2])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current directory; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', list(sys.path))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        places = [vars(module).get('__file__') or '']
        places += vars(module).get('__path__') or []
        if any(place.startswith(str(tmp_path)) for place in places):
            del sys.modules[name]


@pytest.fixture
def write(folder):
    def write(path, text=''):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        return file
    return write


def python(code, *args, cwd=None):
    result = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code), *args], cwd=cwd,
        env={**os.environ, 'PYTHONPATH': ROOT}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, timeout=30)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode().strip()


def refused(error, function, *args):
    """Call, and return the error, which must be one line."""
    with pytest.raises(error) as caught:
        function(*args)
    text = str(caught.value)
    assert text and text.splitlines() == [text]
    assert '; ' in text, 'says what is wrong, then what to do'
    return caught.value


JOBS = '''
    def get_jobs():
        return [1]
    def rows():
        return [2]
'''


class TestLoad:
    def test_module(self, write):
        file = write('tm_mod.py', JOBS)
        target = targets.load('tm_mod', 'get_jobs')
        assert target.name == 'tm_mod'
        assert target.function == 'get_jobs'
        assert target.source == os.path.realpath(file)
        assert target.module is sys.modules['tm_mod']
        assert target.callable()() == [1]

    def test_module_and_function(self, write):
        write('tm_pkg/__init__.py')
        write('tm_pkg/deep.py', JOBS)
        target = targets.load('tm_pkg.deep:rows', 'get_jobs')
        assert target.name == 'tm_pkg.deep'
        assert target.function == 'rows'
        assert target.callable()() == [2]

    @pytest.mark.parametrize('text, answer', [
        ('sub/tm_file.py', [1]), ('sub/tm_file.py:rows', [2]),
        ('./sub/tm_file.py', [1])])
    def test_file(self, write, text, answer):
        file = write('sub/tm_file.py', JOBS)
        target = targets.load(text, 'get_jobs')
        assert target.name == 'tm_file'
        assert target.source == os.path.realpath(file)
        assert target.module.__name__ == 'tm_file'
        assert sys.modules['tm_file'] is target.module
        assert target.callable()() == answer

    def test_file_in_the_current_directory(self, write):
        write('tm_here.py', JOBS)
        assert targets.load('tm_here.py', 'get_jobs').name == 'tm_here'

    def test_file_imports_its_siblings(self, write):
        write('sub/tm_sibling.py', 'rows = [7]')
        write('sub/tm_file.py', '''
            from tm_sibling import rows
            def get_jobs():
                from tm_sibling import rows
                return rows
        ''')
        target = targets.load('sub/tm_file.py', 'get_jobs')
        assert target.callable()() == [7]

    def test_file_imports_from_the_current_directory(self, write):
        write('tm_top.py')
        write('sub/tm_file.py', 'import tm_top')
        targets.load('sub/tm_file.py', 'get_jobs')

    def test_file_is_imported_once(self, write):
        file = write('tm_once.py', JOBS)
        first = targets.load('tm_once', 'get_jobs').module
        assert targets.load('tm_once.py', 'get_jobs').module is first
        assert targets.load(str(file), 'get_jobs').module is first

    def test_same_file_through_a_link(self, write, folder):
        write('sub/tm_linked.py', JOBS)
        (folder / 'link').symlink_to('sub')
        first = targets.load('sub/tm_linked.py', 'get_jobs')
        assert targets.load('link/tm_linked.py', 'get_jobs') == first

    def test_source_is_the_real_path(self, write, folder, monkeypatch):
        file = write('sub/tm_linked.py', JOBS)
        (folder / 'link').symlink_to('sub')
        monkeypatch.syspath_prepend(str(folder / 'link'))
        target = targets.load('tm_linked', 'get_jobs')
        assert target.source == os.path.realpath(file)
        assert targets.load(str(file), 'get_jobs') == target

    def test_file_may_hold_dataclasses(self, write):
        write('tm_data.py', '''
            from __future__ import annotations
            import dataclasses
            @dataclasses.dataclass
            class Row:
                id: int
        ''')
        target = targets.load('tm_data.py', 'get_jobs')
        assert target.module.Row(3).id == 3

    def test_the_function_may_be_absent(self, write):
        write('tm_bare.py')
        assert targets.load('tm_bare', 'get_jobs').function == 'get_jobs'

    def test_module_without_a_file(self, folder):
        target = targets.load('sys', 'get_jobs')
        assert target.source == ''
        assert str(refused(ConfigError, target.callable)).startswith(
            'no function get_jobs in sys; ')

    def test_current_directory_once_and_after_the_library(self, write,
                                                          folder):
        write('tm_mod.py')
        targets.load('tm_mod', 'get_jobs')
        targets.load('tm_mod', 'get_jobs')
        assert sys.path.count(str(folder)) == 1
        here = sys.path.index(str(folder))
        library = os.path.dirname(os.path.realpath(os.__file__))
        assert max(place for place, entry in enumerate(sys.path)
                   if os.path.realpath(entry).startswith(library)
                   and 'site-packages' not in entry) < here
        assert all('site-packages' not in entry for entry in sys.path[:here])

    def test_target_in_the_current_directory_comes_first(self, write, folder,
                                                         monkeypatch):
        write('installed/tm_both.py', JOBS)
        write('installed/tm_space/rows.py', JOBS)
        write('installed/tm_space/__init__.py')
        write('tm_both.py', JOBS.replace('[1]', '[3]'))
        write('tm_space/rows.py', JOBS.replace('[1]', '[4]'))
        monkeypatch.syspath_prepend(str(folder / 'installed'))
        assert targets.load('tm_both', 'get_jobs').callable()() == [3]
        assert targets.load('tm_both', 'get_jobs').callable()() == [3]
        assert targets.load('tm_space.rows', 'get_jobs').callable()() == [4]

    def test_no_folder_comes_first(self, write, folder, monkeypatch):
        write('installed/tm_either.py', JOBS)
        write('tm_either.py', JOBS.replace('[1]', '[3]'))
        monkeypatch.syspath_prepend(str(folder / 'installed'))
        before = list(sys.path)
        target = targets.load('tm_either', 'get_jobs', '')
        assert target.callable()() == [1] and sys.path == before

    @pytest.mark.parametrize('name', ['queue', 'colorsys', 'pytest'])
    def test_target_that_would_hide_a_module(self, write, name):
        write(f'{name}.py', JOBS)
        error = refused(ConfigError, targets.load, name, 'get_jobs')
        assert f'{name} would hide the module {name}' in str(error)

    def test_ours_is_never_hidden(self, write):
        write('taskmaster/example.py', JOBS)
        write('taskmaster/__init__.py')
        import taskmaster.example
        target = targets.load('taskmaster.example', 'get_jobs')
        assert target.module is taskmaster.example

    def test_current_directory_is_not_moved(self, write, folder):
        write('tm_mod.py')
        sys.path.append(str(folder))
        before = list(sys.path)
        targets.load('tm_mod', 'get_jobs')
        assert sys.path == before

    def test_removed_current_directory(self, write, folder):
        file = write('tm_far.py', JOBS)
        gone = folder / 'gone'
        gone.mkdir()
        os.chdir(gone)
        gone.rmdir()
        assert targets.load(str(file), 'get_jobs').callable()() == [1]

    @pytest.mark.parametrize('text', [
        '', ' ', ':', ':f', 'a:', 'a:b:c', 'a:b-c', 'a:B.c', 'a.py:',
        'a\n:b c'])
    def test_no_target(self, folder, text):
        error = refused(UsageError, targets.load, text, 'get_jobs')
        assert repr(text) in str(error)
        assert error.exit_code == 2

    def test_classes_pickle_across_processes(self, write, folder):
        file = write('sub/tm_classes.py', '''
            class Row:
                id = 5
        ''')
        code = '''
            import pickle, sys
            from taskmaster.usercode import naming, signature, source, targets
            module = targets.load(sys.argv[1], 'get_jobs').module
            if len(sys.argv) == 2:
                print(pickle.dumps(module.Row()).hex())
            else:
                row = pickle.loads(bytes.fromhex(sys.argv[2]))
                print(type(row) is module.Row, row.id)
        '''
        row = python(code, 'sub/tm_classes.py', cwd=folder)
        assert python(code, str(file), row, cwd=ROOT) == 'True 5'
        assert python(code, 'tm_classes', row,
                      cwd=file.parent) == 'True 5'

    def test_start_is_quick(self, folder):
        unwanted = python('''
            import sys
            from taskmaster import errors
            before = set(sys.modules)
            import taskmaster.usercode.targets
            print('inspect' in set(sys.modules) - before)
        ''')
        assert unwanted == 'False'


class TestTarget:
    def test_find(self, write):
        write('tm_opt.py', 'get_key = 1')
        target = targets.load('tm_opt', 'get_jobs')
        assert target.find('get_key') == 1
        assert target.find('setup') is None
        assert target.find('setup', 2) == 2

    @pytest.mark.parametrize('text', ['', 'get_jobs = [1, 2]'])
    def test_no_such_function(self, write, text):
        file = write('tm_none.py', text)
        target = targets.load('tm_none', 'get_jobs')
        error = refused(ConfigError, target.callable)
        assert str(error) == (
            f'no function get_jobs in tm_none ({os.path.realpath(file)}); '
            'define it or name another: tm_none:FUNCTION')
        assert error.exit_code == 78
        assert error.traceback == ''


class TestOptional:
    @pytest.mark.parametrize('name', ['get_key', 'count_jobs', 'throttle',
                                      'finished'])
    @pytest.mark.parametrize('number, text', [*enumerate([
        'async def {}(job=None): return 1', 'def {}(job=None): yield 1',
        'async def {}(job=None): yield 1',
        'class C:\n    async def __call__(self): pass\n{} = C()'])])
    def test_what_a_call_of_does_nothing(self, write, name, number, text):
        write(f'tm_{name}{number}.py',
              f'def get_jobs(): pass\n{text.format(name)}')
        error = refused(ConfigError, source.from_target,
                        f'tm_{name}{number}', {})
        assert f'{name} in tm_{name}{number} is async, or yields' in str(error)
        assert error.exit_code == 78


def fails(text):
    return refused(ConfigError, targets.load, text, 'get_jobs')


class TestNoSuchModule:
    def test_module(self, folder):
        error = fails('tm_absent')
        assert str(error).startswith('no such module: tm_absent;')
        assert error.traceback == ''
        assert error.exit_code == 78

    def test_parent(self, folder):
        error = fails('tm_absent.sub.deep')
        assert 'no such module: tm_absent.sub.deep ' in str(error)
        assert '(there is no tm_absent)' in str(error)

    def test_inside_a_package(self, write):
        write('tm_pack/__init__.py')
        assert 'no such module: tm_pack.sub;' in str(fails('tm_pack.sub'))

    def test_below_a_module(self, write):
        write('tm_plain.py', JOBS)
        error = fails('tm_plain.get_jobs')
        assert 'no such module: tm_plain.get_jobs;' in str(error)
        assert 'module:function' in str(error)

    @pytest.mark.parametrize('name', ['.rel', 'a..b', 'my-script', 'a b'])
    def test_no_name_of_a_module(self, folder, name):
        assert 'rename' in str(fails(name))


class TestFailsToImport:
    @pytest.mark.parametrize('text', ['tm_broken', 'tm_broken.py'])
    def test_traceback_is_the_operators(self, write, text):
        write('tm_helper.py', '''
            def divide():
                return 1 / 0
        ''')
        file = write('tm_broken.py', '''\
            import tm_helper
            tm_helper.divide()
        ''')
        error = fails(text)
        assert str(error) == ('tm_broken fails to import: '
                              'ZeroDivisionError: division by zero; '
                              'correct it')
        lines = error.traceback.splitlines()
        assert lines[0] == 'Traceback (most recent call last):'
        assert lines[1] == f'  File "{file}", line 2, in <module>'
        assert 'tm_helper.py' in error.traceback
        assert lines[-1] == 'ZeroDivisionError: division by zero'
        assert 'importlib' not in error.traceback
        assert targets.__file__ not in error.traceback

    @pytest.mark.parametrize('text', ['tm_wants', 'tm_wants.py'])
    def test_an_import_inside_is_missing(self, write, text):
        write('tm_wants.py', 'import tm_absent')
        error = fails(text)
        assert 'tm_wants fails to import' in str(error)
        assert "No module named 'tm_absent'" in str(error)
        assert 'tm_wants.py", line 1' in error.traceback

    def test_a_package_that_imports_something_missing(self, write):
        write('tm_pack/__init__.py', 'import tm_absent')
        write('tm_pack/deep.py', JOBS)
        error = fails('tm_pack.deep')
        assert 'tm_pack.deep fails to import' in str(error)
        assert '__init__.py", line 1' in error.traceback

    def test_a_prefix_is_not_a_parent(self, write):
        write('tm_wants_more.py', 'import tm_wants')
        assert 'fails to import' in str(fails('tm_wants_more'))

    def test_a_package_that_misses_the_target_itself(self, write):
        write('tm_pack/__init__.py', 'import tm_pack.deep')
        error = fails('tm_pack.deep')
        assert 'fails to import' in str(error)
        assert '__init__.py", line 1' in error.traceback

    @pytest.mark.parametrize('text', ['tm_syntax', 'tm_syntax.py'])
    def test_syntax_error(self, write, text):
        write('tm_syntax.py', 'def get_jobs(:\n')
        error = fails(text)
        assert 'SyntaxError: ' in str(error)
        assert 'tm_syntax.py, line 1' in str(error)
        assert 'def get_jobs(:' in error.traceback
        assert 'importlib' not in error.traceback

    def test_syntax_error_in_an_import(self, write):
        write('tm_syntax.py', 'def get_jobs(:\n')
        write('tm_uses.py', 'import tm_syntax')
        error = fails('tm_uses')
        assert 'tm_uses.py", line 1' in error.traceback
        assert 'def get_jobs(:' in error.traceback

    @pytest.mark.parametrize('text', ['tm_exits', 'tm_exits.py'])
    def test_system_exit(self, write, text):
        write('tm_exits.py', 'import sys; sys.exit(3)')
        error = fails(text)
        assert 'SystemExit: 3' in str(error)
        assert '__main__' in str(error)
        assert 'sys.exit(3)' in error.traceback

    @pytest.mark.parametrize('text', ['tm_cut', 'tm_cut.py'])
    def test_keyboard_interrupt_goes_through(self, write, text):
        write('tm_cut.py', 'raise KeyboardInterrupt')
        with pytest.raises(KeyboardInterrupt):
            targets.load(text, 'get_jobs')
        assert 'tm_cut' not in sys.modules

    def test_many_lines_become_one(self, write):
        write('tm_lines.py', 'raise ValueError("one\\n\\n  two")')
        error = fails('tm_lines')
        assert 'ValueError: one two;' in str(error)
        assert 'one\n\n  two' in error.traceback

    def test_no_text(self, write):
        write('tm_mute.py', 'raise ValueError')
        assert 'import: ValueError;' in str(fails('tm_mute'))

    @pytest.mark.parametrize('text', ['tm_again', 'tm_again.py'])
    def test_can_be_loaded_once_corrected(self, write, text):
        write('tm_again.py', 'raise ValueError("a longer text than that")')
        fails(text)
        assert 'tm_again' not in sys.modules
        write('tm_again.py', JOBS)
        assert targets.load(text, 'get_jobs').callable()() == [1]


class TestFiles:
    def test_absent(self, folder):
        assert 'no such file: sub/a.py;' in str(fails('sub/a.py'))

    def test_directory(self, folder):
        (folder / 'sub.py').mkdir()
        assert 'sub.py is a directory;' in str(fails('sub.py'))
        assert './sub.py/ is a directory;' in str(fails('./sub.py/'))

    def test_unreadable(self, folder):
        # A link to itself: root, too, cannot read that.
        (folder / 'loop.py').symlink_to('loop.py')
        error = str(fails('loop.py'))
        assert 'cannot read loop.py: ' in error
        assert os.strerror(errno.ELOOP) in error

    @pytest.mark.skipif(os.geteuid() == 0, reason='root reads everything')
    def test_forbidden(self, write):
        write('tm_secret.py', JOBS).chmod(0)
        assert 'Permission denied' in str(fails('tm_secret.py'))

    @pytest.mark.parametrize('name', ['my-script.py', '2nd.py', 'a.b.py',
                                      'script', 'script.txt'])
    def test_names_that_cannot_be_imported(self, write, name):
        write(name, JOBS)
        error = str(fails('./' + name))
        assert name in error and error.endswith('; rename it')

    # Imported already; only on disk; built in; ourselves.
    @pytest.mark.parametrize('name', [
        'os', 'platform', 'antigravity', 'unicodedata', 'sys', 'errno',
        'taskmaster', '__main__'])
    def test_names_that_hide_another(self, write, name):
        write(f'{name}.py', JOBS)
        before = sys.modules.get(name)
        error = str(fails(f'{name}.py'))
        assert f'hide the module {name} ' in error
        assert error.endswith('; rename it')
        assert sys.modules.get(name) is before

    def test_two_files_of_one_name(self, write):
        write('one/tm_twin.py', JOBS)
        write('two/tm_twin.py', JOBS)
        targets.load('one/tm_twin.py', 'get_jobs')
        assert 'rename it' in str(fails('two/tm_twin.py'))

    def test_link_of_another_suffix(self, write, folder):
        write('tm_text.txt', JOBS)
        (folder / 'tm_text.py').symlink_to('tm_text.txt')
        assert 'is not a .py file' in str(fails('tm_text.py'))


class TestParseArguments:
    def test_pairs(self):
        assert naming.parse_arguments([]) == {}
        assert naming.parse_arguments(
            ['shard=3', 'where=a=b', 'empty=', '_x2= y ']) == {
                'shard': '3', 'where': 'a=b', 'empty': '', '_x2': ' y '}

    @pytest.mark.parametrize('text', [
        'shard', '', '=', '=3', '2x=3', 'a-b=3', 'a b=3', ' a=3', 'a\n=1'])
    def test_not_a_pair(self, text):
        error = refused(UsageError, naming.parse_arguments, ['a=1', text])
        assert repr(text) in str(error)

    def test_repeated(self):
        error = refused(UsageError, naming.parse_arguments,
                        ['a=1', 'b=2', 'a=1'])
        assert "'a' is given twice" in str(error)

    def test_last(self):
        error = refused(UsageError, naming.parse_arguments, ['last=1'])
        assert "'last'" in str(error)


def get_jobs(shard, shards='1', *, last=0):
    """The usual shape."""


def unfit(function, **arguments):
    return str(refused(UsageError, signature.check_arguments, function,
                       arguments))


class TestCheckArguments:
    def test_fits(self):
        signature.check_arguments(get_jobs, {'shard': '3'})
        signature.check_arguments(get_jobs, {'shard': '3', 'shards': '8'})
        signature.check_arguments(lambda: None, {})

    def test_unknown(self):
        assert unfit(get_jobs, shrad='3') == (
            "get_jobs takes no argument 'shrad'; it takes: shard, shards")

    def test_takes_none(self):
        def jobs(last=0):
            pass
        assert unfit(jobs, a='1') == (
            "jobs takes no argument 'a'; it takes: none")

    def test_missing(self):
        assert unfit(get_jobs, shards='8') == (
            "get_jobs needs the argument 'shard'; it takes: shard, shards")

    def test_missing_keyword_only(self):
        def jobs(*, table):
            pass
        assert "needs the argument 'table'" in unfit(jobs)

    def test_last_is_not_missing(self):
        def jobs(last):
            pass
        signature.check_arguments(jobs, {})

    def test_anything(self):
        def jobs(table, *rest, **options):
            pass
        signature.check_arguments(jobs, {'table': 'x', 'other': '1'})
        assert "needs the argument 'table'" in unfit(jobs, rest='1')

    def test_names_of_stars_are_no_arguments(self):
        def jobs(*rest):
            pass
        assert "no argument 'rest'" in unfit(jobs, rest='1')

    def test_positional_only(self):
        def jobs(a=1, /):
            pass

        def needs(a, /):
            pass
        signature.check_arguments(jobs, {})
        assert "takes no argument 'a'" in unfit(jobs, a='1')
        assert "needs 'a', which is positional-only" in unfit(needs)

    def test_decorated(self):
        @functools.wraps(get_jobs)
        def wrapper(*args, **kwargs):
            pass
        assert "get_jobs takes no argument 'x'" in unfit(wrapper, x='')

    def test_object(self):
        class Jobs:
            def __call__(self, a):
                pass
        assert "Jobs needs the argument 'a'" in unfit(Jobs())

    def test_no_signature(self):
        signature.check_arguments(min, {'anything': '1'})


class TestSignatures:
    @pytest.mark.parametrize('function, answer', [
        (lambda last: 0, True), (lambda *, last=0: 0, True),
        (lambda **options: 0, True), (lambda last, /: 0, False),
        (lambda *last: 0, False), (lambda first: 0, False), (min, True)])
    def test_takes(self, function, answer):
        assert signature.takes(function, 'last') is answer

    @pytest.mark.parametrize('function, count', [
        (lambda: 0, 0), (lambda job: 0, 1), (lambda job, db: 0, 2),
        (lambda job, /, db: 0, 2), (lambda job, db=None: 0, 1),
        (lambda job, *more: 0, 1), (lambda job, *, db: 0, 1),
        (lambda **options: 0, 0), (min, 0), ([].append, 1)])
    def test_required_positionals(self, function, count):
        assert signature.required_positionals(function) == count


class TestNames:
    @pytest.mark.parametrize('args, run', [
        (('migrate', 'get_jobs', {}), 'migrate'),
        (('pkg.migrate', 'rows', {}), 'pkg.migrate:rows'),
        (('migrate', 'rows', {}, 'rows'), 'migrate'),
        (('migrate', 'get_jobs', {'shards': '8', 'shard': '3'}),
         'migrate shard=3 shards=8'),
        (('migrate', 'rows', {'a': "it's", 'b': '', 'c': 'x y:z'}),
         """migrate:rows a='it'"'"'s' b='' c='x y:z'"""),
    ])
    def test_run(self, args, run):
        assert naming.run_name(*args) == run
        assert naming.module_of(run) == args[0]

    def test_state(self):
        state = naming.state_file
        assert state('migrate', 'get_jobs', {}) == 'migrate.state'
        assert state('migrate', 'rows', {}) == 'migrate-rows.state'
        assert state('migrate', 'rows', {}, 'rows') == 'migrate.state'
        assert state('a.b', 'get_jobs', {}) == 'a.b.state'

    def test_state_of_arguments(self):
        # Written out: another digest would leave every saved state behind.
        assert naming.state_file(
            'migrate', 'get_jobs', {'shards': '8', 'shard': '3'}
        ) == 'migrate-938b3291.state'
        assert naming.state_file(
            'migrate', 'rows', {'shard': '3', 'shards': '8'}
        ) == 'migrate-rows-938b3291.state'

    def test_state_differs(self):
        sets = [{'a': '1', 'b': '2'}, {'a': '1'}, {'a': '1,b=2'},
                {'a': ''}, {'a': '/é\udcff'}, {}]
        files = {naming.state_file('m', 'get_jobs', s) for s in sets}
        assert len(files) == len(sets)
        assert not any('/' in name for name in files)


def reason(function):
    return str(refused(UsageError, targets.of_function, function))


class Handler:
    def __call__(self, job):
        pass

    def method(self, job):
        pass

    @staticmethod
    def static(job):
        pass


nameless = lambda job: None  # noqa: E731


@functools.wraps(get_jobs)
def disguised(job):
    """Says that it is get_jobs, and is not."""


class TestCallableTarget:
    def test_function(self):
        text = targets.of_function(get_jobs).text
        assert text == f'{__name__}:get_jobs'
        assert targets.load(text, 'x').callable() is get_jobs

    def test_others_that_have_a_name(self):
        assert targets.of_function(len).text == 'builtins:len'
        assert targets.of_function(Handler).text == f'{__name__}:Handler'

    def test_in_a_file(self, write):
        write('sub/tm_called.py', JOBS)
        function = targets.load('sub/tm_called.py', 'get_jobs').callable()
        assert targets.of_function(function).text == 'tm_called:get_jobs'

    def test_not_importable(self):
        def nested(job):
            pass
        assert 'a lambda has no name' in reason(nameless)
        assert 'a lambda has no name' in reason(lambda job: None)
        assert 'nested is defined inside a function' in reason(nested)
        assert 'method is a bound method' in reason(Handler().method)
        assert 'inside a class' in reason(Handler.static)
        assert 'of class Handler is not a function' in reason(Handler())
        assert 'of class partial' in reason(functools.partial(get_jobs))
        assert 'of class builtin_function' in reason([].append)
        assert 'of class int' in reason(3)
        assert 'not what importing' in reason(disguised)

    def test_module_is_gone(self, write):
        write('tm_gone.py', JOBS)
        function = targets.load('tm_gone.py', 'get_jobs').callable()
        function.__module__ = 'tm_absent'
        assert 'tm_absent:get_jobs' in reason(function)

    def test_main(self):
        assert 'the script that runs (__main__)' in python('''
            from taskmaster import errors
            from taskmaster.usercode import naming, signature, source, targets
            def handle_job(job):
                pass
            try:
                targets.of_function(handle_job)
            except errors.UsageError as error:
                print(error)
        ''')
