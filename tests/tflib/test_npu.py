"""NPU options and the session plan; the fakes in tests/fakes stand for the adapter elsewhere."""

import ctypes
import itertools
import json
import os
import types
from pathlib import Path

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
    ({'enable_exception_dump': 3}, 'enable_exception_dump: 3'),
    ({'precision_mode': 'fp16'}, "precision_mode: 'fp16'; choose from"),
    ({'precision_mode': 'force_fp32', 'precision_mode_v2': 'fp16'}, 'precision_mode_v2: not'),
    ({'modify_mixlist': __file__, 'precision_mode': 'force_fp32'}, 'modify_mixlist: only with'),
    ({'enable_dump': True}, 'dump_path: missing'),
    ({'enable_dump': True, 'dump_path': 'x', 'dump_step': '1-'}, "dump_step: '1-'"),
    ({'optypelist_for_implmode': 'Pooling'}, 'optypelist_for_implmode: needs'),
    ({'hccl_timeout': 1 << 63}, 'hccl_timeout: 9223372036854775808 is not a number of 64 bits'),
    ({'dynamic_dims': '1;2'}, 'dynamic_dims: input_shape'),
    ({'fusion_switch_file': 'nowhere'}, 'fusion_switch_file: nowhere: no such file')])
def test_illegal_options_are_named(options, complaint):
    with pytest.raises(UserError, match='NPU option ' + complaint):
        plan(**options)


# What the adapters' own option parser takes: rule, options, versions of the adapter.
RULES = json.loads((Path(__file__).parent / 'npu_rules.json').read_text('utf-8'))


