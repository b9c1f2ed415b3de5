"""Lines and rows of files, against what Python itself makes of them."""

import csv
import gzip
import io
import itertools
import os
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskmaster.errors import OperatorError
from taskmaster.iterators import csv_rows, lines, textfile
from taskmaster.storage.codec import decode, encode_key

# Of several units of any encoding; the least one is a line at a time.
BLOCKS = 4, 1 << 18

TEXTS = {
    'plain': 'id,name\n1,Ann\n2,Bob\n3,Cy\n',
    'no newline at the end': 'id,name\n1,Ann\n2,Bob\n3,Cy',
    'CRLF': 'id,name\r\n1,Ann\r\n2,Bob\r\n3,Cy\r\n',
    'CRLF, no newline at the end': 'id,name\r\n1,Ann\r\n2,Bob',
    'quoted newlines':
        'id,name\n1,"A\nn\n\nn"\n2,"B\r\nob"\n3,"C,""y"""\n4,"\n"\n',
    'empty lines': 'id,name\n\n1,Ann\n\n\n2,Bob\n\n',
    'a quoted newline in the header': '"i\nd",name\n1,Ann\n2,Bob\n',
    'too few, too many': 'id,name\n1\n2,Bob,x,y\n3,Cy\n',
    'many alphabets': 'ид,имя\n1,Åsa\n2,"日\n本"\n3,🙂 Ċ Ā\n',
    'line ends of others': 'id,name\n1,a\x0bb\n2,c\u2028d\x85\n3,\x1c\n',
    'one column': 'id\n1\n\n2\n',
    'header alone': 'id,name\n',
    'empty': '',
}
ENCODINGS = ('utf-8-sig', 'utf-8', 'utf-16', 'utf-16-be', 'utf-16-le',
             'utf-32', 'gb18030')


@pytest.fixture(params=['a.csv', 'a.csv.gz'])
def path(request, tmp_path):
    return tmp_path / request.param


def write(path, data, mode='wb'):
    opened = gzip.open if path.suffix == '.gz' else open
    with opened(path, mode) as file:
        file.write(data)


def read(path):
    opened = gzip.open if path.suffix == '.gz' else open
    with opened(path, 'rb') as file:
        return file.read()


def dict_rows(data, encoding, **options):
    return list(csv.DictReader(
        io.StringIO(data.decode(encoding), newline=''), **options))


def plain_lines(data, encoding):
    found = data.decode(encoding).split('\n')
    return [line[:-1] if line.endswith('\r') else line
            for line in found[:-1]] + [line for line in found[-1:] if line]


def check(walk, expected):
    """The whole of it, and gone on with after each job."""
    jobs = list(itertools.islice(walk(None), len(expected) + 1))
    assert [job[1] for job in jobs] == expected
    assert len({id(job.mark) for job in jobs}) <= 1
    keys = [job.pk for job in jobs]
    assert keys == sorted(set(keys))
    assert all(decode(encode_key(key)) == key for key in keys)
    assert pickle.loads(pickle.dumps(jobs)) == jobs
    for at, key in enumerate(keys, 1):
        assert list(walk(key)) == jobs[at:]
    return jobs


@pytest.mark.parametrize('text', TEXTS.values(), ids=TEXTS)
def test_every_line_and_row_once_and_from_each_on(path, text, monkeypatch):
    for encoding, block in itertools.product(ENCODINGS, BLOCKS):
        monkeypatch.setattr(textfile, 'BLOCK', block)
        data = text.encode(encoding)
        write(path, data)
        jobs = check(lambda last: lines(path, last, encoding=encoding),
                     plain_lines(data, encoding))
        assert not jobs or jobs[-1].offset == len(data)
        check(lambda last: csv_rows(path, last, encoding=encoding),
              dict_rows(data, encoding))


