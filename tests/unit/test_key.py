"""The address and the key."""

import hashlib
import os
import subprocess
import sys

import pytest

from taskmaster import address as addresses
from taskmaster.errors import ConfigError, UsageError
from taskmaster.wire import key as keys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
not_as_root = pytest.mark.skipif(
    os.geteuid() == 0, reason='root may do what it likes to files')


# -- the address ----------------------------------------------------------

@pytest.mark.parametrize('text, place', [
    (None, ('127.0.0.1', 3050)),
    ('', ('127.0.0.1', 3050)),
    ('host', ('host', 3050)),
    ('host:80', ('host', 80)),
    ('host:', ('host', 3050)),
    (':80', ('127.0.0.1', 80)),
    ('host:0', ('host', 0)),
    ('host:65535', ('host', 65535)),
    ('0.0.0.0:3050', ('0.0.0.0', 3050)),
    ('master.internal', ('master.internal', 3050)),
    ('[::1]', ('::1', 3050)),
    ('[::1]:80', ('::1', 80)),
    ('[::1]:', ('::1', 3050)),
    ('::1', ('::1', 3050)),
    ('::', ('::', 3050)),
    ('fe80::1', ('fe80::1', 3050)),
    ('[10.0.0.1]:80', ('10.0.0.1', 80)),
])
def test_an_address(text, place):
    assert addresses.address(text) == place


@pytest.mark.parametrize('text', [
    'host:port', 'host:-1', 'host:65536', 'host:1.5', 'host: 80',
    'host:80 ', 'host:1_000', '[::1', '[::1]80', '[::1]x:80', '[::1]:x',
    'host:99999999999999999999', 'host:\u00b2'])
def test_what_is_no_address(text):
    with pytest.raises(UsageError, match='HOST:PORT') as info:
        addresses.address(text)
    assert repr(text) in str(info.value)


@pytest.mark.parametrize('host, loopback', [
    ('127.0.0.1', True), ('127.9.9.9', True), ('localhost', True),
    ('::1', True), ('0.0.0.0', False), ('::', False), ('host', False),
    ('10.127.0.1', False), ('127.example.org', False),
    ('127.0.0.example', False), ('127.0.0.1.example.org', False)])
def test_a_loopback_address(host, loopback):
    assert addresses.is_loopback(host) == loopback


# -- where the key comes from ---------------------------------------------

@pytest.fixture
def home(tmp_path):
    return {'XDG_CONFIG_HOME': str(tmp_path / 'config')}


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / 'a-key'
    path.write_bytes(b' from a file\n')
    path.chmod(0o600)
    return str(path)


def test_a_given_key_comes_first(key_file, home):
    assert keys.key('given', key_file, home) == b'given'
    assert keys.key(None, key_file, home) == b'from a file'
    assert not os.path.exists(home['XDG_CONFIG_HOME'])


def test_white_space_around_a_key_does_not_count(home):
    """A secret that is made of a file ends with a newline."""
    assert keys.key(' sesame\n', None, home) == b'sesame'


def test_the_users_own_key_comes_last(home):
    key = keys.key(None, None, home)
    assert len(key) >= 32 and key == keys.key(None, None, home)
    path = os.path.join(home['XDG_CONFIG_HOME'], 'taskmaster', 'key')
    with open(path, 'rb') as file:
        assert file.read() == key + b'\n'


def test_where_the_users_key_is(monkeypatch):
    monkeypatch.setenv('HOME', '/home/someone')
    for environ in {}, {'XDG_CONFIG_HOME': ''}:
        assert keys.users_file(environ) == (
            '/home/someone/.config/taskmaster/key')


@pytest.mark.parametrize('base', ['config', './config', '~/config', '..'])
def test_a_relative_config_home_is_ignored(base, monkeypatch):
    monkeypatch.setenv('HOME', '/home/someone')
    assert keys.users_file({'XDG_CONFIG_HOME': base}) == (
        '/home/someone/.config/taskmaster/key')


