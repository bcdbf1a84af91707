"""ModelZoo's run scripts: what they pass on, what they report, how they end."""

import json
import os
import platform
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

SCRIPTS = ROOT / 'scripts' / 'ascend'
ENVIRONMENT = ('RANK_SIZE', 'RANK_ID', 'JOB_ID', 'ASCEND_DEVICE_ID', 'ASCEND_GLOBAL_LOG_LEVEL',
               'RANK_TABLE_FILE')

# Stands for Python: notes how it was called, then does what the test wants.
INTERPRETER = '''#!{python}
import json, os, sys, time
with open('calls.jsonl', 'a') as stream:
    print(json.dumps([sys.argv[1:], {{name: os.environ.get(name) for name in {names!r}}},
                      len(os.sched_getaffinity(0))]), file=stream)
print('epoch 1', flush=True)
{action}
'''


def start(kind, folder, *arguments, python=sys.executable, devices=1, **environment):
    script = SCRIPTS / f'train_{kind}_{devices}p.sh'
    return subprocess.Popen(
        ['bash', str(script), *arguments], cwd=str(folder), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=dict(os.environ, PYTHON=str(python), **environment))


def finish(*arguments, **options):
    """(exit status, stdout, stderr) of a script."""
    process = start(*arguments, **options)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.fixture
def stand_in(tmp_path):
    """A function that makes an interpreter with an action; it returns its path."""
    def make(action=''):
        path = tmp_path / 'interpreter'
        path.write_text(INTERPRETER.format(python=sys.executable, names=ENVIRONMENT, action=action))
        path.chmod(0o755)
        return path
    return make


def calls(folder):
    """[(script below the root, {flag: words}, environment, cores)] of the stand-in."""
    found = []
    for line in (folder / 'calls.jsonl').read_text().splitlines():
        (script, *words), environment, cores = json.loads(line)
        flags = {}
        for word in words:
            if word.startswith('--'):
                flag = word
            flags.setdefault(flag, []).extend([] if word is flag else [word])
        found.append((os.path.relpath(script, str(ROOT)), flags, environment, cores))
    return found


