"""Measure everything, side by side; print one table.

    python benchmarks/run.py [--rounds N] [--only NAME ...] [--quick]
                             [--against TREE] [--keep FILE]
    python benchmarks/run.py --show FILE ...

Each round measures every point once, a point all its contenders one after
another.  Ratios are taken within a round; the table has the medians, and
the least and the most, over the rounds.

`--keep` adds what was measured to a file, in place of what that has of the
same points: so a long series can be made in parts.  `--show` prints such
files as one table, a column each: one was kept by each Python.
"""

import argparse
import json
import statistics
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from points import POINTS, before  # noqa: E402

HEAD = ['point', 'what', 'median', 'least .. most', 'wanted', '']


def main():
    options = arguments()
    if options.show:
        show_kept(options.show)
        return
    if options.against:
        before.append(options.against)
    points = [point for point in POINTS
              if not options.only or point.name in options.only]
    rounds = {point.name: [] for point in points}
    for number in range(1, options.rounds + 1):
        for point in points:
            begin = time.monotonic()
            try:
                rounds[point.name].append(
                    point.measure(0.1 if options.quick else 1))
            except Exception:       # the others are of use without it
                traceback.print_exc()
            print(f'round {number}: {point.name}, '
                  f'{time.monotonic() - begin:.1f} s', file=sys.stderr)
    rows = [row for point in points
            for row in evaluated(point, rounds[point.name])]
    if options.keep:
        keep(Path(options.keep), rows)
    print_table(HEAD, [alone(row) for row in rows])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--only', nargs='+', metavar='NAME', choices=[
        point.name for point in POINTS], help=', '.join(
            point.name for point in POINTS))
    parser.add_argument('--against', metavar='TREE', help='another checkout '
                        'to measure in turn with this one')
    parser.add_argument('--quick', action='store_true',
                        help='a tenth of the jobs: does it still work?')
    parser.add_argument('--keep', metavar='FILE',
                        help='add what was measured to this one')
    parser.add_argument('--show', metavar='FILE', nargs='+', type=Path,
                        help='print what was kept, and measure nothing')
    return parser.parse_args()


# -- rows: what was measured, and what is wanted --------------------------

def evaluated(point, rounds):
    for row in point.rows:
        try:
            values = [row.value(measured) for measured in rounds]
        except KeyError:
            values = []         # a peer not installed, or it went wrong
        yield {'point': point.name, 'what': row.what, 'unit': row.unit,
               'least': row.least, 'most': row.most, 'values': values}


def keep(path, rows):
    kept = json.loads(path.read_text())['rows'] if path.exists() else []
    points = {row['point'] for row in rows}
    kept = [row for row in kept if row['point'] not in points] + rows
    order = [point.name for point in POINTS]
    kept.sort(key=lambda row: order.index(row['point']))
    path.write_text(json.dumps({
        'python': '.'.join(map(str, sys.version_info[:2])), 'rows': kept}))


def show_kept(paths):
    kept = [json.loads(path.read_text()) for path in paths]
    found = [{(row['point'], row['what']): row for row in file['rows']}
             for file in kept]
    # Any of them may have points that the others have not.
    names = dict.fromkeys(name for rows in found for name in rows)
    order = [point.name for point in POINTS]
    lines = []
    for name in sorted(names, key=lambda name: order.index(name[0])):
        cells, wanted = [], ''
        for rows in found:
            row = rows.get(name)
            if row is None or not row['values']:
                cells.append('')
                continue
            _, _, median, ends, wanted, met = alone(row)
            cells.append(median + (f' ({ends})' if len(row['values']) > 1
                                   else '') + ' **NO**' * (met == 'NO'))
        if any(cells):
            lines.append([*name, wanted, *cells])
    print_table(['point', 'what', 'wanted', *(file['python']
                                              for file in kept)], lines)


def alone(row):
    """The cells of one row: HEAD."""
    values = row['values']
    if not values:
        return [row['point'], row['what'], 'not measured', '', '', '']
    median, wanted, met = statistics.median(values), '', True
    if row['least'] is not None:
        wanted = f'>= {shown(row["least"], row)}'
        met = median >= row['least']
    if row['most'] is not None:
        wanted = f'<= {shown(row["most"], row)}'
        met = median <= row['most']
    return [row['point'], row['what'], shown(median, row),
            f'{shown(min(values), row)} .. {shown(max(values), row)}',
            wanted, 'NO' if not met else 'yes' if wanted else '']


def shown(value, row):
    unit = row['unit']
    if unit == '%':
        return f'{value:.1%}'
    if unit in ('', '/s'):
        return f'{value:,.0f}{unit}'
    return f'{value:,.2f} {unit}'


def print_table(head, lines):
    lines = [head, ['---'] * len(head), *lines]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print('|', ' | '.join(map(str.ljust, line, widths)), '|')


if __name__ == '__main__':
    main()
