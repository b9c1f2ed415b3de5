"""`docs/reference.md` names what there is, and no more; links lead somewhere.

Its table of options is held by `test_settings.py`.
"""

import os
import re
from pathlib import Path

import pytest

from taskmaster import errors
from taskmaster.console.prometheus import METRICS
from taskmaster.storage.runs import Machine, Record, document
from taskmaster.wire.messages import STATUS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs' / 'reference.md').read_text()
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]


def section(title):
    return PAGE.partition(f'## {title}\n')[2].partition('\n## ')[0]


def first_cells(text):
    """The names in the first cells of the rows of tables."""
    return [name for row in re.findall(r'^\| (`.*?) \|', text, re.M)
            for name in re.findall(r'`([^`]+)`', row)]


def test_the_fields_of_a_status():
    live = section('JSON').partition('`tm-ctl list --json`')[0]
    assert sorted(first_cells(live)) == sorted(STATUS)


def test_the_fields_of_a_run():
    over = section('JSON').partition('`tm-ctl list --json`')[2]
    record = Record('', 'a', '', None, 1, '', '', '', None, None, 0.0, 0.0,
                    '', 0, None, 0)
    assert sorted(first_cells(over)) == sorted(document(
        record, Machine('', ''), 0.0))


def test_the_metrics():
    assert first_cells(section('Metrics')) == [
        f'taskmaster_{metric.name}' for metric in METRICS]


def test_the_exit_codes():
    stated = {int(code) for code in re.findall(
        r'^\| (\d+) \|', section('Exit codes'), re.M)}
    ours = {kind.exit_code for kind in vars(errors).values()
            if isinstance(kind, type)
            and issubclass(kind, errors.TaskmasterError)}
    assert stated == ours | {os.EX_OK, errors.EX_FAILED_JOBS}


def anchors(path):
    """The anchors of a page's headings, as GitHub makes them."""
    return {re.sub(r'[^\w\- ]', '', title.lower()).strip().replace(' ', '-')
            for title in re.findall(r'^#+ (.*)$', path.read_text(), re.M)}


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = re.sub(r'^```.*?^```', '', path.read_text(), flags=re.M | re.S)
    for place in re.findall(r'\]\(([^)\s]+)\)', text):
        name, _, anchor = place.partition('#')
        if '://' in place:
            continue
        page = (path.parent / name).resolve() if name else path
        assert page.exists(), place
        assert not anchor or anchor in anchors(page), place


def test_the_readme_is_what_one_reads_once():
    assert len(PAGES[0].read_text().splitlines()) < 300