def test_utf8_is_the_default_with_a_mark_or_without(tmp_path):
    for mark in b'', b'\xef\xbb\xbf':
        path = tmp_path / 'a.csv'
        path.write_bytes(mark + b'id\n\xc3\xa4\n')
        assert [job.row for job in csv_rows(path)] == [{'id': 'ä'}]
        assert [job.offset for job in lines(path)] == [
            len(mark) + 3, len(mark) + 6]


FIELD = st.text('a,;"\'\n\r ä🙂', max_size=5)


@given(st.lists(st.lists(FIELD, min_size=2, max_size=2), max_size=12),
       st.sampled_from([4, 16, 1 << 18]), st.sampled_from(['\n', '\r\n']))
@settings(deadline=None)
def test_any_rows_come_back(tmp_path_factory, rows, block, end):
    path = tmp_path_factory.getbasetemp() / f'any{os.getpid()}.csv'
    with open(path, 'w', encoding='utf-8', newline='') as file:
        csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(
            [['a', 'b'], *rows])
    before, textfile.BLOCK = textfile.BLOCK, block
    try:
        check(lambda last: csv_rows(path, last),
              [dict(zip('ab', row)) for row in rows])
    finally:
        textfile.BLOCK = before


def test_names_in_bytes_of_no_encoding(path):
    names = [b'\xff\xfe', b'a', b'\xe4b', 'ü'.encode()]
    write(path, b'\n'.join(names))
    check(lambda last: lines(path, last, errors='surrogateescape'),
          [os.fsdecode(name) for name in names])


@pytest.mark.parametrize('encoding, errors, data, expected', [
    # The text is as long as the bytes are, but not line by line.
    ('utf-8', 'backslashreplace', b'\xff\n\xc3\xa9\n\xc3\xa9\xc3\xa9\n',
     [(2, '\\xff'), (5, 'é'), (10, 'éé')]),
    ('utf-16-le', 'ignore', b'\0\xd8a\0\n\0', [(6, 'a')]),
    ('utf-16-be', 'replace', b'\x0a\x0a\n\0\0\n\xd8\0\0\n',
     [(6, '\u0a0a\u0a00'), (10, '\ufffd')])])
def test_places_are_in_bytes_whatever_becomes_of_them(path, encoding, errors,
                                                      data, expected):
    write(path, data)
    found = list(lines(path, encoding=encoding, errors=errors))
    assert [(job.offset, job.text) for job in found] == expected
    for at, job in enumerate(found, 1):
        assert list(lines(path, job.pk, encoding=encoding, errors=errors)
                    ) == found[at:]


@pytest.mark.parametrize('data', [b'a\n\xff', b'\xff\xff'])
def test_a_last_line_of_which_all_is_ignored_is_an_empty_one(path, data):
    write(path, data)
    found = list(lines(path, errors='ignore'))
    assert [(job.offset, job.text) for job in found][-1] == (len(data), '')
    assert list(lines(path, found[-1].pk, errors='ignore')) == []
    rows = list(csv_rows(path, fieldnames=['n'], errors='ignore'))
    assert [row.row for row in rows] == [{'n': 'a'}] * (len(found) - 1)


def test_as_csv_is_told(tmp_path):
    path = tmp_path / 'a.csv'
    path.write_bytes("1;'a;b'\n2;c\n".encode('utf-16'))
    options = {'delimiter': ';', 'quotechar': "'",
               'fieldnames': ['id', 'name']}
    expected = dict_rows(path.read_bytes(), 'utf-16', **options)
    assert [job.row for job in csv_rows(path, encoding='utf-16', **options)
            ] == expected == [{'id': '1', 'name': 'a;b'},
                              {'id': '2', 'name': 'c'}]
    path.write_text('1\t2\n3\t4\n')
    assert [job.row for job in csv_rows(path, dialect='excel-tab')] == [
        {'1': '3', '2': '4'}]


def test_a_file_that_is_read_while_it_is_walked_is_one_block_in_memory(
        tmp_path, monkeypatch):
    monkeypatch.setattr(textfile, 'BLOCK', 1 << 12)
    path = tmp_path / 'a.txt'
    path.write_text('x' * 99 + '\n' + 'y\n' * 100_000)
    walk = lines(path)
    assert next(walk).text == 'x' * 99
    with open(path, 'a') as file:       # it may grow meanwhile
        file.write('z\n')
    assert [job.text for job in walk][-2:] == ['y', 'z']


