"""train.py and train_mixed.py on fake NPUs: real runs on the CPU, seen through the adapters."""

import os
import subprocess
import sys

import pytest
from conftest import FAKES, ROOT, SMALL

from pylib import read_json_lines
from tflib import checkpoint, npu, tf

CLASSIC = tf.__version__.startswith('1.')
ON_NPU = [word if word != 'cpu' else 'npu' for word in SMALL]


@pytest.fixture
def sessions(monkeypatch):
    """The ConfigProtos of all sessions opened in a test."""
    configs, create = [], tf.Session.__init__

    def recording(self, target='', graph=None, config=None):
        configs.append(config)
        create(self, target, graph, config)
    monkeypatch.setattr(tf.Session, '__init__', recording)
    return configs


def train(run, toy_data, *flags, script='train.py', name='x'):
    return run(script, '--experiment_name', name, '--dataroot', toy_data, *ON_NPU,
               '--epoch', '1', *flags)


def training_options(configs):
    """parameter_map values of the training session; data sessions are told to stay on the host."""
    options = [npu.options_in(config) for config in configs]
    assert all(each is not None for each in options)
    on_device = [each for each in options if each['use_off_line']]
    assert len(on_device) == 1 and len(options) > 1
    return on_device[0]


@pytest.mark.parametrize('version', [
    'r1.15', *(pytest.param(version, marks=pytest.mark.slow)
               for version in (['r1.5', 'r1.9'] if CLASSIC else ['r1.9']))])
def test_high_precision(run, toy_data, fake, sessions, version):
    recorder = fake(version)
    done = train(run, toy_data)
    assert done.status == 0, done.err
    assert 'device      NPU' in done.out
    options = training_options(sessions)
    assert options['precision_mode'] == 'allow_fp32_to_fp16'
    assert options['fusion_switch_file'] == npu.FUSION_SWITCH_FILE
    assert recorder.named('optimizer') == []
    if version != 'r1.5':    # which does not patch the session
        assert [npu.options_in(config) for config in recorder.sessions] == [
            npu.options_in(config) for config in sessions]


def test_mixed_precision_nests_the_optimizers(run, toy_data, fake, sessions):
    recorder = fake('r1.15', INF_NAN='0')
    done = train(run, toy_data, '--loss_scale', 1024, script='train_mixed.py')
    assert done.status == 0, done.err
    assert training_options(sessions)['precision_mode'] == 'allow_mix_precision'
    if CLASSIC:
        assert [each['nesting'] for each in recorder.named('optimizer')] == [
            ['NPULossScaleOptimizer', 'Adam']] * 2
        managers = [each['manager'] for each in recorder.named('optimizer')]
        assert managers[0] is not managers[1]
    # Read, then clear, once an update: 4 iterations of 2 D updates and 1 G update.
    assert recorder.ran == ['npu_get_float_status_v2', 'npu_clear_float_status_v2'] * 12
    (last,) = read_json_lines('output/x/metrics.jsonl')[-1:]
    assert (last['d_loss_scale'], last['g_loss_scale']) == (1024, 1024)
    assert (last['d_skipped'], last['g_skipped']) == (0, 0)


@pytest.mark.slow
def test_an_overflow_skips_one_update_and_two_halve_the_scale(run, toy_data, fake):
    # Updates are d d g d d g ...: 3 and 7 are D updates of the second and third iteration.
    fake('r1.15', INF_NAN='0', OVERFLOW_AT='3,7')
    assert train(run, toy_data, '--precision', 'mixed', '--loss_scale', 1024).status == 0
    log = read_json_lines('output/x/metrics.jsonl')
    assert [record['d_skipped'] for record in log] == [0, 1, 2, 2]
    assert [record['d_loss_scale'] for record in log] == [1024, 1024, 512, 512]
    assert {record['g_loss_scale'] for record in log} == {1024}
    assert {record['g_skipped'] for record in log} == {0}


@pytest.mark.slow
def test_a_fixed_loss_scale_stays(run, toy_data, fake):
    fake('r1.15', INF_NAN='0', OVERFLOW_AT='3,7')
    flags = ['--precision', 'mixed', '--loss_scale', 1024, '--fixed_loss_scale']
    assert train(run, toy_data, *flags).status == 0
    log = read_json_lines('output/x/metrics.jsonl')
    assert [record['d_skipped'] for record in log] == [0, 1, 2, 2]
    assert {record['d_loss_scale'] for record in log} == {1024}


