"""Django, set up once for all tests of a process."""

import django
from django.conf import settings

settings.configure(DATABASES={'default': {
    'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}},
    DEFAULT_AUTO_FIELD='django.db.models.AutoField', USE_TZ=True)
django.setup()

from django.db import connection, connections, models  # noqa: E402, F401
from django.test.utils import (  # noqa: E402, F401
    CaptureQueriesContext, override_settings)


def add_database(alias, **options):
    """Let ``connections[alias]`` be of a database with such settings."""
    connections.settings.update(connections.configure_settings(
        {'default': {}, alias: options}))
    if hasattr(connections._connections, alias):
        del connections[alias]
