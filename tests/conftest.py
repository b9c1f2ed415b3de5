"""What the tests of the queue, the wire and the slave share."""

import contextlib
import gc
import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import maria
import postgres
import pytest
from certificates import CERTIFY
from fakes import KEY, Direct
from hypothesis import settings

from taskmaster.master.session import Session
from taskmaster.timing import STANDARD
from taskmaster.wire.client import connect as connect_to
from taskmaster.wire.listener import UnixListener
from taskmaster.wire.server import Manager
from taskmaster.wire.unix import Name

# The same examples each time: what a hunt found becomes an example test.
settings.register_profile('suite', derandomize=True, deadline=None)
settings.load_profile('suite')

# What there is one of: whoever uses the fixture runs in the same process as
# the others who do, one after another.
SERVERS = {
    'postgres_server': 'PostgreSQL',
    'mariadb_server': 'MariaDB',
}
SINGLE = {
    **SERVERS,
    'certificates': 'certificates',
    'default_port': 'port 3050',
}


# Thousands of tests and all that they import stay to the end: no collection
# of garbage has to look through them, now or later.
gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session):
    """Compile the test files once, not in each process that runs tests.

    Each begins to load them at another place, and finds compiled what was
    another's.  What cannot be loaded is reported when it is collected.
    """
    config = session.config
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if not whole or not hasattr(config, 'workerinput'):
        return
    number = int(config.workerinput['workerid'].lstrip('gw'))
    paths = [path for path in sorted(Path(__file__).parent.glob('*/test_*.py'))
             if not pytest_ignore_collect(path, config)]
    first = len(paths) * number // config.workerinput['workercount']
    for path in paths[first:] + paths[:first]:
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(path.stem)


def pytest_ignore_collect(collection_path, config):
    """Load no file where no test of it would run, when `smoke` is asked for.

    Those of a file that is a hunt are not, unless the file says so.
    """
    if ('smoke' not in config.option.markexpr
            or not collection_path.match('test_*.py')):
        return None
    text = collection_path.read_text()
    seldom = ('\npytestmark = pytest.mark.hunt\n' in text
              or config.option.markexpr == 'smoke'
              and 'process' in collection_path.parts)
    return True if seldom and 'mark.smoke' not in text else None


def pytest_collection_modifyitems(items):
    """Group what shares something.

    `smoke` is all but the long hunts, what needs a database server, and
    most of the process tests.
    """
    for item in items:
        groups = [SINGLE[name] for name in item.fixturenames
                  if name in SINGLE]
        if groups:
            item.add_marker(pytest.mark.xdist_group(groups[0]))
        if not ('process' in item.path.parts
                or SERVERS.keys() & set(item.fixturenames)
                or item.get_closest_marker('hunt')):
            item.add_marker('smoke')


@pytest.fixture
def serve():
    """``serve(queue, ..., handshake=...)``: its server, on a free port."""
    servers = []

    def start(queue, key=KEY, host='127.0.0.1', path=None, tls=None,
              **times):
        server = Manager((host, 0), key).get_server()
        servers.append(server)
        if path is not None:
            server.local = UnixListener(Name(str(path)))
        server.start(lambda: Session(queue), tls,
                     timing=STANDARD._replace(**times))
        return server
    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope='session')
def contexts(tmp_path_factory):
    """What a master and its slaves need to speak TLS: serving, trusting."""
    if shutil.which('openssl') is None:
        pytest.skip('no openssl to make certificates')
    from taskmaster.wire import tls
    folder = tmp_path_factory.mktemp('tls')
    subprocess.run(CERTIFY.split(), cwd=folder, check=True,
                   capture_output=True)
    return SimpleNamespace(
        serving=tls.serving(f'{folder}/tls.crt', f'{folder}/tls.key'),
        trusting=tls.trusting(f'{folder}/tls.crt'), folder=folder)


@pytest.fixture
def connect():
    """``connect(server)`` gives a link, closed when the test is over."""
    links = []

    def open(server, key=KEY):
        links.append(connect_to(server.address, key))
        return links[-1]
    yield open
    for link in links:
        link.close()


@pytest.fixture(params=['session', 'manager'])
def doors(request):
    """``doors(queue)()`` opens one more way to call the queue's methods.

    Once it is a session itself, once a link through a real manager.
    """
    opened = []

    def through(queue):
        if request.param == 'session':
            def open():
                opened.append(Direct(queue))
                return opened[-1]
        else:
            server = request.getfixturevalue('serve')(queue)
            link = request.getfixturevalue('connect')

            def open():
                return link(server)
        return open
    yield through
    for door in opened:
        door.close()


@pytest.fixture(scope='session')
def postgres_server():
    """A PostgreSQL of our own; skips where none is installed."""
    pytest.importorskip('psycopg')
    if postgres.find() is None:
        pytest.skip('PostgreSQL is not installed: no initdb in '
                    f'{", ".join(postgres.PLACES)} or on PATH')
    server = postgres.Server()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def database(postgres_server):
    """How to connect to a database with nothing in it."""
    return postgres_server.emptied()


@pytest.fixture
def pg(database):
    """A connection to it, in autocommit mode."""
    import psycopg
    with psycopg.connect(database, autocommit=True) as pg:
        yield pg


@pytest.fixture(scope='session')
def mariadb_server():
    """A MariaDB of our own; skips where none is installed."""
    if maria.find('mariadbd', 'mysqld') is None:
        pytest.skip('MariaDB is not installed: no mariadbd on PATH or in '
                    '/usr/sbin')
    server = maria.Server()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def mariadb(mariadb_server):
    """How to connect to a new, empty database: keyword arguments."""
    return mariadb_server.create()