@pytest.mark.slow
def test_a_skipped_update_changes_no_weight(run, toy_data, fake):
    def weights(name, overflows):
        fake('r1.15', INF_NAN='0', OVERFLOW_AT=overflows)
        done = train(run, toy_data, '--precision', 'mixed', '--lr', 1e-3, name=name)
        assert done.status == 0, done.err
        reader = tf.train.NewCheckpointReader(checkpoint.latest(f'output/{name}/checkpoints'))
        return {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()}
    # All updates of D are skipped: its weights and slots are the initial ones.
    skipped = weights('x', ','.join(str(i) for i in range(12) if i % 3 != 2))
    for name, value in skipped.items():
        if name.startswith('D/') and name.endswith(('/Adam', '/Adam_1')):
            assert not value.any(), name
    assert skipped['loss_scale/d/skipped'] == 8 and skipped['counter/counter'] == 4
    assert weights('y', '')['D/Conv/weights/Adam'].any()


@pytest.mark.slow
def test_norms_and_losses_keep_their_type(run, toy_data, fake, monkeypatch):
    fake('r1.15')
    graphs, build = [], npu.prepare_session

    def remember(config):
        graphs.append(tf.get_default_graph())
        build(config)
    monkeypatch.setattr(npu, 'prepare_session', remember)
    assert train(run, toy_data, '--precision', 'mixed').status == 0
    kept = [op.name for op in graphs[-1].get_operations() if '_keep_dtype' in op.node_def.attr]
    for part in ('InstanceNorm', 'BatchNorm', 'gradient_penalty', 'Adam'):
        assert [name for name in kept if part in name], part
    assert not [name for name in kept if name.endswith('Conv2D')]


@pytest.mark.slow
def test_dumps_profiles_and_other_options(run, toy_data, fake, sessions, tmp_path):
    fake('r1.15')
    done = train(run, toy_data, '--data_dump', '--data_dump_step', '0|5', '--profiling',
                 '--npu_option', 'hcom_parallel=true')
    assert done.status == 0, done.err
    options = training_options(sessions)
    assert options['dump_path'] == str(tmp_path / 'data_dump') and options['dump_step'] == '0|5'
    assert options['profiling_mode'] and options['hcom_parallel']
    assert (tmp_path / 'data_dump').is_dir() and (tmp_path / 'profiling').is_dir()


def test_the_adapter_leaves_resource_variables_on(fake):
    """Updates of the other kind race with the reads of a step."""
    fake()
    npu.load_adapter()
    assert tf.resource_variables_enabled()


def test_automatic_choice_finds_the_npu(run, fake):
    fake('r1.15')
    done = run('train.py', '--show_session')
    assert done.status == 0 and done.out.startswith('device        npu')


def test_editing_runs_on_the_npu(run, workspace, toy_data, fake, sessions):
    fake('r1.15')
    done = run('test.py', '--experiment_name', 'toy', '--img', 1, '--device', 'npu',
               '--precision', 'mixed')
    assert done.status == 0, done.err
    options = training_options(sessions)
    assert (options['precision_mode'], options['graph_run_mode']) == ('allow_mix_precision', 0)


def test_the_plan_of_a_test_is_shown(run, tmp_path):
    done = run('test.py', '--experiment_name', 'none', '--show_session', '--device', 'npu',
               '--npu_option', 'aoe_mode=3', 'adapter_version=r1.9', 'hcom_parallel=true')
    assert done.status == 0 and done.out.startswith('device        npu'), done.err
    for line in ('adapter       rules of r1.9', '  aoe_mode = 3', '  graph_run_mode = 0'):
        assert line in done.out.splitlines()
    done = run('test.py', '--experiment_name', 'none', '--show_session', '--device', 'npu',
               '--npu_option', 'aoe_mode=3')
    assert done.status == 2 and "aoe_mode: '3'; choose from" in done.err
    done = run('test.py', '--experiment_name', 'none', '--npu_option', 'hcom_parallel=true')
    assert done.status == 2 and '--npu_option: needs --device npu' in done.err
    assert not list(tmp_path.iterdir())


