"""TLS: from the files on the command line to what a connection is given.

The key proves the slave to the master, the certificate the master to the
slave, and nobody between them can read or change what they say.
"""

from __future__ import annotations

import ssl

from ..errors import ConfigError, KeyRefused
from .handshake import channel_of

BEGIN, END = '-----BEGIN CERTIFICATE-----', '-----END CERTIFICATE-----'

# Trust a certificate that is given, whoever signed it; in ssl from 3.10 on.
PARTIAL_CHAIN = 0x80000


class Context(ssl.SSLContext):
    """What a connection over TLS is made with."""

    channel = b''       # how a master's certificate names it


def serving(certificate: str, key: str | None) -> Context:
    """For a master: its certificate, and the private key to it.

    Both are files in PEM format, or one file with both.  Raises ConfigError.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A password would be asked for on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: '')
    except OSError as error:
        raise ConfigError(
            f'cannot use the certificate {certificate} with the key '
            f'{key or certificate} ({_reason(error)}); give both in PEM '
            'format, the key without a password') from error
    # Each connection shows the certificate that it is bound to.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.channel = channel_of(_first_of(certificate))
    return context


def _first_of(path: str) -> bytes:
    """The first certificate in a file, which is the one that is served."""
    with open(path, encoding='latin-1') as file:
        text = file.read()
    begin = text.find(BEGIN)
    end = text.find(END, begin)
    if begin < 0 or end < 0:
        raise ConfigError(f'there is no certificate in {path}; give it in '
                          'PEM format')
    return ssl.PEM_cert_to_DER_cert(text[begin:end + len(END)])


def trusting(authority: str) -> Context:
    """For a slave: who must have signed the master's certificate.

    That is a file of certificates in PEM format; the master's own will do.
    Raises ConfigError.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= PARTIAL_CHAIN
    try:
        context.load_verify_locations(authority)
    except OSError as error:
        raise ConfigError(
            f'cannot use the certificates in {authority} '
            f'({_reason(error)}); give them in PEM format') from error
    return context


def _context(protocol: int) -> Context:
    context = Context(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def refusal(error: OSError, peer: str) -> KeyRefused | None:
    """What to tell the person when this error is about a certificate."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return None
    reason = error.verify_message
    if 'expired' in reason or 'not yet' in reason:
        remedy = 'renew it, or correct the clock'
    elif 'mismatch' in reason:
        remedy = ('give --host as the certificate has it, or make one with '
                  'that name in subjectAltName')
    else:
        remedy = 'give the --tls-ca that signed it'
    return KeyRefused(f'the certificate of the master at {peer} is not '
                      f'trusted ({reason.rstrip(".")}); {remedy}')


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or 'not in PEM format'
    return error.strerror or str(error)
