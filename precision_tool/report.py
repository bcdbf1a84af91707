"""A comparison as one HTML page that needs no network: summary, chart, sortable table.

The table has a few hundred rows at a time; all of them are in the page as JSON.
"""

import html
import json
import math
import re
import string
from collections import OrderedDict

from precision_tool.compare import BREAKS, INHERITS, UNKNOWN
from precision_tool.metrics import TEXT_METRIC, TITLES, Metrics
from precision_tool.results import count, is_bad
from pylib import printable, write_text

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

_PAGE_ROWS = 200    # of the table at a time: browsers lay out 15,000 rows in 20 s

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
    order = _worst_first(rows, bad)
    write_text(path, _PAGE.substitute(
        compared=_text(compared),
        summary=_summary(result, sum(bad), threshold),
        verdict=_verdict(result, suspect, place, threshold),
        chart=_chart(rows, bad, place, threshold),
        table=_table('rows', rows, bad, place, order[:_PAGE_ROWS]),
        data=_data(rows, bad, place, order),
        unmatched=_names('Only on the left', result.unmatched_left)
        + _names('Only on the right', result.unmatched_right)))


def _worst_first(rows, bad):
    """Places of rows: bad ones first, of these and of the others the lowest cosines first."""
    def badness(place):
        cosine = rows[place].cosine
        # What has no cosine is the worst of the bad ones; of the others it was not compared.
        worst = -math.inf if bad[place] else math.inf
        return not bad[place], worst if math.isnan(cosine) else cosine, place
    return sorted(range(len(rows)), key=badness)


def _data(rows, bad, suspect_place, order):
    """All rows, as JSON that cannot end the script element it is in."""
    data = {'rows': [[_shown(row, field, str) for field in _COLUMNS.values()] for row in rows],
            'bad': [place for place, is_it in enumerate(bad) if is_it], 'order': order,
            'suspect': suspect_place, 'page': _PAGE_ROWS, 'left': _LEFT, 'step': _step(rows),
            'heights': [None if height is None else round(height, 1)
                        for height in map(_dot_height, rows, bad)]}
    text = json.dumps(data, separators=(',', ':'))
    return text.replace('&', '\\u0026').replace('<', '\\u003c').replace('>', '\\u003e')


def _text(value):
    return html.escape(printable(str(value)))


def _shown(row, field, escape=html.escape):
    """A field of a row as HTML, or as plain text if `escape` does nothing."""
    value = row.value(field)
    if not isinstance(value, float):
        return escape(printable(str(value)))
    if math.isnan(value):
        return 'NaN'
    return f'{value:.6f}' if field == 'cosine_similarity' else f'{value:.4g}'


def _summary(result, bad, threshold):
    """Tiles with the numbers that matter."""
    cosines = [row.cosine for row in result.rows if not math.isnan(row.cosine)]
    counts = count(result.all_rows)
    tiles = ((counts.compared, 'pairs of tensors compared', '' if counts.compared else 'bad'),
             (bad, f'bad (cosine below {threshold:g})', 'bad' if bad else 'good'),
             (f'{min(cosines):.6f}' if cosines else 'none', 'lowest cosine', ''),
             (counts.failed, 'not comparable', 'warn' if counts.failed else ''),
             (len(result.unmatched_left), 'only on the left', ''),
             (len(result.unmatched_right), 'only on the right', ''))
    return '\n'.join(f'<div class="tile {kind}"><b>{value}</b>{label}</div>'
                     for value, label, kind in tiles)


def _verdict(result, suspect, place, threshold):
    """What is wrong first, and a table of what feeds it."""
    if not count(result.rows).compared:
        return ('<section class="bad"><h2>Nothing was compared</h2>\n<p>No tensor of the one side '
                'has a partner on the other that can be compared with it.</p></section>')
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


def _step(rows):
    """Distance of dots in the chart."""
    return (_WIDTH - _LEFT - 10) / max(len(rows) - 1, 1)