def test_a_user_without_a_home(monkeypatch):
    """Then `expanduser` leaves a ~, of which no folder is to be made."""
    monkeypatch.setattr(os.path, 'expanduser', lambda path: path)
    with pytest.raises(ConfigError, match='--key-file'):
        keys.users_file({})


@pytest.mark.parametrize('given', ['', ' '])
def test_an_empty_key_is_no_key(given, home):
    with pytest.raises(UsageError, match='empty'):
        keys.key(given, None, home)


@pytest.mark.parametrize('content', [b'', b'\n', b'  \n\t'])
def test_an_empty_key_file_is_no_key(content, tmp_path, home):
    path = tmp_path / 'key'
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises((UsageError, ConfigError), match='empty') as info:
        keys.key(None, str(path), home)
    assert str(path) in str(info.value)


def test_a_key_need_be_no_text(home):
    assert keys.key(os.fsdecode(b'\xff\xfe\x01'), None,
                    home) == b'\xff\xfe\x01'
    assert keys.key('\udcff\u20ac', None, home) == b'\xff\xe2\x82\xac'


@pytest.mark.parametrize('key', ['a\0b', '\0'])
def test_a_key_with_a_nul_is_refused_in_one_line(key, key_file, home):
    with pytest.raises(UsageError, match='NUL') as info:
        keys.key(key, None, home)
    with open(key_file, 'wb') as file:
        file.write(key.encode())
    with pytest.raises(ConfigError, match='NUL') as info:
        keys.key(None, key_file, home)
    assert '\n' not in str(info.value) and '\0' not in str(info.value)


# -- a key that can be guessed --------------------------------------------

TOKEN = 'aB3' * 14 + 'x'


@pytest.mark.parametrize('key, weak', [
    ('foo', True), ('correct horse battery staple' * 3, True),
    ('0123456789abcdef' * 4, False), ('0123456789ABCDEF' * 4, False),
    ('0123456789abcdef' * 4 + 'a', False), ('0123456789abcdef' * 3, True),
    ('0123456789abcde' * 4, True), ('g' + '0123456789abcdef' * 4, True),
    (TOKEN, False), (TOKEN[1:], True), (TOKEN + '-_', False),
    (TOKEN + '+', True), (TOKEN.lower(), True), (TOKEN.upper(), True),
    ('aBc' * 20, True), ('é' * 64, True), (TOKEN + '\n', True)])
def test_which_keys_can_be_guessed(key, weak):
    key = key.encode()
    assert keys.can_be_guessed(key) is weak
    stretched = keys.stretched(key)
    assert (stretched == key) is not weak
    assert keys.stretched(stretched) == stretched


def test_what_a_key_is_stretched_to():
    """Both sides must come to it, of whatever version they are."""
    made = hashlib.scrypt(b'foo', salt=b'taskmaster 2', n=16384, r=8, p=1,
                          dklen=32)
    assert keys.stretched(b'foo') == b'scrypt:' + made.hex().encode()
    # What is marked, but not as we do, is a key that somebody typed.
    for other in b'scrypt:', b'scrypt:' + b'0' * 63, b'scrypt:' + b'G' * 64:
        assert keys.can_be_guessed(other)


def test_the_users_own_key_need_not_be_stretched(home):
    """None of them: a form that fits all but one in 1,000 is a warning."""
    assert not keys.can_be_guessed(keys.key(None, None, home))
    assert not any(keys.can_be_guessed(keys.new_key())
                   for _ in range(20_000))


@pytest.mark.parametrize('missing', [True, False])
def test_without_scrypt_it_is_never_used_as_it_is(monkeypatch, missing):
    """As where OpenSSL is FIPS's."""
    if missing:
        monkeypatch.delattr(hashlib, 'scrypt')
    else:
        monkeypatch.setattr(keys, 'COST', {'n': 3, 'r': 8, 'p': 1})
    with pytest.raises(ConfigError, match='openssl rand -hex 32') as info:
        keys.stretched(b'foo')
    assert info.value.exit_code == 78
    assert keys.stretched(TOKEN.encode()) == TOKEN.encode()


# -- files ----------------------------------------------------------------

