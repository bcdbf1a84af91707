"""Several processes share the images of test.py, psnr_ssim.py and the classifier's test."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import EXPERIMENT, ROOT, run_cli

CLASSIFIER = ROOT / 'models' / 'toy_classifier' / 'checkpoints'


def together(folder, *command, workers=2):
    """Run a command in several processes; returns its `Finished`."""
    return run_cli('scripts/launch.py', '-n', workers, '--', *command, cwd=folder)


def contents(folder, *names):
    """{name: bytes} of files in a folder, default: of all."""
    return {name: (folder / name).read_bytes() for name in names or sorted(os.listdir(str(folder)))}


def test_the_same_sheets_and_tables_as_of_one(workspace):
    """Also where one of them has few images or none, and where some are there already."""
    edit = ['test.py', '--experiment_name', EXPERIMENT, '--test_int', 2, '--device', 'cpu']
    folder = workspace / 'output' / 'toy'
    done = run_cli(*edit, cwd=workspace)
    assert done.status == 0, done.err
    alone = contents(folder / 'sample_testing')
    assert len(alone) > 5
    shutil.rmtree(str(folder / 'sample_testing'))
    done = together(workspace, *edit)
    assert done.status == 0 and '[0] wrote ' in done.out, done.err
    assert contents(folder / 'sample_testing') == alone
    # Some are there, which are not made again.
    sheets = sorted(name for name in alone if name.endswith('.png'))
    os.unlink(str(folder / 'sample_testing' / sheets[-1]))
    stamp = (folder / 'sample_testing' / sheets[0]).stat().st_mtime_ns
    done = together(workspace, *edit, workers=3)
    assert done.status == 0 and f'{len(sheets) - 1} are there already' in done.out, done.err
    assert contents(folder / 'sample_testing') == alone
    assert (folder / 'sample_testing' / sheets[0]).stat().st_mtime_ns == stamp

    names = 'psnr_ssim.json', 'psnr_ssim.csv'
    measure = ['psnr_ssim.py', '--experiment_name', EXPERIMENT]
    assert run_cli(*measure, cwd=workspace).status == 0
    alone = contents(folder, *names)
    for name in names:
        os.unlink(str(folder / name))
    done = together(workspace, *measure)
    assert done.status == 0 and done.out.count('wrote ') == 1, done.err
    assert contents(folder, *names) == alone


@pytest.mark.slow
def test_the_same_accuracy_as_of_one(workspace):
    edit = ['test.py', '--experiment_name', EXPERIMENT, '--test_int', 2, '--device', 'cpu']
    assert run_cli(*edit, cwd=workspace).status == 0
    judge = ['att_classification/test.py', '--img_dir', 'output/toy/sample_testing', '--checkpoint',
             CLASSIFIER, '--device', 'cpu']
    done = run_cli(*judge, cwd=workspace)
    assert done.status == 0, done.err
    path = workspace / 'output' / 'toy' / 'attribute_accuracy.json'
    alone = path.read_bytes()
    path.unlink()
    done = together(workspace, *judge, workers=3)
    assert done.status == 0, done.err
    assert path.read_bytes() == alone


@pytest.mark.slow
@pytest.mark.parametrize('signum, status', [(signal.SIGKILL, 137), (signal.SIGTERM, 143)])
def test_what_is_ended_goes_on_when_it_is_repeated(workspace, toy_data, signum, status):
    """Whoever is ended, the others end, too; none of the sheets is half written."""
    edit = ['test.py', '--experiment_name', EXPERIMENT, '--device', 'cpu', '--test_slide',
            '--test_att', 'Male', '--n_slide', 40, '--img', *range(1, 61)]
    folder = workspace / 'output' / 'toy' / 'sample_testing_slide'
    launcher = subprocess.Popen(
        [sys.executable, str(ROOT / 'scripts' / 'launch.py'), '-n', '2', '--', *map(str, edit)],
        cwd=str(workspace), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not list(folder.glob('*.png')) and time.monotonic() < deadline:
        time.sleep(.01)
    workers = subprocess.run(['pgrep', '-P', str(launcher.pid)], stdout=subprocess.PIPE, text=True)
    os.kill(int(workers.stdout.split()[-1]), signum)
    _, err = launcher.communicate(timeout=60)
    assert launcher.returncode == status, err
    assert 0 < len(list(folder.glob('*.png'))) < 60
    done = together(workspace, *edit)
    assert done.status == 0, done.err
    there = contents(folder)
    shutil.rmtree(str(folder))
    assert run_cli(*edit, cwd=workspace).status == 0
    assert contents(folder) == there


def test_workers_with_other_sheets_are_named(workspace):
    """Here of another intensity, as the second worker is told."""
    code = ('import json, os, sys; sys.argv[1:] = ["--experiment_name", "toy", "--device", "cpu", '
            '"--test_int", str(json.loads(os.environ["TF_CONFIG"])["task"]["index"])]; '
            f'sys.path.insert(0, {str(ROOT)!r}); import runpy; '
            f'runpy.run_path({str(ROOT / "test.py")!r}, run_name="__main__")')
    done = together(workspace, sys.executable, '-c', code)
    assert done.status == 2
    assert 'error: worker 1 (' in done.err and ') has another --test_int than worker 0: 1.0' in (
        done.err), done.err