def test_every_argument_is_passed_on(tmp_path, stand_in):
    status, out, err = finish(
        'full', tmp_path, '--data_path=my data', '--ckpt_path=ckpt', '--over_dump=True',
        '--data_dump_flag=True', '--data_dump_step=0|5', '--profiling=True', '--autotune=True',
        '--bind_core=True', '--batch_size=8', '--atts=Bald Young', '--use_cropped_img',
        '--classifier_path=clf', python=stand_in(), ASCEND_DEVICE_ID='3')
    assert (status, err) == (0, ''), err
    (train, test, quality, accuracy, report) = calls(tmp_path)
    script, flags, environment, cores = train
    assert script == 'train_mixed.py'
    assert flags == {
        '--experiment_name': ['STGAN_bs8_1p_acc'], '--dataroot': ['my data'], '--device': ['npu'],
        '--npu_option': ['precision_mode=allow_mix_precision', 'auto_tune_mode=RL,GA'],
        '--over_dump': [], '--over_dump_path': ['output/overflow_dump'],
        '--data_dump': [], '--data_dump_path': ['output/data_dump'], '--data_dump_step': ['0|5'],
        '--profiling': [], '--profiling_dump_path': ['output/profiling'],
        '--init_checkpoint': ['ckpt'], '--batch_size': ['8'], '--atts': ['Bald', 'Young'],
        '--use_cropped_img': []}
    assert environment == {'RANK_SIZE': '1', 'RANK_ID': '0', 'JOB_ID': '10087',
                           'ASCEND_DEVICE_ID': '3', 'ASCEND_GLOBAL_LOG_LEVEL': '3',
                           'RANK_TABLE_FILE': None}
    assert cores == max(1, os.cpu_count() // 8)
    assert [call[0] for call in (test, quality, accuracy, report)] == [
        'test.py', 'psnr_ssim.py', 'att_classification/test.py', 'scripts/ascend/report_run.py']
    assert accuracy[1]['--checkpoint'] == ['clf']
    assert report[1]['--output_dir'] == ['output/3']
    assert (tmp_path / 'output' / '3' / 'train_3.log').read_text().count('epoch 1') == 4


def test_the_launcher_starts_several_devices(tmp_path, stand_in):
    """What its table has of NPUs, or as many others as are asked for."""
    def words(*arguments, action='', **environment):
        status, _, err = finish('performance', tmp_path, '--data_path=d', *arguments, devices=8,
                                python=stand_in(action), **environment)
        assert (status, err) == (0, ''), err
        lines = (tmp_path / 'calls.jsonl').read_text().splitlines()
        (tmp_path / 'calls.jsonl').unlink()
        found = [json.loads(line)[:2] for line in lines]
        assert found[0][1]['RANK_TABLE_FILE'] is None
        return [[os.path.relpath(call[0], str(ROOT)), *call[1:], environment['RANK_SIZE']]
                for call, environment in found]
    said_by_rank_0 = 'print("[0] experiment", flush=True)'
    (tmp_path / 'table.json').write_text('{"rank_id": "0"}, {"rank_id": "1"}')
    for arguments, environment in ((['--rank_table_file=table.json'], {}),
                                   ([], {'RANK_TABLE_FILE': 'table.json'})):
        launched, report = words(*arguments, action=said_by_rank_0, **environment)
        assert launched[:4] == ['scripts/launch.py', '--rank_table', 'table.json', '--']
        assert launched[5:8] == [str(ROOT / 'train_mixed.py'), '--experiment_name',
                                 'STGAN_bs64_8p_perf']
        assert launched[launched.index('--distribute') + 1] == 'hccl'
        assert launched[launched.index('--epoch') + 1] == '2'
        assert (report[0], report[-1]) == ('scripts/ascend/report_run.py', '2')
    # Of another server's NPUs only that one reports.
    assert len(words('--rank_table_file=table.json')) == 1
    launched, report = words('--device=cpu', '--device_num=3', action=said_by_rank_0)
    assert launched[:4] == ['scripts/launch.py', '-n', '3', '--'] and report[-1] == '3'
    assert '--distribute' not in launched
    status, _, err = finish('full', tmp_path, '--data_path=d', '--rank_table_file=none',
                            python=stand_in(), devices=8)
    assert (status, err) == (2, 'error: --rank_table_file=none: cannot be read\n')


@pytest.mark.parametrize('name, is_cleared', [('Epoch_(1)_(4of4).ckpt', True),
                                              ('Epoch_(2)_(4of4).ckpt', False)])
def test_sheets_of_earlier_weights_are_made_anew(tmp_path, stand_in, name, is_cleared):
    folder = tmp_path / 'output' / 'STGAN_bs64_1p_acc'
    for path, text in (('checkpoints/checkpoint',
                        'model_checkpoint_path: "Epoch_(2)_(4of4).ckpt"\n'
                        'all_model_checkpoint_paths: "Epoch_(1)_(4of4).ckpt"\n'),
                       ('sample_testing/sheet.json', f'{{\n    "checkpoint": "{name}",\n')):
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text(text)
    status, _, err = finish('full', tmp_path, '--data_path=d', python=stand_in())
    assert (status, err) == (0, '')
    assert ('--clear' in calls(tmp_path)[1][1]) is is_cleared


def test_precision_mode_chooses_the_command(tmp_path, stand_in):
    status, _, err = finish('performance', tmp_path, '--data_path=d', python=stand_in())
    assert status == 0, err
    status, _, err = finish('performance', tmp_path, '--data_path=d', '--epoch=3',
                            '--precision_mode=must_keep_origin_dtype', python=stand_in())
    assert status == 0, err
    mixed, _, high, _ = calls(tmp_path)
    assert (mixed[0], high[0]) == ('train_mixed.py', 'train.py')
    assert high[1]['--npu_option'] == ['precision_mode=must_keep_origin_dtype']
    assert mixed[1]['--experiment_name'] == ['STGAN_bs64_1p_perf']
    # Short and from the start; the user's own flags come last and win.
    assert mixed[1]['--train_image_num'] == ['38400'] and '--clear' in mixed[1]
    assert list(high[1]['--epoch']) == ['1', '3']


@pytest.mark.parametrize('arguments, complaint', [
    ([], '--data_path=DIR is missing'),
    (['--data_path'], '--data_path: expected --data_path=value'),
    (['--data_path=d', 'oops'], 'oops: expected --key=value'),
    (['--data_path=d', '--over_dump=maybe'], '--over_dump=maybe: expected True or False'),
    (['--data_path=d', '--device=cpu', '--autotune=True'], '--autotune=True: needs --device=npu'),
    (['--data_path=d', '--conda_name=nobody'], '--conda_name=nobody: '),
])
def test_bad_arguments(tmp_path, arguments, complaint):
    status, out, err = finish('full', tmp_path, *arguments)
    assert (status, out) == (2, '') and complaint in err and err.count('\n') == 1
    assert not list(tmp_path.iterdir())


def test_help(tmp_path):
    status, out, err = finish('performance', tmp_path, '-h')
    assert (status, err) == (0, '') and out.startswith('usage: train_performance_1p.sh')


def test_the_training_s_status_and_message_are_kept(tmp_path, stand_in):
    python = stand_in('sys.exit("error: no such image")')
    assert finish('full', tmp_path, '--data_path=d', python=python)[::2] == (
        1, 'error: no such image\n')
    assert len(calls(tmp_path)) == 1
    status, _, err = finish('full', tmp_path, '--data_path=nowhere', '--device=cpu',
                            '--precision_mode=force_fp32')
    assert status == 2 and 'nowhere' in err and err.count('\n') == 1


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize('status', ['128 + signum', '0'], ids=['stopped', 'was at its end'])
def test_a_signal_reaches_the_training_once(tmp_path, stand_in, signum, status):
    """And nothing follows it, whatever the training makes of it."""
    python = stand_in('''
import signal
def stop(signum, frame):
    with open('signals', 'a') as stream:
        stream.write(f'{signum} ')
    time.sleep(.5)
    sys.exit(STATUS)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
open('ready', 'w').close()
time.sleep(60)
'''.replace('STATUS', status))
    # Tests in the background of a shell have SIGINT ignored, which children would inherit.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        ['bash', str(SCRIPTS / 'train_full_1p.sh'), '--data_path=d'], cwd=str(tmp_path),
        env=dict(os.environ, PYTHON=str(python)), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True)
    signal.signal(signal.SIGINT, before)
    while not (tmp_path / 'ready').exists():
        time.sleep(.05)
    # As a terminal or a batch system does: to all that the script started in its group.
    os.killpg(process.pid, signum)
    assert process.wait(30) == 128 + signum
    assert (tmp_path / 'signals').read_text() == f'{int(signum)} '
    assert len(calls(tmp_path)) == 1


