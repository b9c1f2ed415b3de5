import re
from pathlib import Path

from setuptools import setup

here = Path(__file__).parent
version = re.search(r"__version__ = '(.+)'",
                    (here / 'taskmaster' / '__init__.py').read_text())

setup(
    name='taskmaster',
    version=version.group(1),
    description='Run a function once over a billion rows, on many machines',
    long_description=(here / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=[
        'taskmaster', 'taskmaster.cli', 'taskmaster.console',
        'taskmaster.iterators', 'taskmaster.master', 'taskmaster.slave',
        'taskmaster.storage', 'taskmaster.supervisor', 'taskmaster.usercode',
        'taskmaster.wire'],
    package_data={'taskmaster': ['py.typed']},
    python_requires='>=3.9',
    install_requires=['progressbar2'],
    entry_points={'console_scripts': [
        'tm-master = taskmaster.cli.master:main',
        'tm-slave = taskmaster.cli.slave:main',
        'tm-spawn = taskmaster.cli.spawn:main',
        'tm-run = taskmaster.cli.run:main',
        'tm-ctl = taskmaster.cli.ctl:main',
    ]},
)