def _dot_height(row, bad):
    """Height of a row's dot in the chart; at the bottom if it is bad without a cosine, or None."""
    if math.isnan(row.cosine):
        return _height(-1) if bad else None
    return _height(row.cosine)


def _chart(rows, bad, suspect_place, threshold):
    """Cosine similarity in the order of execution, as SVG; bad dots over good ones."""
    step = _step(rows)
    dots, mark = {False: [], True: []}, ''
    for place, row in enumerate(rows):
        y = _dot_height(row, bad[place])
        if y is None:
            continue
        x = _LEFT + place * step
        dots[bad[place]].append(f'M{x:.1f} {y:.1f}h0')
        if place == suspect_place:
            mark = (f'<path class="mark" d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>'
                    f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="8"/>')
    grid = ''.join(
        f'<path class="grid" d="M{_LEFT} {_height(float(label)):.1f}H{_WIDTH}"/>'
        f'<text x="{_LEFT - 8}" y="{_height(float(label)) + 4:.1f}" class="tick">{label}</text>'
        for label in _TICKS)
    return f'''<svg id="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"
 aria-label="Cosine similarity in the order of execution">
{grid}<path class="threshold" d="M{_LEFT} {_height(threshold):.1f}H{_WIDTH}"/>
<path class="dots" d="{''.join(dots[False])}"/>
<path class="dots bad" d="{''.join(dots[True])}"/>
{mark}<text x="{(_LEFT + _WIDTH) // 2}" y="{_HEIGHT - 6}" class="axis">order of execution</text>
</svg>'''


def _table(name, rows, bad, suspect_place=None, places=None):
    """A table of rows; its rows can be linked to as #row0 and so on if it is called 'rows'.

    Args:
        places: of the rows that it has; default: all.
    """
    # End tags of rows and cells are optional in HTML.
    head = ''.join(f'<th{" class=n" if field in _NUMBERS else ""}>' + _breakable(title)
                   for title, field in _COLUMNS.items())
    lines = []
    for place in range(len(rows)) if places is None else places:
        anchor = f' id=row{place}' if name == 'rows' else ''
        mark = ' suspect' if place == suspect_place else ''
        lines.append(f'<tr{anchor} class="{"bad" if bad[place] else ""}{mark}">' + ''.join(
            f'<td{" class=n" if field in _NUMBERS else ""}>{_shown(rows[place], field)}'
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
svg { display: block; width: 100% }
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
th { position: sticky; top: 0; z-index: 1; background: var(--page);
  text-align: left; vertical-align: bottom; user-select: none }
#rows th { cursor: pointer }
button { padding: 5px 12px; font: inherit; color: inherit; background: var(--page);
  border: 1px solid var(--line); border-radius: 6px; cursor: pointer }
button:disabled { opacity: .4; cursor: default }
th[aria-sort=ascending]::after { content: ' \\25b2' }
th[aria-sort=descending]::after { content: ' \\25bc' }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--line) }
td { max-width: 26em; white-space: nowrap; vertical-align: top }
td:nth-child(2), td:nth-child(4), td:last-child { min-width: 15em; white-space: normal;
  overflow-wrap: anywhere }
tr { scroll-margin-top: 8em }
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
<button type="button" id="back">Previous</button><span id="range"></span>
<button type="button" id="next">Next</button>
<span class="legend">The worst first; click on a column to sort by it.</span></div>
$table</section>
$unmatched<script type="application/json" id="data">$data</script>
<script>
const byId = id => document.getElementById(id);
const data = JSON.parse(byId('data').textContent);
const table = byId('rows'), heads = table.tHead.rows[0].cells, body = table.tBodies[0];
const isBad = new Uint8Array(data.rows.length);
for (const place of data.bad) isBad[place] = 1;
let order = data.order, shown = order, first = 0;

const show = () => {
  const rows = document.createDocumentFragment();
  for (const place of shown.slice(first, first + data.page)) {
    const row = document.createElement('tr');
    row.id = 'row' + place;
    row.className = (isBad[place] ? 'bad' : '') + (place === data.suspect ? ' suspect' : '');
    data.rows[place].forEach((text, column) => {
      const cell = row.insertCell();
      cell.textContent = text;
      cell.className = heads[column].className;
    });
    rows.append(row);
  }
  body.replaceChildren(rows);
  turn();
};
const turn = () => {
  const last = Math.min(first + data.page, shown.length);
  byId('range').textContent = shown.length
    ? `$${first + 1} to $${last} of $${shown.length}` : 'none';
  byId('back').disabled = !first;
  byId('next').disabled = last === shown.length;
};
byId('back').onclick = () => { first = Math.max(first - data.page, 0); show(); };
byId('next').onclick = () => { first += data.page; show(); };

let texts;
const filter = () => {
  const wanted = byId('filter').value.toLowerCase(), onlyBad = byId('only-bad').checked;
  if (wanted) texts = texts || data.rows.map(row => row.join('\\n').toLowerCase());
  shown = wanted || onlyBad ? order.filter(place => (!onlyBad || isBad[place])
    && (!wanted || texts[place].includes(wanted))) : order;
  first = 0;
  show();
};
let waiting;
byId('filter').oninput = () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); };
byId('only-bad').onchange = filter;