@pytest.mark.slow
@pytest.mark.parametrize('devices, workers', [(1, 1), (8, 2)])
def test_on_the_cpu(tmp_path, toy_data, devices, workers):
    """Nothing is a stand-in here: training, editing, measuring and the report."""
    status, out, err = finish(
        'full', tmp_path, *[f'--device_num={workers}'] * (devices > 1),
        f'--data_path={toy_data}', '--device=cpu', '--precision_mode=force_fp32',
        '--batch_size=4', '--img_size=32', '--enc_dim=4', '--dec_dim=4', '--stu_dim=4',
        '--dis_dim=4', '--dis_fc_dim=8', '--dis_layers=4', '--n_d=2', '--n_sample=2', '--epoch=1',
        devices=devices)
    assert status == 0, err
    folder = tmp_path / 'output' / '0'
    case = f'STGAN_bs4_{devices}p_acc'
    lines = (folder / f'{case}.log').read_text().splitlines()
    values = dict(line.split(' = ') for line in lines)
    log = [json.loads(line) for line in
           (tmp_path / 'output' / case / 'metrics.jsonl').read_text().splitlines()]
    assert list(values) == ['Network', 'RankSize', 'BatchSize', 'DeviceType', 'CaseName',
                            'ActualFPS', 'TrainingTime', 'ActualLoss', 'E2ETrainingTime']
    assert (values['Network'], values['RankSize'], values['BatchSize'], values['CaseName']) == (
        'STGAN', str(workers), '4', case)
    assert values['DeviceType'] == platform.machine()
    # 2 D updates and 1 G update, on 4 images of each worker.
    step, rate = float(values['TrainingTime']), float(values['ActualFPS'])
    assert step * rate == pytest.approx(12 * workers, rel=.02)
    assert float(values['ActualLoss']) == pytest.approx(log[-1]['d_loss'], abs=1e-8)
    losses = (folder / f'train_{case}_loss.txt').read_text().split()
    assert [float(loss) for loss in losses] == pytest.approx(
        [record['d_loss'] for record in log], abs=1e-8)
    result = out[out.index('------------------ Final result ------------------'):]
    for label in ('Final Performance images/sec : ', 'Final PSNR : ', 'Final SSIM : ',
                  'E2E Training Duration sec : '):
        assert f'\n{label}' in result
    assert 'saved output/' in (folder / 'train_0.log').read_text()
