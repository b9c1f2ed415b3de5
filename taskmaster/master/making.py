"""A master as the settings want it."""

from __future__ import annotations

import socket

from .. import logs
from ..address import HOST, Address, is_loopback
from ..console.progress import Progress
from ..errors import UsageError
from ..records import TYPE_CHECKING
from ..settings import Settings
from ..timing import STANDARD, Timing
from ..usercode.source import Source
from ..wire.fields import RUN_NAME
from .master import Master
from .recorder import make_recorder

if TYPE_CHECKING:
    from ..wire.tls import Context

log = logs.logger(__name__)


def make_master(source: Source, address: Address, key: bytes,
                progress: Progress, settings: Settings,
                any_port: bool = False, timing: Timing = STANDARD) -> Master:
    """A master as the settings of `tm-master` want it.

    Raises UsageError or ConfigError.
    """
    if len(source.name) > RUN_NAME:
        raise UsageError('the arguments for get_jobs are too long; put them '
                         'in a file, and give its name')
    tls = _tls(settings)
    host, port = address
    if tls is None and not is_loopback(host):
        log.warning(
            'jobs and reports cross the network in clear; give --tls-cert, '
            'or leave --host out and give each slave a tunnel: ssh -N -L '
            '%d:%s:%d -o ExitOnForwardFailure=yes %s', port, HOST, port,
            socket.gethostname())
    return Master(make_recorder(source, settings), address, key, progress,
                  settings, any_port, tls, timing)


def _tls(settings: Settings) -> Context | None:
    if settings.tls_cert is None:
        if settings.tls_key is not None:
            raise UsageError('--tls-key is the key to a certificate; give '
                             '--tls-cert too')
        return None
    from ..wire.tls import serving
    return serving(settings.tls_cert, settings.tls_key)
