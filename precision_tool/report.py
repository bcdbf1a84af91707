"""A comparison as one HTML page that needs no network: summary, chart, sortable table."""

import html
import math
import re
import string
from collections import OrderedDict

from precision_tool.compare import BREAKS, INHERITS, UNKNOWN
from precision_tool.metrics import TEXT_METRIC, TITLES, Metrics
from precision_tool.results import is_bad, printable
from pylib import write_text

# Title -> field of the table's columns.
_COLUMNS = OrderedDict(
    [('#', 'index'), ('Tensor', 'tensor_index'), ('Type', 'op_type'),
     ('ComparedWith', 'ground_truth'), ('DataType', 'data_type'),
     ('GoldenDataType', 'golden_data_type'), ('Shape', 'shape')]
    + list(zip(TITLES, Metrics._fields)) + [('Reason', 'reason')])
_NUMBERS = {'index'} | set(Metrics._fields) - {TEXT_METRIC}
_VERDICTS = {
    BREAKS: 'its inputs are good; it is to blame, or an operator between that was not '
                   'compared.',
    INHERITS: 'one of its inputs is bad already; look at what makes that one.',
    UNKNOWN: 'none of its inputs was compared, so the error may come from there.'}

# The chart, in pixels. Heights are the nines of a cosine, -log10(1 - cosine): at most 7.
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 1000, 300, 76, 14, 26
_MOST, _LEAST = 7., -math.log10(2)
_TICKS = ('1', '0.999999', '0.99999', '0.9999', '0.999', '0.99', '0.9', '0.5', '-1')


def write_html(path, result, suspect, threshold, compared=''):
    """Write the page.

    Args:
        result: `results.Result`.
        suspect: `compare.Suspect` or None.
        threshold: cosine similarity below which a row is bad.
        compared: the two folders, in words.
    """
    rows = result.rows
    bad = [is_bad(row, threshold) for row in rows]
    place = rows.index(suspect.row) if suspect and suspect.row in rows else None
    write_text(path, _PAGE.substitute(
        compared=_text(compared),
        summary=_summary(result, sum(bad), threshold),
        verdict=_verdict(suspect, place, threshold),
        chart=_chart(rows, bad, place, threshold),
        table=_table('rows', rows, bad, place),
        unmatched=_names('Only on the left', result.unmatched_left)
        + _names('Only on the right', result.unmatched_right)))


def _text(value):
    return html.escape(printable(str(value)))


def _shown(row, field):
    """A field of a row as HTML."""
    value = row.value(field)
    if not isinstance(value, float):
        return _text(value)
    if math.isnan(value):
        return 'NaN'
    return f'{value:.6f}' if field == 'cosine_similarity' else f'{value:.4g}'


def _summary(result, bad, threshold):
    """Tiles with the numbers that matter."""
    cosines = [row.cosine for row in result.rows if not math.isnan(row.cosine)]
    undefined = len(result.rows) - len(cosines)
    tiles = ((len(result.rows), 'pairs of tensors', ''),
             (bad, f'bad (cosine below {threshold:g})', 'bad' if bad else 'good'),
             (f'{min(cosines):.6f}' if cosines else 'none', 'lowest cosine', ''),
             (undefined, 'without a cosine', 'warn' if undefined else ''),
             (len(result.unmatched_left), 'only on the left', ''),
             (len(result.unmatched_right), 'only on the right', ''))
    return '\n'.join(f'<div class="tile {kind}"><b>{value}</b>{label}</div>'
                     for value, label, kind in tiles)


def _verdict(suspect, place, threshold):
    """What is wrong first, and a table of what feeds it."""
    if suspect is None:
        return (f'<section class="good"><h2>No bad tensor</h2>\n<p>No cosine similarity is below '
                f'{threshold:g}.</p></section>')
    row = suspect.row
    target = '' if place is None else f' href="#row{place}"'
    reason = f' ({_text(row.reason)})' if row.reason else ''
    inputs = _table('inputs', suspect.inputs,
                    [is_bad(each, threshold) for each in suspect.inputs])
    return f'''<section class="bad">
<h2>First bad tensor: <a{target}>{_text(row.tensor_index)}</a></h2>
<p>Cosine similarity <b>{_shown(row, 'cosine_similarity')}</b>{reason}, largest absolute error
{_shown(row, 'max_absolute_error')}; operator type {_text(row.op_type) or 'unknown'}.</p>
<p><b>{_text(suspect.verdict)}</b>: {_VERDICTS[suspect.verdict]}</p>
{'<h3>What feeds it</h3>' + inputs if suspect.inputs else ''}</section>'''


def _height(cosine):
    """Height of a cosine similarity in the chart, in pixels from above."""
    nines = -math.log10(max(1 - cosine, 10 ** -_MOST))
    return _TOP + (_MOST - max(nines, _LEAST)) / (_MOST - _LEAST) * (_HEIGHT - _TOP - _BOTTOM)


