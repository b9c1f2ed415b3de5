"""Warnings that others cause, however fast: of each kind some, then counts."""

from __future__ import annotations

import threading
import time

from .. import logs

log = logs.logger(__name__)


class Quiet:
    """Of each kind of warning one every ten seconds, and how many more."""

    EVERY = 10.0            # seconds

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kinds: dict[str, tuple[float, int]] = {}  # next, left out

    def warn(self, text: str, *args: object) -> None:
        """Log this, if its kind, which is ``text``, is due."""
        now = time.monotonic()
        with self._lock:
            due, left_out = self._kinds.get(text, (0.0, 0))
            if now < due:
                self._kinds[text] = due, left_out + 1
                return
            self._kinds[text] = now + self.EVERY, 0
        if left_out:
            text += f' (and {left_out} more like it)'
        log.warning(text, *args)