# -- a file that is not what it was ---------------------------------------

LONG = b''.join(b'%d,%s\n' % (number, b'x' * 60) for number in range(50))


def walks(path):
    return [lambda last=None: lines(path, last),
            lambda last=None: csv_rows(path, last, fieldnames=['a', 'b'])]


CHANGED = {
    'shrank': (lambda data, at: data[:at - 1], 'is shorter than before'),
    'shrank to nothing': (lambda data, at: b'', 'another file.*is shorter'),
    'changed at the beginning': (
        lambda data, at: b'#' + data[1:], 'is another file'),
    'rotated': (lambda data, at: b'50,y\n' + data, 'is another file'),
    'shrank to its first lines': (
        lambda data, at: data[:20], 'another file than before, as it is sho'),
    'rotated, and short': (lambda data, at: b'50,y\n', 'is another file'),
    'a byte more behind the head': (
        lambda data, at: data[:1500] + b'x' + data[1500:], 'no line ends'),
    'a byte less behind the head': (
        lambda data, at: data[:1500] + data[1501:], 'no line ends'),
    'the line joined with the next': (
        lambda data, at: data[:at - 1] + data[at:], 'no line ends'),
}


@pytest.mark.parametrize('change, why', CHANGED.values(), ids=CHANGED)
def test_another_file_is_refused(path, change, why):
    write(path, LONG)
    for walk in walks(path):
        job = list(itertools.islice(walk(), 40))[-1]
        changed = change(LONG, job.offset)
        write(path, changed)
        with pytest.raises(OperatorError, match=why) as caught:
            list(walk(job.pk))
        assert caught.value.exit_code == 70
        assert str(path) in str(caught.value)
        write(path, LONG)
        assert len(list(walk(job.pk))) == 10


@pytest.mark.parametrize('size', [10, 1000, 1024, 1025, 5000])
def test_a_file_that_has_grown_goes_on(path, size):
    data = (b'123456789\n' * 500)[:size - 1] + b'\n'
    write(path, data)
    for walk in walks(path):
        write(path, data)
        jobs = list(walk())
        assert list(walk(jobs[-1].pk)) == []
        write(path, b'new\nlines\n', 'ab')
        later = list(walk(jobs[-1].pk))
        assert [job.offset for job in later] == [size + 4, size + 10]
        # One walk has one mark, so what was its first key still is.
        assert {job.mark for job in later} == {jobs[0].mark}
        assert list(walk(jobs[2 if len(jobs) > 2 else -1].pk))[-2:] == later


def test_a_last_line_that_was_written_on_is_refused(path):
    write(path, b'a,b\nc')
    for walk in walks(path):
        write(path, b'a,b\nc')
        last = list(walk())[-1].pk
        assert list(walk(last)) == []
        write(path, b'd\n', 'ab')
        with pytest.raises(OperatorError, match='had no end'):
            list(walk(last))


@pytest.mark.parametrize('options', [
    {}, {'encoding': 'utf-16-le'}, {'encoding': 'utf-8-sig'}])
def test_so_is_one_that_was_written_on_while_it_was_walked(tmp_path, options):
    path = tmp_path / 'a.txt'
    encoding = options.get('encoding', 'utf-8')
    for walk in (lambda: lines(path, **options),
                 lambda: csv_rows(path, fieldnames=['a'], **options)):
        path.write_bytes('one\ntwo-ha'.encode(encoding))
        jobs = walk()
        next(jobs), next(jobs)          # a job was made of the half
        with open(path, 'ab') as file:
            file.write('lf\n'.encode(encoding))
        with pytest.raises(OperatorError, match='had no end'):
            list(jobs)


