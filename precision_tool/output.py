"""What a command found: tables and lines, to be printed or handed to a script as JSON."""

import json
import math
import sys

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_SKIPPED = 20    # lines that are printed of what was left out


class Output:
    """The parts of an answer, in order.

    Attributes:
        found: whether a check found something wrong, which is the exit status too.
        faults: lines about what is damaged and was left out; they come last, with
        skipped: lines about what was left out because there is nothing in it to compare.
    """

    def __init__(self):
        self.found = False
        self._parts = []    # (title, columns, rows) or a line
        self.faults = []
        self.skipped = []

    def line(self, text=''):
        """Add a line of text."""
        self._parts.append(str(text))

    def fault(self, text):
        """Add a line about something damaged that was left out, once."""
        if str(text) not in self.faults:
            self.faults.append(str(text))

    def skip(self, text):
        """Add a line about something that has nothing to compare."""
        self.skipped.append(str(text))

    def table(self, title, columns, rows):
        """Add a table; cells are numbers or text. An empty one is left out."""
        rows = [list(row) for row in rows]
        if rows:
            self._parts.append((title, list(columns), rows))

    def print(self, as_json=False):
        """Write everything to standard output."""
        if as_json:
            print(json.dumps(self._data(), indent=1))
            return
        # Not 80 columns for a file or a pipe: names of operators are long.
        if hasattr(sys.stdout, 'reconfigure'):    # names may hold what a terminal has no signs for
            sys.stdout.reconfigure(errors='backslashreplace')
        console = Console(highlight=False, soft_wrap=True,
                          width=None if sys.stdout.isatty() else 160)
        for part in self._parts:
            console.print(Text(part) if isinstance(part, str) else _drawn(*part))
        skipped = self.faults + self.skipped
        if skipped:
            console.print(Text(f'not read or not compared: {len(skipped)}'))
            for line in skipped[:_SKIPPED]:
                console.print(Text(f'  {line}'))
            if len(skipped) > _SKIPPED:
                console.print(Text(f'  and {len(skipped) - _SKIPPED} more (all with --json)'))

    def _data(self):
        tables = [{'title': title, 'rows': [dict(zip(columns, map(_plain, row))) for row in rows]}
                  for title, columns, rows in (p for p in self._parts if not isinstance(p, str))]
        return {'found': self.found, 'tables': tables,
                'lines': [part for part in self._parts if isinstance(part, str) and part],
                'faults': self.faults, 'skipped': self.skipped}


def _plain(cell):
    """A cell as JSON has it, which knows no NaN and infinity."""
    if isinstance(cell, float) and not math.isfinite(cell):
        return str(cell)
    return cell if isinstance(cell, (int, float, str)) or cell is None else str(cell)


def _drawn(title, columns, rows):
    # Names of operators may hold brackets, which rich takes for markup in plain strings.
    table = Table(title=Text(title), title_justify='left', box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        numbers = all(isinstance(row[index], (int, float)) for row in rows)
        table.add_column(Text(column), justify='right' if numbers else 'left', overflow='fold')
    for row in rows:
        table.add_row(*(Text(f'{cell:.6g}' if isinstance(cell, float) else str(cell))
                        for cell in row))
    return table
