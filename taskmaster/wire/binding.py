"""Where a master serves, when nobody has said where.

That is the default port, and a Unix socket named after it; what of these is
taken already is said, and what is served instead.
"""

from __future__ import annotations

import logging

from .. import logs
from ..address import Address, name_of
from ..errors import Unreachable
from . import unix
from .listener import UnixListener
from .server import Manager, Server

log = logs.logger(__name__)


def bind(address: Address, key: bytes, local: bool = False,
         any_port: bool = False) -> Server:
    """Return a server, bound and not started.

    ``local`` says that no address was given, so that a Unix socket is served
    too; ``any_port`` that another port will do where a master of this user
    has that one.  Raises Unreachable (69).
    """
    if not local:
        return Manager(address, key).get_server()
    host, port = address
    name: unix.Name | None = None
    taken = False
    try:
        name = unix.Name(unix.path_of(port))
    except unix.Taken:
        taken = True
    except unix.Unusable as error:
        log.debug('no Unix socket: %s', error)
    if taken and not any_port:
        raise Unreachable(f'a master of yours serves {name_of(address)}; '
                          'give another --host')
    try:
        return _bound(address, key, name, taken, any_port)
    except BaseException:
        if name is not None:
            name.release()
        raise


def _bound(address: Address, key: bytes, name: unix.Name | None, taken: bool,
           any_port: bool) -> Server:
    host, _ = address
    if taken:
        server = Manager((host, 0), key).get_server()
        try:
            name = unix.Name(unix.path_of(server.address[1]))
        except OSError as error:
            log.debug('no Unix socket: %s', error)
    else:
        try:
            server = Manager(address, key).get_server()
        except Unreachable:
            if name is None and not any_port:
                raise
            server = Manager((host, 0), key).get_server()
            taken = True
    if name is not None:
        try:
            server.local = UnixListener(name)
        except OSError as error:
            log.debug('no Unix socket: %s', error)
    if taken:
        # Whoever has no --host goes by the socket, or by the record.
        log.log(logging.INFO if server.local else logging.WARNING,
                '%s is taken; serving %s%s instead', name_of(address),
                name_of(server.address), ' and ' + server.local.path
                if server.local else '')
    return server