def test_a_file_that_shrinks_under_the_walk_is_refused(tmp_path,
                                                       monkeypatch):
    monkeypatch.setattr(textfile, 'BLOCK', 64)
    path = tmp_path / 'a.txt'
    path.write_bytes(b'123456789\n' * 10_000)
    walk = lines(path)
    next(walk)
    os.truncate(path, 10)
    with pytest.raises(OperatorError, match='shorter while it was read'):
        list(walk)


# -- what cannot be gone through ------------------------------------------

def test_a_row_that_is_not_whole_is_refused(path):
    """Written on, what is in quotes would be read as if it were not."""
    write(path, b'id,name\n1,"a\n')
    with pytest.raises(OperatorError, match='ends within quotes'):
        list(csv_rows(path))
    write(path, b'id,"na')
    with pytest.raises(OperatorError, match='ends within quotes'):
        list(csv_rows(path))


BAD = {
    'bytes': (b'id\nx\n\xff\n', {}, 'byte 5 is not of the encoding utf-8'),
    'encoding': (b'id\n', {'encoding': 'klingon'}, 'unknown encoding'),
    'stateful': (b'id\n', {'encoding': 'iso2022_jp'}, 'convert it to UTF-8'),
    'EBCDIC': (b'id\n', {'encoding': 'cp500'}, 'convert it to UTF-8'),
    'escapes': (b'id\n\\u000a\n', {'encoding': 'raw_unicode_escape'},
                'convert it to UTF-8'),
    'half a character': (b'i\0d\0\n\0\x01', {'encoding': 'utf-16-le'},
                         'byte 6 is not of'),
    'CR': (b'id\n1\r2\n', {},
           'csv cannot read the line that begins at byte 3 '),
    'CR further on': (b'id\n1\n2\n1\r2\n', {}, 'begins at byte 7 '),
    'CR in the header': (b'i\rd\n', {}, 'begins at byte 0 '),
    'quotes left open': (b'id\n"1\n\n2', {'strict': True},
                         'begins at byte 7 '),
    'no number': (b'"id"\n1\nx\n', {'quoting': csv.QUOTE_NONNUMERIC},
                  "begins at byte 7 .*to float: 'x'"),
    'a long field': (b'id\n' + b'x' * 131073, {},
                     r'begins at byte 3 .*csv\.field_size_limit\(\)'),
    'errors': (b'id\n', {'errors': 'klingon'}, 'unknown error handler'),
    'columns': (b'id,name,id\n1,2,3\n', {}, "two columns are called 'id'"),
    'no key': (b'id\n', {'last': 17}, 'last=17 is no key of a file'),
    'a place': (b'id\n', {'last': (True, '/0')}, 'no key of a file'),
    'no mark': (b'id\n', {'last': (3, 'x')}, 'no key of a file'),
}


@pytest.mark.parametrize('data, options, why', BAD.values(), ids=BAD)
def test_what_is_wrong_is_said(path, data, options, why):
    write(path, data)
    with pytest.raises(OperatorError, match=why):
        list(csv_rows(path, **options))


def test_what_cannot_be_read(tmp_path):
    for name in 'none.csv', 'none.csv.gz':
        with pytest.raises(OperatorError, match='No such file'):
            list(lines(tmp_path / name))
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(OperatorError, match='no regular file'):
        list(lines(tmp_path / 'pipe'))
    path = tmp_path / 'cut.gz'
    write(path, os.urandom(3000) + b'\n')
    whole = path.read_bytes()
    for data in whole[:-500], whole[:200], whole[:-5] + b'12345', b'id\n':
        path.write_bytes(data)
        with pytest.raises(OperatorError, match='cannot be read'):
            list(lines(path, encoding='latin-1'))


def test_a_path_may_be_of_any_type(path):
    write(path, b'id\n1\n')
    for name in path, str(path), os.fsencode(path):
        assert [job.row for job in csv_rows(name)] == [{'id': '1'}]


def test_0_and_none_are_the_beginning(path):
    write(path, b'id\n1\n')
    for last in None, 0, '', ():
        assert [job.text for job in lines(path, last)] == ['id', '1']