def test_options_reach_the_session_of_a_test(run, workspace, fake, sessions):
    fake('r1.15')
    done = run('test.py', '--experiment_name', 'toy', '--img', 1, '--device', 'npu',
               '--npu_option', 'precision_mode_v2=origin')
    assert done.status == 0, done.err
    options = training_options(sessions)
    assert options['precision_mode_v2'] == 'origin' and 'precision_mode' not in options
    assert options['graph_run_mode'] == 0


@pytest.mark.slow
def test_nothing_of_an_npu_is_imported_for_the_cpu(tmp_path, toy_data):
    code = ('import sys, runpy\n'
            f'sys.argv = ["train.py", *{[*map(str, SMALL)]!r}, "--epoch", "1",'
            f' "--experiment_name", "x", "--dataroot", {str(toy_data)!r}]\n'
            f'runpy.run_path({str(ROOT / "train.py")!r}, run_name="__main__")\n')
    check = ('import atexit, sys\n'
             'atexit.register(lambda: print([m for m in sys.modules if "npu_bridge" in m'
             ' or "npu_device" in m or "hccl" in m]))\n')
    path = os.pathsep.join([str(ROOT), *(str(FAKES / f'{name}_path')
                                         for name in ('npu_bridge', 'npu_device'))])
    done = subprocess.run([sys.executable, '-c', check + code], cwd=str(tmp_path),
                          env=dict(os.environ, PYTHONPATH=path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == '[]'


@pytest.mark.parametrize('flags, complaint', [
    (['--device', 'tpu'], '--device'), (['--precision', 'half'], '--precision'),
    (['--device', 'npu'], 'looked for npu_'),
    (['--device', 'npu', '--npu_option', 'precision_mode=fp8'], "precision_mode: 'fp8'"),
    (['--device', 'npu', '--npu_option', 'sump_mode=all'], '--npu_option sump_mode: unknown'),
    (['--device', 'npu', '--npu_option', 'hcom_parallel'], 'expected key=value'),
    (['--device', 'cpu', '--npu_option', 'hcom_parallel=true'], '--npu_option: needs --device npu'),
    (['--device', 'cpu', '--over_dump'], '--over_dump: needs --device npu')])
def test_bad_input(run, tmp_path, toy_data, flags, complaint):
    done = run('train.py', '--experiment_name', 'x', '--dataroot', toy_data, *flags)
    assert done.status == 2
    (line,) = done.err.strip().splitlines()
    assert complaint in line and not list(tmp_path.iterdir())


def test_an_unwritable_dump_path_is_named(run, toy_data, fake, tmp_path):
    fake('r1.15')
    (tmp_path / 'file').write_text('')
    done = train(run, toy_data, '--data_dump', '--data_dump_path', 'file')
    assert done.status == 2 and 'choose another path for dumps' in done.err
    assert not (tmp_path / 'output').exists()


@pytest.mark.skipif(not CLASSIC, reason='TensorFlow 2.x has 16-bit convolutions on CPUs')
def test_mixed_on_a_classic_cpu_is_refused(run, toy_data, tmp_path):
    done = run('train_mixed.py', '--experiment_name', 'x', '--dataroot', toy_data, *SMALL)
    assert done.status == 2 and 'has no 16-bit convolutions on CPUs' in done.err
    assert not (tmp_path / 'output').exists()


@pytest.mark.slow
@pytest.mark.skipif(CLASSIC, reason='TensorFlow 1.15 has no 16-bit convolutions on CPUs')
def test_checkpoints_are_interchangeable_between_precisions(run, workspace, toy_data):
    command = ['train.py', '--experiment_name', 'toy', '--dataroot', toy_data, *SMALL, '--lr', 1e-3]
    done = run(*command, '--epoch', 4, '--precision', 'mixed')
    assert done.status == 0, done.err
    assert 'resuming after iteration 12' in done.out and 'loss_scale/d' in done.err
    done = run(*command, '--epoch', 5)
    assert done.status == 0, done.err
    assert 'resuming after iteration 16' in done.out
    reader = tf.train.NewCheckpointReader(checkpoint.latest('output/toy/checkpoints'))
    kinds = {str(kind) for kind in reader.get_variable_to_dtype_map().values()}
    assert kinds == {"<dtype: 'float32'>", "<dtype: 'int64'>"}
