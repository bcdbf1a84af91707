"""The page: what it shows, that it is well-formed, and that nothing in it can come from outside."""

import json
import math
import os
import re
import time
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from precision_tool import report
from precision_tool.compare import Suspect, first_bad
from precision_tool.metrics import TITLES, Metrics
from precision_tool.results import Result, Row

OPTIONAL_END = {'tr', 'th', 'td', 'li', 'thead', 'p'}
EMPTY = {'meta', 'input', 'wbr'}


class Page(HTMLParser):
    """Tables as {id: list of rows of texts}, ids, tags and text of a page; tags must match."""

    def __init__(self, path):
        super().__init__()
        self.tables, self.ids, self.tags, self.classes, self.text = {}, [], [], {}, ''
        self._open = []
        with open(str(path), encoding='utf-8') as stream:
            self.source = stream.read()
        self.feed(self.source)
        self.close()
        assert not self._open
        self.data = json.loads(re.search('id="data">(.*?)</script>', self.source)[1])

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if 'id' in attrs:
            self.ids.append(attrs['id'])
            self.classes[attrs['id']] = attrs.get('class', '').split()
        if tag not in EMPTY | OPTIONAL_END:
            self._open.append(tag)
        if tag == 'table':
            self._rows = self.tables[attrs['id']] = []
        elif tag == 'tr':
            self._rows.append([])
        elif tag in ('th', 'td'):
            self._rows[-1].append('')

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in OPTIONAL_END:
            assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if 'table' in self._open and self._rows and self._rows[-1]:
            self._rows[-1][-1] += data.rstrip('\n')


def row(number, cosine, metrics=None, **fields):
    metrics = metrics or Metrics(cosine_similarity=cosine, max_absolute_error=12345.678,
                                 standard_deviation='(0.000;1.000),(0.000;1.000)')
    return Row(index=number, op_type='Conv2D', npu_dump=f'net/conv{number}', data_type='float16',
               ground_truth=f'net_conv{number}:0', golden_data_type='float32',
               tensor_index=f'net/conv{number}:output:0', shape='[1,2]', metrics=metrics
               )._replace(**fields)


def write(folder, result, suspect=None, threshold=0.98):
    path = str(folder / 'page.html')
    report.write_html(path, result, suspect, threshold)
    assert os.listdir(str(folder)) == ['page.html']
    return Page(path)


@pytest.fixture
def result():
    return Result([row(0, 1.), row(1, .99), row(2, math.nan, Metrics(), reason='sizes differ'),
                   row(3, .5), row(4, -1.)], ['a:output:0'], ['b:output:0', 'c:output:1'])


def test_page_shows_rows_suspect_and_what_is_unmatched(tmp_path, result):
    suspect = first_bad(result.rows, {'net/conv3': [('net/conv1', 0)]})
    page = write(tmp_path, result, suspect)
    head, *rows = page.tables['rows']
    assert head[:8] == ['#', 'Tensor', 'Type', 'ComparedWith', 'DataType', 'GoldenDataType',
                        'Shape', 'CosineSimilarity']
    assert set(TITLES) < set(head) and head[-1] == 'Reason'
    # The worst first; what was not compared last.
    assert [cells[:9] for cells in rows[:4]] == [
        [str(number), f'net/conv{number}:output:0', 'Conv2D', f'net_conv{number}:0', 'float16',
         'float32', '[1,2]', cosine, '1.235e+04']
        for number, cosine in ((4, '-1.000000'), (3, '0.500000'), (1, '0.990000'),
                               (0, '1.000000'))]
    assert rows[4][7:9] == ['NaN', 'NaN'] and rows[4][-1] == 'sizes differ'
    assert [page.data['rows'][place] for place in page.data['order']] == rows
    assert (page.data['bad'], page.data['suspect']) == ([3, 4], 3)
    assert {len(cells) for cells in rows} == {len(head)} == {18}
    assert [page.classes[f'row{place}'] for place in range(5)] == [
        [], [], [], ['bad', 'suspect'], ['bad']]
    assert [cells[1] for cells in page.tables['inputs'][1:]] == ['net/conv1:output:0']
    assert ('a', {'href': '#row3'}) in page.tags
    for text in ('First bad tensor: net/conv3:output:0', 'breaks here: its inputs are good',
                 '4pairs of tensors compared', '2bad (cosine below 0.98)',
                 '-1.000000lowest cosine', '1not comparable', 'Only on the left: 1\n\na:output:0',
                 'Only on the right: 2\n\nb:output:0\nc:output:1'):
        assert text in page.text
    assert len(page.ids) == len(set(page.ids))


def test_page_of_a_good_run_and_of_nothing(tmp_path):
    page = write(tmp_path, Result([row(0, 1.)], [], []))
    assert 'No bad tensor' in page.text and 'inputs' not in page.tables
    page = write(tmp_path, Result([], [], []))
    assert page.tables['rows'][1:] == [] and 'nonelowest cosine' in page.text
    assert 'Nothing was compared' in page.text and 'No bad tensor' not in page.text


