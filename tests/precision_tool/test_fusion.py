"""Fusion results: each form the compiler has written over the years, and damaged ones."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precision_tool.fusion import Fusion, read_fusion
from pylib import UserError

PASSES = {'graph_fusion': {'ConvBatchnormFusionPass': {'effect_times': '3', 'match_times': '4'},
                           'ZConcatPass': {'effect_times': '0', 'match_times': '1'}},
          'ub_fusion': {'TbeConvReluFusionPass': {'effect_times': 2, 'match_times': 2,
                                                  'repository_hit_times': '0'}}}
OTHER = {'graph_fusion': {'CastRemove': {'effect_times': '1', 'match_times': '1'}}}


def expected(first, second):
    return [Fusion(first, 'graph', 'ConvBatchnormFusionPass', 3),
            Fusion(first, 'graph', 'ZConcatPass', 0),
            Fusion(first, 'ub', 'TbeConvReluFusionPass', 2),
            Fusion(second, 'graph', 'CastRemove', 1)]


def read(tmp_path, text):
    path = tmp_path / 'fusion_result.json'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_fusion(str(path))


def test_all_forms_are_read(tmp_path):
    graphs = [dict(PASSES, session_and_graph_id='0_1'), dict(OTHER, graphId='7')]
    assert read(tmp_path, json.dumps(graphs)) == expected('0_1', '7')
    assert read(tmp_path, '\n'.join(json.dumps(each, indent=4) for each in graphs)) == (
        expected('0_1', '7'))
    assert read(tmp_path, json.dumps(graphs[0]) + json.dumps(graphs[1])) == expected('0_1', '7')
    assert read(tmp_path, json.dumps({'session_and_graph_id_0_1': PASSES,
                                      'session_and_graph_id_0_7': OTHER})) == (
        expected('0_1', '0_7'))
    assert read(tmp_path, json.dumps(PASSES)) == expected('', '')[:3]


def test_nothing_was_fused(tmp_path):
    assert read(tmp_path, '[]') == read(tmp_path, '{}') == []
    assert read(tmp_path, '{"graphId": "1", "graph_fusion": {}}') == []


@pytest.mark.parametrize('text, complaint', [
    ('', ': empty'),
    ('\n{"a": 1}', ':2: no fusion result (expected graph_fusion'),
    ('3', ':1: no fusion result (expected an object for each graph'),
    ('{"graph_fusion": {}}\n{"graph_fusion": {', ':2: not JSON'),
    ('{"graph_fusion": []}', ':1: no fusion result (graph_fusion: expected an object)'),
    ('{"graph_fusion": {"A\\nB": 2}}', ":1: no fusion result ('A\\nB': expected an object)"),
    ('{"graph_fusion": {"A": {"effect_times": "-1"}}}',
     ":1: no fusion result ('A': effect_times: expected a natural number)"),
    ('{"graphId": {}, "ub_fusion": {}}', ':1: no fusion result (graphId/session_and_graph_id'),
    ('{"session_and_graph_id_0_1": 3}', ":1: no fusion result (graph '0_1': expected an object)"),
    ('[' * 100000, ': JSON nested too deep'),
    (b'\xff\xfe\x00', ': not text')], ids=lambda value: str(value)[:20])
def test_damage_is_located(tmp_path, text, complaint):
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / 'fusion_result.json') + complaint)
    assert '\n' not in str(error.value)


def test_missing_and_odd_files(tmp_path):
    for path in (tmp_path / 'none', tmp_path):
        with pytest.raises(UserError):
            read_fusion(str(path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(['graph_fusion', 'ub_fusion', 'graphId', 'effect_times', 'match_times',
                         'session_and_graph_id', 'session_and_graph_id_0_0']) | st.text(max_size=3),
        inner, max_size=3), max_leaves=8)


@settings(max_examples=50, deadline=None)
@given(st.lists(JSON, max_size=3).map(lambda values: ' '.join(map(json.dumps, values)).encode())
       | st.binary(max_size=50))
def test_fuzz(tmp_path_factory, data):
    path = tmp_path_factory.mktemp('fuzz') / 'fusion_result.json'
    path.write_bytes(data)
    try:
        fusions = read_fusion(str(path))
    except UserError as error:
        assert str(error).startswith(str(path)) and '\n' not in str(error)
    else:
        assert all(isinstance(fusion, Fusion) for fusion in fusions)
