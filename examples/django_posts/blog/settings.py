"""SQLite in the current directory; or, with POSTGRES_DB=name, PostgreSQL.

Where that is, libpq's own variables say: PGHOST, PGUSER, PGPASSWORD ...
"""

import os

INSTALLED_APPS = ['blog']
DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'
USE_TZ = True

DATABASES = {'default': {
    'ENGINE': 'django.db.backends.sqlite3',
    'NAME': 'posts.db',
    'OPTIONS': {'timeout': 60},     # seconds to wait while others write
}}
if os.environ.get('POSTGRES_DB'):
    DATABASES = {'default': {
        'ENGINE': 'django.db.backends.postgresql',
        'NAME': os.environ['POSTGRES_DB'],
    }}
# Keep it: with 0, the default, close_old_connections() would close it each
# time, not only when it is broken.
DATABASES['default']['CONN_MAX_AGE'] = None