@pytest.mark.parametrize('mode', [0o640, 0o604, 0o660, 0o644, 0o620, 0o601])
def test_a_file_that_others_may_use_is_refused(mode, key_file):
    os.chmod(key_file, mode)
    with pytest.raises(ConfigError, match='chmod 600') as info:
        keys.key(None, key_file, {})
    assert key_file in str(info.value) and info.value.exit_code == 78


@pytest.mark.parametrize('mode', [0o600, 0o400])
def test_a_file_of_ones_own_is_read(mode, key_file):
    os.chmod(key_file, mode)
    assert keys.key(None, key_file, {}) == b'from a file'


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match='No such file'):
        keys.key(None, str(tmp_path / 'none'), {})


def test_a_folder_is_no_key_file(tmp_path):
    with pytest.raises(ConfigError, match='directory'):
        keys.key(None, str(tmp_path), {})


@not_as_root
def test_a_file_that_cannot_be_read(key_file):
    os.chmod(key_file, 0)
    with pytest.raises(ConfigError, match='Permission'):
        keys.key(None, key_file, {})


def test_a_large_file_is_no_key_file(tmp_path):
    path = tmp_path / 'disk-image'
    path.write_bytes(b'x' * 5000)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match='too large'):
        keys.key(None, str(path), {})


def test_a_key_may_come_through_a_pipe():
    """As the shell's --key-file=<(pass show taskmaster) gives one."""
    reader, writer = os.pipe()
    os.write(writer, b'piped\n')
    os.close(writer)
    try:
        assert keys.key(None, f'/dev/fd/{reader}', {}) == b'piped'
    finally:
        os.close(reader)


# -- the user's own key ---------------------------------------------------

def test_the_users_key_is_for_the_user_alone(tmp_path):
    path = tmp_path / 'config' / 'taskmaster' / 'key'
    before = os.umask(0)
    try:
        keys.users_key(str(path))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert [file.name for file in path.parent.iterdir()] == ['key']


def test_keys_differ(tmp_path):
    assert len({keys.users_key(str(tmp_path / str(n) / 'key'))
                for n in range(5)}) == 5


def test_an_empty_file_of_a_user_is_not_overwritten(tmp_path):
    path = tmp_path / 'key'
    path.touch(0o600)
    with pytest.raises((UsageError, ConfigError), match='empty'):
        keys.users_key(str(path))
    assert path.read_bytes() == b''


def test_a_link_that_leads_nowhere_is_left_alone(tmp_path):
    path = tmp_path / 'key'
    path.symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(ConfigError, match='No such file'):
        keys.users_key(str(path))
    assert path.is_symlink() and not (tmp_path / 'elsewhere').exists()


def test_who_comes_second_takes_what_is_there(tmp_path, monkeypatch):
    """It saw no file, and when it was ready there was one."""
    path = str(tmp_path / 'key')
    first = keys.users_key(path)
    monkeypatch.setattr(keys.os.path, 'lexists', lambda path: False)
    assert keys.users_key(path) == first
    assert os.listdir(tmp_path) == ['key']


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / 'config').write_text('a file, where a folder is to be')
    with pytest.raises(ConfigError, match='cannot make.*--key'):
        keys.users_key(str(tmp_path / 'config' / 'taskmaster' / 'key'))


RACE = '''
import sys
sys.path.insert(0, sys.argv[1])
from taskmaster.wire import key as keys
print('ready', flush=True)
sys.stdin.read()
print(keys.users_key(sys.argv[2]).decode())
'''


def test_racing_processes_make_one_key(tmp_path):
    path = tmp_path / 'config' / 'taskmaster' / 'key'
    racers = [subprocess.Popen([sys.executable, '-c', RACE, ROOT, str(path)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               encoding='utf-8') for _ in range(6)]
    try:
        for racer in racers:
            assert racer.stdout.readline() == 'ready\n'
        for racer in racers:
            racer.stdin.close()             # off they go
        keys = [racer.stdout.read() for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
            racer.stdin.close()
            racer.stdout.close()
    assert len(set(keys)) == 1 and len(keys[0]) > 32
    assert [file.name for file in path.parent.iterdir()] == ['key']
