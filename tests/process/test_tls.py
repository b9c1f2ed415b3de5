"""TLS: certificates that are trusted, and those that are not."""

import shutil
import subprocess

import pytest
from programs import NUMBERS

pytestmark = pytest.mark.skipif(
    shutil.which('openssl') is None, reason='no openssl to make certificates')

MAKE = ('openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {0}.key '
        '-out {0}.crt -subj /CN={0} -addext subjectAltName={1}')
EXPIRE = ('openssl x509 -in master.crt -signkey master.key -days -1 '
          '-out expired.crt')


@pytest.fixture(scope='module')
def certificates(tmp_path_factory):
    """master: for 127.0.0.1; elsewhere: for another; expired."""
    folder = tmp_path_factory.mktemp('certificates')
    for command in (MAKE.format('master', 'IP:127.0.0.1'),
                    MAKE.format('elsewhere', 'DNS:db1,IP:10.0.0.5'), EXPIRE):
        subprocess.run(command.split(), cwd=folder, check=True,
                       capture_output=True)
    return folder


@pytest.fixture
def tls(work, certificates):
    """``tls(name)``: the flags of a master with that certificate."""
    work.write('migrate.py', NUMBERS)

    def flags(name='master', key=None):
        return [f'--tls-cert={certificates}/{name}.crt',
                f'--tls-key={certificates}/{key or name}.key']
    flags.ca = f'--tls-ca={certificates}/master.crt'
    return flags


@pytest.mark.smoke
def test_a_run_over_tls(work, tls):
    master = work.start('master', 'migrate', *tls())
    spawn = work.start('spawn', 'migrate', '2', tls.ca, master.host)
    assert (master.code(), spawn.code()) == (0, 0)
    work.check(range(1, 1001))


def test_tm_run_over_tls_with_jobs_of_a_megabyte(work, tls):
    work.write('migrate.py', '''
        from recorder import record

        def get_jobs():
            for number in range(1, 21):
                yield number, bytes([number]) * 1_000_000

        def get_key(job):
            return job[0]

        def handle_job(job):
            number, data = job
            assert data == bytes([number]) * 1_000_000
            record(number)
        ''')
    run = work.finish('run', 'migrate', '2', *tls(), tls.ca)
    assert run.code() == 0, run.err
    work.check(range(1, 21))


@pytest.mark.parametrize('name, key, trusted, says, remedy', [
    ('elsewhere', None, 'master', 'self-signed', 'that signed it'),
    ('expired', 'master', 'expired', 'expired', 'renew it'),
])
def test_a_certificate_that_is_not_trusted(work, tls, certificates, name,
                                           key, trusted, says, remedy):
    master = work.start('master', 'migrate', *tls(name, key))
    slave = work.finish('slave', 'migrate', master.host, '--timeout=0.5',
                        f'--tls-ca={certificates}/{trusted}.crt')
    assert slave.code() == 77
    line = slave.err.splitlines()[-1]
    assert says in line and remedy in line and master.host[7:] in line
    assert 'ALERT' in master.says('^warning: .*no TLS.*')[0]
    assert work.lines('done') == []


def test_a_certificate_of_another_name(work, tls, certificates):
    master = work.start('master', 'migrate', *tls('elsewhere'))
    slave = work.finish('slave', 'migrate', master.host, '--timeout=0.5',
                        f'--tls-ca={certificates}/elsewhere.crt')
    assert slave.code() == 77
    line = slave.err.splitlines()[-1]
    assert 'not valid for' in line and 'subjectAltName' in line


def test_a_plain_slave_at_a_master_that_speaks_tls(work, tls):
    master = work.start('master', 'migrate', *tls())
    slave = work.finish('slave', 'migrate', master.host)
    assert slave.code() == 78
    line, = slave.err.splitlines()
    assert 'wants TLS; give --tls-ca' in line
    master.says('^warning: .*no TLS')


def test_a_slave_that_speaks_tls_at_a_plain_master(work, tls):
    master = work.start('master', 'migrate')
    slave = work.finish('slave', 'migrate', tls.ca, '--timeout=0.3',
                        master.host)
    assert slave.code() == 69
    assert 'no TLS with' in slave.err.splitlines()[-1]
    assert '--tls-cert' in slave.err.splitlines()[-1]


def test_a_wrong_key_over_tls(work, tls):
    master = work.start('master', 'migrate', *tls(), '--key=' + 'a' * 20)
    slave = work.finish('slave', 'migrate', tls.ca, master.host,
                        '--key=' + 'b' * 20)
    assert slave.code() == 77 and '--key' in slave.err


@pytest.mark.parametrize('flags, code, says', [
    (['--tls-key=x.key'], 2, '--tls-cert too'),
    (['--tls-cert=none.crt'], 78, 'none.crt'),
    (['--tls-cert=migrate.py'], 78, 'PEM'),
])
def test_files_that_are_no_certificates(work, tls, flags, code, says):
    master = work.finish('master', 'migrate', *flags)
    assert master.code() == code
    line, = master.err.splitlines()
    assert says in line


def test_the_key_to_another_certificate(work, tls):
    master = work.finish('master', 'migrate', *tls('master', 'elsewhere'))
    assert master.code() == 78 and 'MISMATCH' in master.err


def test_a_key_with_a_password_does_not_ask_for_it(work, tls, certificates):
    subprocess.run(f'openssl rsa -aes256 -passout pass:secret -in master.key '
                   f'-out {work.path}/locked.key'.split(), cwd=certificates,
                   check=True, capture_output=True)
    master = work.finish('master', 'migrate', '--tls-key=locked.key',
                         f'--tls-cert={certificates}/master.crt')
    assert master.code() == 78
    assert 'without a password' in master.err


def test_no_authority(work, tls):
    slave = work.finish('slave', 'migrate', '--tls-ca=none.pem')
    assert slave.code() == 78 and 'none.pem' in slave.err
    run = work.finish('run', 'migrate', '2', *tls())
    assert run.code() == 2 and '--tls-ca' in run.err


# -- a port that others can reach -----------------------------------------

@pytest.mark.parametrize('host, key, with_tls, warned', [
    ('0.0.0.0:0', 'foo', False, ['guessed', 'in clear.*ssh -N -L']),
    ('0.0.0.0:0', 'a1' * 32, False,
     ['in clear.*-o ExitOnForwardFailure=yes']),
    ('0.0.0.0:0', 'foo', True, ['guessed']),
    ('0.0.0.0:0', 'a1' * 32, True, []),
    ('127.0.0.1:0', 'foo', False, ['guessed']),
    ('localhost:0', 'a' * 43, False, ['guessed']),
    ('localhost:0', 'a1' * 32, False, []),
])
def test_what_is_open_to_others_is_warned_of(work, tls, host, key, with_tls,
                                             warned):
    master = work.start('master', 'migrate', 'count=0', f'--host={host}',
                        f'--key={key}', *(tls() if with_tls else []))
    assert master.code() == 0
    lines = [line for line in master.err.splitlines() if 'warning' in line]
    assert len(lines) == len(warned), lines
    for line, pattern in zip(lines, warned):
        assert line.startswith('warning: ')
        assert pattern.partition('.*')[0] in line
        assert pattern.partition('.*')[2] in line
        assert key not in line