def _chart(rows, bad, suspect_place, threshold):
    """Cosine similarity in the order of execution, as SVG; bad rows without one at the bottom."""
    step = (_WIDTH - _LEFT - 10) / max(len(rows) - 1, 1)
    dots, mark = {False: [], True: []}, ''
    for place, row in enumerate(rows):
        cosine = row.cosine
        if math.isnan(cosine) and not bad[place]:
            continue
        x, y = _LEFT + place * step, _height(-1 if math.isnan(cosine) else cosine)
        dots[bad[place]].append(f'M{x:.1f} {y:.1f}h0')
        if place == suspect_place:
            mark = (f'<path class="mark" d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>'
                    f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="8"/>')
    grid = ''.join(
        f'<path class="grid" d="M{_LEFT} {_height(float(label)):.1f}H{_WIDTH}"/>'
        f'<text x="{_LEFT - 8}" y="{_height(float(label)) + 4:.1f}" class="tick">{label}</text>'
        for label in _TICKS)
    return f'''<svg id="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" data-left="{_LEFT}"
 data-step="{step:.6f}" role="img" aria-label="Cosine similarity in the order of execution">
{grid}<path class="threshold" d="M{_LEFT} {_height(threshold):.1f}H{_WIDTH}"/>
<path class="dots" d="{''.join(dots[False])}"/>
<path class="dots bad" d="{''.join(dots[True])}"/>
{mark}<text x="{(_LEFT + _WIDTH) // 2}" y="{_HEIGHT - 6}" class="axis">order of execution</text>
</svg>'''


def _table(name, rows, bad, suspect_place=None):
    """A table of rows; its rows can be linked to as #row0 and so on if it is called 'rows'."""
    # End tags of rows and cells are optional in HTML; without them 10,000 rows load faster.
    head = ''.join(f'<th{" class=n" if field in _NUMBERS else ""}>' + _breakable(title)
                   for title, field in _COLUMNS.items())
    lines = []
    for place, row in enumerate(rows):
        anchor = f' id=row{place}' if name == 'rows' else ''
        mark = ' suspect' if place == suspect_place else ''
        lines.append(f'<tr{anchor} class="{"bad" if bad[place] else ""}{mark}">' + ''.join(
            f'<td{" class=n" if field in _NUMBERS else ""}>{_shown(row, field)}'
            for field in _COLUMNS.values()))
    body = '\n'.join(lines)
    return (f'<div class="scroll"><table id="{name}">\n<thead><tr>{head}</thead>\n<tbody>\n{body}\n'
            '</tbody></table></div>')


def _breakable(title):
    """A title in camel case as HTML that may be broken before each word."""
    return re.sub('(?<=[a-z])(?=[A-Z])', '<wbr>', title)


def _names(title, names):
    items = '\n'.join(f'<li>{_text(name)}' for name in names)
    return f'<details><summary>{title}: {len(names)}</summary>\n<ul>\n{items}\n</ul></details>\n'


_PAGE = string.Template('''<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Precision comparison</title>
<style>
:root { --text: #1d2433; --soft: #667085; --line: #e3e7ee; --page: #f6f7f9; --card: #fff;
  --good: #16794a; --bad: #c4281c; --bad-soft: #fdeceb; --warn: #9a6700; --dot: #2f6fde;
  color-scheme: light dark }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ef; --soft: #98a2b3; --line: #333b49;
  --page: #12161e; --card: #1b212c; --good: #4cc38a; --bad: #ff7b72; --bad-soft: #3b1f20;
  --warn: #e0b04b; --dot: #7aa7ff } }
body { margin: 0 auto; padding: 24px; max-width: 1500px; background: var(--page);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif }
h1 { margin: 0 0 16px; font-size: 24px }
h2 { margin: 0 0 8px; font-size: 18px; overflow-wrap: anywhere }
h3 { margin: 16px 0 8px; font-size: 15px }
p { margin: 4px 0 }
a { color: inherit }
section, details { margin: 16px 0; padding: 16px 20px; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px }
section.good, section.bad { border-left: 5px solid var(--good) }
section.bad { border-left-color: var(--bad) }
.tiles { display: flex; flex-wrap: wrap; gap: 12px }
.tile { flex: 1 0 140px; padding: 12px 16px; background: var(--card); color: var(--soft);
  border: 1px solid var(--line); border-radius: 10px; font-size: 13px }
.tile b { display: block; color: var(--text); font-size: 26px; line-height: 1.3 }
.tile.good b { color: var(--good) } .tile.bad b { color: var(--bad) }
.tile.warn b { color: var(--warn) }
svg { display: block; width: 100%; cursor: crosshair }
svg text { fill: var(--soft); font-size: 11px }
.tick { text-anchor: end } .axis { text-anchor: middle }
.grid { stroke: var(--line) }
.threshold { stroke: var(--warn); stroke-width: 1.5; stroke-dasharray: 6 4 }
.dots { stroke: var(--dot); stroke-width: 5; stroke-linecap: round }
.dots.bad { stroke: var(--bad) }
.mark { stroke: var(--bad); fill: none; stroke-width: 1.5 }
.legend { color: var(--soft); font-size: 13px; min-height: 1.5em; overflow-wrap: anywhere }
.tools { display: flex; flex-wrap: wrap; gap: 16px; align-items: center; margin-bottom: 12px }
input[type=search] { flex: 0 1 340px; padding: 6px 10px; font: inherit; color: inherit;
  background: var(--page); border: 1px solid var(--line); border-radius: 6px }
.scroll { overflow: auto; max-height: 80vh; border: 1px solid var(--line); border-radius: 6px }
table { border-collapse: separate; border-spacing: 0; font-size: 13px }
th { position: sticky; top: 0; z-index: 1; background: var(--page); cursor: pointer;
  text-align: left; vertical-align: bottom; user-select: none }
th[aria-sort=ascending]::after { content: ' \\25b2' }
th[aria-sort=descending]::after { content: ' \\25bc' }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--line) }
td { max-width: 26em; white-space: nowrap; vertical-align: top }
td:nth-child(2), td:nth-child(4), td:last-child { min-width: 15em; white-space: normal;
  overflow-wrap: anywhere }
tr { scroll-margin-top: 6em }
td:nth-child(2) { position: sticky; left: 0; background: var(--card) }
th:nth-child(2) { left: 0; z-index: 2 }
th:nth-child(2) { min-width: 15em }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
th.n { white-space: normal }
tr:hover td { background: var(--page) }
tr.bad td:nth-child(8) { background: var(--bad-soft); color: var(--bad); font-weight: 600 }
tr.suspect td, tr:target td { background: var(--bad-soft) }
tr.suspect td:nth-child(2) { font-weight: 600 }
summary { cursor: pointer; font-weight: 600 }
ul { columns: 28em; font-size: 13px; overflow-wrap: anywhere }
</style>
</head>
<body>
<h1>Precision comparison</h1>
<p>$compared</p>
<div class="tiles">
$summary
</div>
$verdict
<section><h2>Cosine similarity</h2>
$chart
<p class="legend" id="legend">Dashed: the threshold. Circle: the first bad tensor. At the bottom:
bad tensors that have no cosine. Point at a dot to see its name, click to go to its row.</p>
</section>
<section><h2>All pairs</h2>
<div class="tools"><input type="search" id="filter" placeholder="Filter by any text">
<label><input type="checkbox" id="only-bad"> only bad ones</label>
<span class="legend">Click on a column to sort by it.</span></div>
$table</section>
$unmatched<script>
const byId = id => document.getElementById(id);
const collator = new Intl.Collator('en', {numeric: true});
for (const table of document.querySelectorAll('table')) {
  table.tHead.onclick = event => {
    const th = event.target.closest('th'), column = th.cellIndex, body = table.tBodies[0];
    const order = th.getAttribute('aria-sort') === 'ascending' ? 'descending' : 'ascending';
    const sign = order === 'ascending' ? 1 : -1, isNumber = th.classList.contains('n');
    const keyed = Array.from(body.rows, row => {
      const text = row.cells[column].textContent.trim();
      return [isNumber ? Number(text.replace('inf', 'Infinity')) : text, row];
    });
    keyed.sort(([a], [b]) => !isNumber ? sign * collator.compare(a, b)
      : isNaN(a) || isNaN(b) ? isNaN(a) - isNaN(b) : a === b ? 0 : sign * (a < b ? -1 : 1));
    for (const [, row] of keyed) body.append(row);
    for (const each of th.parentNode.cells) each.removeAttribute('aria-sort');
    th.setAttribute('aria-sort', order);
  };
}
byId('filter').oninput = byId('only-bad').onchange = () => {
  const wanted = byId('filter').value.toLowerCase(), onlyBad = byId('only-bad').checked;
  for (const row of byId('rows').tBodies[0].rows)
    row.hidden = onlyBad && !row.classList.contains('bad')
      || !row.textContent.toLowerCase().includes(wanted);
};
const chart = byId('chart');
const rowAt = event => {
  const box = chart.getBoundingClientRect(), {left, step} = chart.dataset;
  const x = (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
  return byId('row' + Math.round((x - left) / step));
};
chart.onmousemove = event => {
  const row = rowAt(event);
  if (row) byId('legend').textContent = [1, 2, 7].map(i => row.cells[i].textContent).join('   ');
};
chart.onclick = event => {
  const row = rowAt(event);
  if (row) { row.hidden = false; location.hash = row.id; }
};
</script>
</body>
</html>
''')
