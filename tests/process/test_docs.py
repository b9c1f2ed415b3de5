"""The recipes of docs/, as they are printed, on hosts of their own."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from hosts import Network
from programs import PACKAGE, eventually

from taskmaster.iterators import keyset

pytestmark = pytest.mark.hunt

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / 'docs'
PAGE = (DOCS / 'many-machines.md').read_text()
BLOCK = re.compile(r'^```(\w+)\n(.*?)^```$', re.M | re.S)

# Each host has folders of its own behind the names in the recipes; none of
# these mounts is seen by the machine itself.
SET_UP = '''
cd "$0"
hostname "$1"
mount --bind "$1" /srv
mount --bind hosts /etc/hosts
mount --bind ssh_config /etc/ssh/ssh_config
mount -t tmpfs none /run && mkdir /run/sshd
cd /srv/migrate && shift
exec "$@"
'''

MIGRATE = '''
import os
import time


def get_jobs(last=0):
    while not os.path.exists('go'):
        time.sleep(0.01)
    yield from range(last + 1, 1001)


def handle_job(job):
    time.sleep(0.001)
    with open('done', 'a') as file:
        file.write(f'{job}\\n')
'''


def recipes(title, kind='sh'):
    """The blocks below a heading."""
    part = re.split(r'^#+ ', PAGE.partition(f'# {title}\n')[2], flags=re.M)[0]
    found = [text for name, text in BLOCK.findall(part) if name == kind]
    assert found, title
    return found


class Site:
    """db1, web1 and web2, with sshd on each and what db1 is to ship."""

    def __init__(self, work, network):
        self.work = work
        self.hosts = {name: network.host(name)
                      for name in ('db1', 'web1', 'web2')}
        path = work.path
        for name in self.hosts:
            (path / name / 'migrate').mkdir(parents=True)
        work.write('hosts', '127.0.0.1 localhost\n' + ''.join(
            f'{host.address} {name}\n' for name, host in self.hosts.items()))
        for name in 'key_of_host', 'key_of_user':
            subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '',
                            '-f', path / name], check=True)
        work.write('ssh_config', f'''
            IdentityFile {path}/key_of_user
            UserKnownHostsFile /dev/null
            StrictHostKeyChecking no
            LogLevel ERROR
        ''')
        # Which python3 it is, for them as for us.
        self.search = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
        work.write('sshd_config', f'''
            HostKey {path}/key_of_host
            AuthorizedKeysFile {path}/key_of_user.pub
            PermitRootLogin yes
            StrictModes no
            PidFile none
            SetEnv PATH={self.search}
        ''')
        work.write('db1/migrate/migrate.py', MIGRATE)
        work.write('db1/migrate/hosts', 'web1\nweb2\n')
        shutil.copytree(PACKAGE, path / 'db1/migrate/taskmaster',
                        ignore=shutil.ignore_patterns('__pycache__'))
        for name in self.hosts:
            self.run(shutil.which('sshd'), '-D', '-e', '-f',
                     str(path / 'sshd_config'), on=name).says('listening')

    def run(self, *command, on='db1'):
        host = self.hosts[on]
        return self.work.program(
            'ip', 'netns', 'exec', host.namespace, 'unshare', '--uts', 'sh',
            '-ec', SET_UP, str(self.work.path), on, *command,
            environ={'PYTHONPATH': '', 'PATH': self.search})

    def type(self, text, on='db1'):
        """What an operator types into a shell."""
        return self.run('bash', '-ec', text, on=on)

    def master(self, with_host=True):
        text, = recipes('The master')
        if not with_host:
            text = text.replace('--host=0.0.0.0 ', '')
        master = self.type(text)
        master.says('server running')
        return master

    def ship(self):
        shipped = self.type(recipes('Shipping the module')[0])
        assert shipped.code() == 0, shipped.err

    def slaves(self):
        status = self.type('python3 -m taskmaster ctl status --json '
                           '--key-file=key')
        assert status.code() == 0
        return {slave['name'].split(':')[0]
                for slave in json.loads(status.out)['slaves']}

    def finish(self, master):
        """Let the jobs go, and see that each host did some of them."""
        eventually(lambda: self.slaves() == {'web1', 'web2'}, 'slaves')
        self.work.touch('db1/migrate/go')
        assert master.code() == 0
        done = [self.work.lines(f'{name}/migrate/done')
                for name in ('web1', 'web2')]
        assert all(done)
        assert sorted(map(int, sum(done, []))) == list(range(1, 1001))


@pytest.fixture
def site(work):
    for name in 'sshd', 'ssh', 'ssh-keygen', 'rsync', 'unshare', 'bash':
        if shutil.which(name) is None:
            pytest.skip(f'no {name} here')
    try:
        network = Network()
    except OSError as error:
        pytest.skip(f'no network namespaces here ({error})')
    try:
        yield Site(work, network)
    finally:
        network.close()


def test_ssh(work, site):
    """They stay when ssh has returned; those of one host can be stopped."""
    master = site.master()
    site.ship()
    start, stop = recipes('ssh')
    assert site.type(start).code() == 0
    eventually(lambda: site.slaves() == {'web1', 'web2'})
    assert site.type(stop).code() == 0
    eventually(lambda: site.slaves() == {'web2'})
    assert site.type(start.replace('$(cat hosts)', 'web1')).code() == 0
    site.finish(master)


def test_parallel(work, site):
    if shutil.which('parallel') is None:
        pytest.skip('no parallel here')
    master = site.master()
    site.ship()
    parallel = site.type(recipes('GNU parallel')[0])
    site.finish(master)
    assert parallel.code() == 0
    said = parallel.out + parallel.err
    assert re.search('^web1\tconnected to the run migrate$', said, re.M)


def test_tunnels(work, site):
    """One opened by the slave's machine, one by the master's."""
    master = site.master(with_host=False)
    site.ship()
    theirs, ours = recipes('A tunnel')
    slaves = [site.type(theirs, on='web1'),
              site.type(ours.replace('$(cat hosts)', 'web2'))]
    site.finish(master)
    assert [program.code() for program in slaves] == [0, 0]
    assert '127.0.0.1:3050' in master.err


def test_the_unit(tmp_path):
    unit, = recipes('systemd', 'ini')
    path = tmp_path / 'migrate-slaves.service'
    path.write_text(unit)
    if shutil.which('systemd-analyze') is None:
        pytest.skip('no systemd-analyze here')
    done = subprocess.run(['systemd-analyze', 'verify', path],
                          capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, '')


def test_the_job_of_kubernetes(tmp_path):
    """Nothing of it is unknown to kubectl, which looks at the types."""
    text, = recipes('Kubernetes', 'yaml')
    path = tmp_path / 'slaves.yaml'
    path.write_text(text)
    if shutil.which('kubectl') is None:
        pytest.skip('no kubectl here')

    def read(*words):
        done = subprocess.run(
            ['kubectl', *words, '--local', '-f', path, '-o', 'json'],
            env={**os.environ, 'KUBECONFIG': '/dev/null'},
            capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    typed = read('set', 'image', 'slaves=migrate:2')
    plain = read('label', 'test=1')
    plain['spec']['template']['spec']['containers'][0]['image'] = 'migrate:2'
    assert missing(plain['spec'], typed['spec']) == []


def missing(part, whole, where='spec'):
    """What is in the one and not in the other."""
    if isinstance(part, dict):
        return [found for key, value in part.items()
                for found in missing(value, (whole or {}).get(key),
                                     f'{where}.{key}')]
    if isinstance(part, list):
        return [found for n, value in enumerate(part)
                for found in missing(value, (whole or {n: None})[n],
                                     f'{where}[{n}]')]
    return [] if part == whole else [where]


def test_the_script_of_slurm(work):
    """TERM reaches tm-spawn, which takes it for what it is."""
    text, = recipes('Slurm', 'bash')
    assert text.startswith('#!/bin/bash\n#SBATCH ')
    work.write('migrate.py', MIGRATE)
    work.write('slaves.sh', text.replace('/srv/migrate', '.').replace(
        '--host=db1', '--host=127.0.0.1:1'))
    (work.path / 'key').touch(0o600)
    (work.path / 'key').write_text('secret')
    job = work.program('bash', 'slaves.sh', environ={
        'SLURM_CPUS_PER_TASK': '1',
        'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'})
    job.says('no master there')
    job.send(signal.SIGTERM)
    assert job.code() == -signal.SIGTERM


def test_the_shards():
    """Of both kinds: together they are all, and each goes on."""
    ids = [*range(1, 50), *range(999_980, 1_000_020)]
    with closing(sqlite3.connect(':memory:')) as db:
        db.execute('CREATE TABLE users (id INTEGER PRIMARY KEY, name)')
        db.executemany('INSERT INTO users VALUES (?, ?)',
                       [(id, str(id)) for id in ids])
        codes = recipes('Sharding', 'python')
        assert len(codes) == 2
        for code in codes:
            # A new connection each time would have to be closed, too.
            names = {'keyset': keyset, 'sqlite3': SimpleNamespace(
                connect=lambda path, timeout: db)}
            exec(code, names)
            check_shards(names['get_jobs'], ids)


def check_shards(get_jobs, ids):
    assert [id for id, _ in get_jobs()] == ids
    parts = [[id for id, _ in get_jobs(shard=str(shard), shards='3')]
             for shard in range(3)]
    assert sorted(sum(parts, [])) == ids
    for shard, part in enumerate(parts):
        assert part == sorted(part)
        for n, last in enumerate(part):
            rest = get_jobs(last, str(shard), '3')
            assert [id for id, _ in rest] == part[n + 1:]


@pytest.mark.parametrize('path', sorted(DOCS.glob('*.md')), ids=os.path.
                         basename)
def test_what_else_is_on_the_page(path):
    """Shell that can be parsed, links that lead somewhere."""
    text = path.read_text()
    for kind, block in BLOCK.findall(text):
        if kind in ('sh', 'bash'):
            subprocess.run(['bash', '-n', '-c', block], check=True)
    for link in re.findall(r'\]\(([^)]+)\)', BLOCK.sub('', text)):
        if not link.startswith('http'):
            name, _, anchor = link.partition('#')
            target = path.parent / name if name else path
            assert target.exists(), link
            titles = re.findall(r'^#+ (.*)$', target.read_text(), re.M)
            assert not anchor or anchor in [
                re.sub('[^a-z0-9-]', '', title.lower().replace(' ', '-'))
                for title in titles], link
