"""The SHA-256 of each file that a list names, one name a line.

    $ find /usr/share -type f > names.txt
    $ tm-run examples/listed_files.py 2 names=names.txt
    $ python examples/checksum_files.py checksums.db

A listing that cannot be gone on with (`find` itself, an API with nothing but
continuation tokens) is written to a file once; that can.
"""

import os

import checksum_files

from taskmaster.iterators import lines


def get_jobs(names, output='checksums.db', last=None):
    output = os.path.abspath(output)
    if last is None:
        checksum_files.make(output)
    # Names are bytes, of whatever encoding; Python has them so.
    for job in lines(names, last, encoding='utf-8',
                     errors='surrogateescape'):
        if job.text:
            yield job.pk, job.text, output


def get_key(job):
    pk, path, output = job
    return pk


def handle_job(job):
    pk, path, output = job
    checksum_files.handle_job((path, output))