@pytest.mark.parametrize('verdict', ['breaks here', 'inherits', 'unknown'])
def test_every_verdict_is_explained(tmp_path, result, verdict):
    page = write(tmp_path, result, Suspect(result.rows[3], [], verdict))
    assert re.search(f'{verdict}: [a-z ,;]{{30}}', page.text)
    # A suspect from elsewhere has no row to link to.
    page = write(tmp_path, result, Suspect(row(99, .1), [], verdict))
    assert 'First bad tensor: net/conv99:output:0' in page.text
    assert not any('href' in attrs for _, attrs in page.tags)


def chart(page):
    """The chart as an XML element."""
    return ElementTree.fromstring(re.search('<svg.*?</svg>', page.source, re.DOTALL).group())


def dots(svg, kind):
    path = next(path for path in svg.iter('path') if path.get('class') == kind)
    return [tuple(map(float, dot)) for dot in re.findall(r'M([\d.]+) ([\d.]+)h0', path.get('d'))]


def test_chart_has_a_dot_for_each_cosine(tmp_path, result):
    rows = result.rows + [row(5, math.nan, Metrics(relative_euclidean_distance=1.))]
    result = result._replace(rows=rows)
    page = write(tmp_path, result, first_bad(result.rows))
    svg = chart(page)
    good, bad = dots(svg, 'dots'), dots(svg, 'dots bad')
    assert len(good) == 2 and len(bad) == 3
    assert good[0][1] < good[1][1] < bad[0][1] < bad[1][1]  # downwards
    assert bad[2][1] == bad[1][1]  # what has no cosine, as -1
    assert good[0][0] < good[1][0] < bad[0][0] < bad[2][0]
    marked = next(circle for circle in svg.iter('circle'))
    assert (float(marked.get('cx')), float(marked.get('cy'))) == bad[0]
    threshold = next(path for path in svg.iter('path') if path.get('class') == 'threshold')
    assert good[1][1] < float(threshold.get('d').split()[1].partition('H')[0]) < bad[0][1]
    # Where the script looks for them.
    assert bad[0][0] == pytest.approx(page.data['left'] + 3 * page.data['step'], abs=.1)
    assert page.data['heights'] == [good[0][1], good[1][1], None, *(dot[1] for dot in bad)]


@settings(max_examples=30, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(), max_size=5), st.floats(-1, 1))
def test_chart_stays_within_its_frame(tmp_path, cosines, threshold):
    page = write(tmp_path, Result([row(place, value) for place, value in enumerate(cosines)],
                                  [], []), threshold=threshold)
    svg = chart(page)
    for x, y in dots(svg, 'dots') + dots(svg, 'dots bad'):
        assert 0 <= x <= 1000 and 0 <= y <= 300


@settings(max_examples=30, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(max_size=30), st.text('<>&"\'/$${}scriptimgonerror=', max_size=30)))
def test_every_text_is_escaped(tmp_path, text):
    hostile = f'</script></td><img src=x onerror=alert(1)>"\'&amp;$page\udcff{text}'
    fields = dict.fromkeys(('op_type', 'npu_dump', 'data_type', 'ground_truth', 'golden_data_type',
                            'tensor_index', 'shape', 'reason'), hostile)
    rows = [row(0, .5, Metrics(cosine_similarity=.5, standard_deviation=hostile), **fields)]
    plain = write(tmp_path, Result([row(0, .5)], ['x'], ['y']), Suspect(row(0, .5), [row(0, .5)],
                                                                        'inherits'))
    page = write(tmp_path, Result(rows, [hostile], [hostile]), Suspect(rows[0], rows, 'inherits'))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    for texts in (page.tables['rows'][1], page.data['rows'][0]):
        assert texts[1].startswith('</script></td><img src=x onerror=alert(1)>"\'&amp;$page\\udcff')


def test_page_needs_no_network(tmp_path, result):
    page = write(tmp_path, result, first_bad(result.rows))
    assert not re.search('https?:|//|url\\(|@import|<link|<iframe|fetch|XMLHttp', page.source)
    assert not any({'src', 'xlink:href'} & set(attrs) for _, attrs in page.tags)
    policy = next(attrs['content'] for tag, attrs in page.tags if 'http-equiv' in attrs)
    assert policy.startswith("default-src 'none';")
    # Every element the script asks for is there.
    wanted = set(re.findall(r"byId\('([\w-]+)'\)", page.source))
    assert wanted == {'filter', 'only-bad', 'rows', 'chart', 'legend', 'data', 'back', 'next',
                      'range'}
    assert wanted < set(page.ids)


def test_ten_thousand_rows_are_fast_and_small(tmp_path):
    result = Result([row(number, 1 - number * 1e-6) for number in range(10000)], [], [])
    path = str(tmp_path / 'page.html')
    start = time.process_time()
    report.write_html(path, result, None, .98)
    assert time.process_time() - start < 5
    assert os.path.getsize(path) < 8e6
    page = Page(path)
    assert len(page.data['rows']) == 10000
    assert len(page.tables['rows']) == 1 + page.data['page'] < 500
    assert page.tables['rows'][1][0] == '9999'