@pytest.fixture
def plain_folder(tmp_path, monkeypatch):
    """The working directory, with a file FILE; no adapter's version is chosen before or after."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'FILE').write_text('{}')
    monkeypatch.delenv('AOE_MODE', raising=False)
    monkeypatch.setattr(npu, '_chosen', {})


@pytest.mark.parametrize('version', RULES['versions'])
def test_options_are_refused_as_the_adapter_refuses_them(plain_folder, version):
    npu.choose_adapter_version(version)
    wrong = []
    for row in RULES['rows']:
        legal = row['legal'] == 'all' or version in row['legal']
        try:
            npu.check_options(row['options'])
        except UserError as error:
            assert '\n' not in str(error)
            if legal:
                wrong.append((row, str(error)))
        else:
            if not legal:
                wrong.append((row, 'accepted'))
    assert not wrong


def test_what_one_of_the_possible_adapters_takes_is_taken(monkeypatch):
    monkeypatch.setattr(npu, 'adapter_versions', lambda: ['r1.14', 'r3.2'])
    for value in ('true', 'True'):
        npu.check_options({'jit_compile': value})
    with pytest.raises(UserError, match="jit_compile: 'on'; choose from true"):
        npu.check_options({'jit_compile': 'on'})


def test_the_environment_can_ask_for_tuning(plain_folder, monkeypatch):
    monkeypatch.setenv('AOE_MODE', '9')
    with pytest.raises(UserError, match="aoe_mode: '9'"):
        npu.check_options({})
    npu.check_options({'aoe_mode': '1'})    # goes first


@pytest.mark.parametrize('text, name', [('r1.9', 'r1.9'), ('r1.15.0', 'r1.15'),
                                        ('master', 'master'), ('development', 'development')])
def test_the_adapter_s_version_is_an_option_of_the_plan(plain_folder, text, name):
    options = npu.training_options('high', extra=['jit_compile=auto', f'adapter_version={text}']
                                   if name in ('r1.15', 'master') else [f'adapter_version={text}'])
    assert npu.adapter_versions() == [name] and 'adapter_version' not in options
    npu.training_options('high')
    assert npu.adapter_versions() == ['master']    # of this plan only


def test_an_unknown_version_is_named(plain_folder):
    with pytest.raises(UserError, match='adapter_version=r9.9: unknown; choose from .*r1.9'):
        npu.training_options('high', extra=['adapter_version=r9.9'])


def test_jit_compile_is_of_the_version_s_kind(plain_folder):
    for version, value in (('r1.10', True), ('r1.15', 'true')):
        options = npu.training_options('high', extra=['jit_compile=true',
                                                      f'adapter_version={version}'])
        config = plan(**options)
        (optimizer,) = config.graph_options.rewrite_options.custom_optimizers
        field = optimizer.parameter_map['jit_compile']
        assert field.WhichOneof('value') == ('b' if value is True else 's')
        assert npu.options_in(config)['jit_compile'] == value


def test_steps_are_read_as_c_reads_them(plain_folder):
    atoi = ctypes.CDLL(None).atoi
    steps = ['0', '007', '4294967295', '4294967296', '9223372036854775807', '9' * 19, '1' * 20,
             '0' * 5000 + '7', '9' * 5000]
    for first, last in itertools.product(steps, steps):
        options = {'enable_dump': True, 'dump_path': '.', 'dump_step': f'{first}-{last}'}
        if atoi(first.encode()) < atoi(last.encode()):
            npu.check_options(options)
        else:
            with pytest.raises(UserError, match='dump_step'):
                npu.check_options(options)


def test_text_for_a_bool_is_taken_and_told(plain_folder, capfd):
    options = npu.training_options('high', extra=['jit_compile=auto', 'adapter_version=r1.11'])
    (optimizer,) = plan(**options).graph_options.rewrite_options.custom_optimizers
    assert optimizer.parameter_map['jit_compile'].s == b'auto'
    error = capfd.readouterr().err
    assert error.count('\n') == 1 and 'jit_compile=auto: adapter r1.11 knows true and' in error


def test_modify_mixlist_names_the_option_it_goes_with(plain_folder):
    with pytest.raises(UserError, match='only with precision_mode=allow_mix_precision or .*'
                                        'precision_mode_v2=mixed_float16 or .*, not with '
                                        'precision_mode_v2=fp16'):
        npu.check_options({'modify_mixlist': 'FILE', 'precision_mode_v2': 'fp16'})


def test_the_second_precision_mode_is_instead_of_the_first():
    for precision in ('high', 'mixed'):
        options = npu.training_options(precision, extra=['precision_mode_v2=origin'])
        assert options['precision_mode_v2'] == 'origin' and 'precision_mode' not in options
    with pytest.raises(UserError, match='precision_mode_v2: not together'):
        npu.training_options('high', extra=['precision_mode_v2=origin',
                                            'precision_mode=force_fp32'])


def test_inference_may_be_told_otherwise():
    assert npu.inference_options('high')['graph_run_mode'] == 0
    assert npu.inference_options('high', ['graph_run_mode=1'])['graph_run_mode'] == 1


@pytest.mark.parametrize('text', ['no JSON', '[]', '{"output": 3}'])
def test_profiling_options_of_any_form_make_no_traceback(monkeypatch, capfd, text):
    monkeypatch.setattr(npu, '_configured', {})
    npu.prepare_session(plan(profiling_mode=True, profiling_options=text))
    assert capfd.readouterr().err.count('\n') == 1


@pytest.mark.parametrize('version, names', [
    ('r1.5', ['r1.5', 'development']), ('r1.9', ['r1.9', 'r1.8']), ('r1.15', ['r1.15', 'master'])])
def test_the_version_of_a_loaded_adapter_is_found(fake, version, names):
    fake(version)
    if version == 'r1.5' and not tf.__version__.startswith('1.'):
        return    # no adapter for TensorFlow 2 yet
    assert len(npu.adapter_versions()) > 2    # one is there, which is not known yet
    npu.load_adapter()
    assert npu.adapter_versions() == names
    npu.check_options({'aoe_mode': {'r1.5': '3', 'r1.9': '3', 'r1.15': '4'}[version]})
    if version == 'r1.15':
        with pytest.raises(UserError, match='aoe_mode'):
            npu.check_options({'aoe_mode': '3'})


def test_without_the_communication_library_the_message_is_one_line(fake):
    fake('r1.15', NO_HCCL='1')
    with pytest.raises(UserError, match='load hccl lib error.*set_env.sh') as error:
        npu.load_adapter()
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('version', ['r1.9', 'r1.15'])
@pytest.mark.parametrize('overflows', [[False, True, False]])
def test_the_overflow_flag_is_read_as_the_version_has_it(fake, version, overflows):
    recorder = fake(version, INF_NAN='0', OVERFLOW_AT='1')
    npu.load_adapter()
    with tf.Graph().as_default():
        finite = npu.no_overflow([tf.constant(1.), None])
        with tf.Session() as session:
            assert [not session.run(finite) for _ in overflows] == overflows
    suffix = '_v2' if version == 'r1.15' else ''
    assert recorder.ran[:2] == [f'npu_get_float_status{suffix}', f'npu_clear_float_status{suffix}']


def test_a_status_with_an_argument_is_read_where_there_is_no_other(fake, monkeypatch):
    recorder = fake('r1.9', INF_NAN='0', OVERFLOW_AT='1')
    npu.load_adapter()
    ops = npu._float_status_ops()
    library = types.SimpleNamespace(npu_get_float_status_v2=ops.npu_get_float_status_v2,
                                    npu_clear_float_status_v2=ops.npu_clear_float_status_v2)
    monkeypatch.setattr(npu, '_float_status_ops', lambda: library)
    with tf.Graph().as_default():
        finite = npu.no_overflow([tf.constant(1., tf.float16)])
        with tf.Session() as session:
            assert [bool(session.run(finite)) for _ in range(3)] == [True, False, True]
    assert recorder.ran[:2] == ['npu_get_float_status_v2', 'npu_clear_float_status_v2']


def test_devices_that_keep_infinities_have_no_flag(fake):
    recorder = fake('r1.15', INF_NAN='1', OVERFLOW_AT='0')
    npu.load_adapter()
    with tf.Graph().as_default(), tf.Session() as session:
        assert session.run(npu.no_overflow([tf.constant(1.)]))
    assert not recorder.ran


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
