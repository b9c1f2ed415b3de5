"""Measure everything, side by side; print one table.

    python benchmarks/run.py [--rounds N] [--only NAME ...] [--quick]
                             [--against TREE]

Each round measures every point once, a point all its contenders one after
another.  Ratios are taken within a round; the table has the medians, and
the least and the most, over the rounds.
"""

import argparse
import statistics
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from points import POINTS, before  # noqa: E402

HEAD = [['point', 'what', 'median', 'least .. most', 'wanted', ''],
        ['---'] * 6]


def main():
    options = arguments()
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
    lines = [cells for point in points
             for cells in table(point, rounds[point.name])]
    widths = [max(map(len, column)) for column in zip(*HEAD, *lines)]
    for line in HEAD + lines:
        print('|', ' | '.join(map(str.ljust, line, widths)), '|')


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
    return parser.parse_args()


def table(point, rounds):
    for row in point.rows:
        try:
            values = [row.value(measured) for measured in rounds]
            median = statistics.median(values)
        except (KeyError, statistics.StatisticsError):
            yield [point.name, row.what, 'not measured', '', '', '']
            continue            # a peer not installed, or it went wrong
        wanted, met = '', True
        if row.least is not None:
            wanted, met = f'>= {show(row.least, row)}', median >= row.least
        if row.most is not None:
            wanted, met = f'<= {show(row.most, row)}', median <= row.most
        yield [point.name, row.what, show(median, row),
               f'{show(min(values), row)} .. {show(max(values), row)}',
               wanted, 'NO' if not met else 'yes' if wanted else '']


def show(value, row):
    if row.unit == '%':
        return f'{value:.1%}'
    if row.unit in ('', '/s'):
        return f'{value:,.0f}{row.unit}'
    return f'{value:,.2f} {row.unit}'


if __name__ == '__main__':
    main()