const keys = {};
const keysOf = (column, isNumber) => keys[column] = keys[column] || data.rows.map(row => isNumber
  ? Number(row[column].replace('inf', 'Infinity'))
  : row[column].toLowerCase().replace(/[0-9]+/g, digits => digits.padStart(12, '0')));
table.tHead.onclick = event => {
  const head = event.target.closest('th'), isNumber = head.classList.contains('n');
  const direction = head.getAttribute('aria-sort') === 'ascending' ? 'descending' : 'ascending';
  const sign = direction === 'ascending' ? 1 : -1, key = keysOf(head.cellIndex, isNumber);
  const compare = (a, b) => key[a] < key[b] ? -sign : key[a] > key[b] ? sign : a - b;
  order = [...order].sort(isNumber ? (a, b) => isNaN(key[a]) || isNaN(key[b])
    ? isNaN(key[a]) - isNaN(key[b]) || a - b : compare(a, b) : compare);
  for (const each of heads) each.removeAttribute('aria-sort');
  head.setAttribute('aria-sort', direction);
  filter();
};

const goTo = place => {
  if (!shown.includes(place)) {
    byId('filter').value = '';
    byId('only-bad').checked = false;
    filter();
  }
  first = Math.floor(shown.indexOf(place) / data.page) * data.page;
  show();
  history.replaceState(null, '', '#');
  location.hash = 'row' + place;
};
const linked = () => {
  const match = /^#row([0-9]+)$$/.exec(location.hash);
  if (match && match[1] < data.rows.length && !byId('row' + match[1])) goTo(Number(match[1]));
};
window.onhashchange = linked;

const chart = byId('chart');
const placeAt = event => {
  const box = chart.getBoundingClientRect(), view = chart.viewBox.baseVal;
  const x = (event.clientX - box.left) / box.width * view.width;
  const y = (event.clientY - box.top) / box.height * view.height;
  const reach = 14, dots = data.heights;
  let best = null, least = reach * reach;
  const end = Math.min(dots.length - 1, Math.ceil((x + reach - data.left) / data.step));
  for (let i = Math.max(0, Math.floor((x - reach - data.left) / data.step)); i <= end; i++) {
    if (dots[i] === null) continue;
    /* A bad dot lies over good ones, so it is hit first. */
    const distance = (Math.hypot(x - data.left - i * data.step, y - dots[i]) ** 2)
      * (isBad[i] ? .5 : 1);
    if (distance < least) [best, least] = [i, distance];
  }
  return best;
};
chart.onmousemove = event => {
  const place = placeAt(event);
  chart.style.cursor = place === null ? 'default' : 'pointer';
  if (place !== null)
    byId('legend').textContent = [1, 2, 7].map(i => data.rows[place][i]).join('   ');
};
chart.onclick = event => {
  const place = placeAt(event);
  if (place !== null) goTo(place);
};
turn();
linked();
</script>
</body>
</html>
''')
