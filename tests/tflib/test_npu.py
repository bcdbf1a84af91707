"""NPU options and the session plan; the fakes in tests/fakes stand for the adapter elsewhere."""

import json
import os

import pytest

from pylib import UserError
from tflib import npu, tf, utils


def plan(**options):
    config = tf.ConfigProto()
    npu.add_to_config(config, options)
    return config


def test_high_precision_switches_the_fusion_pass_off():
    options = npu.training_options('high')
    assert options['precision_mode'] == 'allow_fp32_to_fp16'
    path = options['fusion_switch_file']
    assert os.path.isabs(path)
    with open(path) as stream:
        switch = json.load(stream)['Switch']
    assert switch == {'GraphFusion': {}, 'UBFusion': {'TbeMultiOutputFusionPass': 'off'}}


def test_mixed_precision():
    options = npu.training_options('mixed')
    assert options['precision_mode'] == 'allow_mix_precision'
    assert 'fusion_switch_file' not in options


def test_config_proto_fields_have_their_kinds():
    config = plan(use_off_line=True, iterations_per_loop=5, precision_mode='allow_mix_precision')
    (optimizer,) = config.graph_options.rewrite_options.custom_optimizers
    assert optimizer.name == 'NpuOptimizer'
    assert optimizer.parameter_map['use_off_line'].b is True
    assert optimizer.parameter_map['iterations_per_loop'].i == 5
    assert optimizer.parameter_map['precision_mode'].s == b'allow_mix_precision'
    rewrite = config.graph_options.rewrite_options
    assert rewrite.remapping == rewrite.memory_optimization == rewrite.OFF
    assert npu.options_in(config) == {'use_off_line': True, 'iterations_per_loop': 5,
                                      'precision_mode': 'allow_mix_precision'}
    assert npu.options_in(tf.ConfigProto()) is None


@pytest.mark.parametrize('options, complaint', [
    ({'sump_mode': 'all'}, 'sump_mode: unknown'),
    ({'use_off_line': 'true'}, 'use_off_line: expected bool'),
    ({'iterations_per_loop': True}, 'iterations_per_loop: expected int'),
    ({'jit_compile': True}, 'jit_compile: expected str'),
    ({'iterations_per_loop': 0}, 'iterations_per_loop: 0 is not between 1'),
    ({'op_debug_level': 5}, 'op_debug_level: 5'),
    ({'precision_mode': 'fp16'}, "precision_mode: 'fp16'; choose from"),
    ({'precision_mode': 'force_fp32', 'precision_mode_v2': 'fp16'}, 'precision_mode_v2: not'),
    ({'modify_mixlist': __file__, 'precision_mode': 'force_fp32'}, 'modify_mixlist: only with'),
    ({'enable_dump': True}, 'dump_path: missing'),
    ({'dump_step': '1-'}, "dump_step: '1-'"),
    ({'op_select_implmode': 'high_precision'}, 'op_select_implmode: needs'),
    ({'mix_compile_mode': True, 'iterations_per_loop': 2}, 'mix_compile_mode: not with'),
    ({'dynamic_dims': '1;2'}, 'dynamic_dims: input_shape'),
    ({'fusion_switch_file': 'nowhere'}, 'fusion_switch_file: nowhere: no such file')])
def test_illegal_options_are_named(options, complaint):
    with pytest.raises(UserError, match='NPU option ' + complaint):
        plan(**options)


@pytest.mark.parametrize('text, wanted', [
    ('hcom_parallel=True', ('hcom_parallel', True)), ('hccl_timeout=600', ('hccl_timeout', 600)),
    ('dump_step=0|5|10-20', ('dump_step', '0|5|10-20'))])
def test_options_from_the_command_line(text, wanted):
    assert npu.parse_option(text) == wanted


@pytest.mark.parametrize('text, complaint', [
    ('precision', 'expected key=value'), ('sump_mode=all', 'unknown; choose from'),
    ('hcom_parallel=1', 'expected true or false'), ('hccl_timeout=x', 'expected a whole number')])
def test_illegal_texts_are_named(text, complaint):
    with pytest.raises(UserError, match='--npu_option .*' + complaint):
        npu.parse_option(text)


def test_dumps_and_profiles(tmp_path):
    over = npu.training_options('high', over_dump_path='o')
    assert (over['enable_dump_debug'], over['dump_debug_mode']) == (True, 'all')
    data = npu.training_options('high', data_dump_path='d', data_dump_step='1|2')
    assert (data['enable_dump'], data['dump_mode'], data['dump_step']) == (True, 'all', '1|2')
    assert data['dump_path'] == os.path.abspath('d')
    profile = npu.training_options('mixed', profiling_path='p')
    assert json.loads(profile['profiling_options'])['output'] == os.path.abspath('p')
    with pytest.raises(UserError, match='one at a time'):
        npu.training_options('high', over_dump_path='o', data_dump_path='d')


def test_extra_options_win():
    options = npu.training_options('high', extra=['precision_mode=must_keep_origin_dtype',
                                                  'hcom_parallel=true'])
    assert options['precision_mode'] == 'must_keep_origin_dtype'
    assert options['hcom_parallel'] is True


def test_folders_are_made_with_the_session_and_one_configuration_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(npu, '_configured', {})
    folder = tmp_path / 'dump'
    config = plan(enable_dump=True, dump_path=str(folder))
    assert not folder.exists()
    npu.prepare_session(config)
    assert folder.is_dir()
    npu.prepare_session(plan(enable_dump=True, dump_path=str(folder)))
    with pytest.raises(UserError, match='NPU options precision_mode: a process keeps'):
        npu.prepare_session(plan(enable_dump=True, dump_path=str(folder),
                                 precision_mode='force_fp32'))


def test_an_unusable_dump_path_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(npu, '_configured', {})
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='choose another path for dumps'):
        npu.prepare_session(plan(enable_dump=True, dump_path=str(tmp_path / 'file')))


def test_session_configurations():
    npu_config = utils.session_config('npu', 'mixed')
    assert npu.options_in(npu_config)['precision_mode'] == 'allow_mix_precision'
    high = utils.session_config('cpu', 'high').graph_options.rewrite_options
    gpu = utils.session_config('gpu', 'mixed').graph_options.rewrite_options
    assert gpu.auto_mixed_precision == gpu.ON and not high.auto_mixed_precision
    if tf.__version__.startswith('1.'):
        with pytest.raises(UserError, match='has no 16-bit convolutions on CPUs'):
            utils.session_config('cpu', 'mixed')
    else:
        cpu = utils.session_config('cpu', 'mixed').graph_options.rewrite_options
        assert cpu.auto_mixed_precision_onednn_bfloat16 == cpu.ON


def test_without_cann_the_message_says_what_to_do():
    with pytest.raises(UserError, match='looked for npu_.*set_env.sh'):
        utils.resolve_device('npu')
