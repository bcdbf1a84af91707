"""`stgan COMMAND`, in a checkout and from what a wheel holds."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from stgan import commands
from stgan.commands import COMMANDS


def stgan(*arguments, cwd, path=ROOT):
    return subprocess.run([sys.executable, '-m', 'stgan', *map(str, arguments)], cwd=str(cwd),
                          env=dict(os.environ, PYTHONPATH=str(path)), capture_output=True,
                          text=True)


def test_all_commands_are_listed(tmp_path):
    done = stgan('--help', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name, script in COMMANDS.items():
        assert (ROOT / script).exists()
        assert [line for line in lines if line.startswith(f'  {name} ')][0].endswith('.')
    assert stgan('--version', cwd=tmp_path).stdout.startswith('stgan 0.')


@pytest.mark.parametrize('arguments, complaint', [
    ((), 'error: no command: choose from train '), (('foo',), 'error: foo: choose from train '),
    (('test', '--foo'), 'stgan test: error: ')])
def test_bad_input(tmp_path, arguments, complaint):
    done = stgan(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(complaint)
    assert len(done.stderr.splitlines()) == 1 and not done.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """A folder with what a wheel puts into site-packages."""
    folder = tmp_path_factory.mktemp('wheel')
    subprocess.run([sys.executable, 'setup.py', '-q', 'build', '--build-base', str(folder)],
                   cwd=str(ROOT), check=True, capture_output=True)
    return folder / 'lib'


def test_a_wheel_has_no_other_names(wheel):
    assert sorted(path.name for path in wheel.iterdir()) == [
        'att_classification', 'imlib', 'precision_tool', 'pylib', 'stgan', 'tflib']
    assert (wheel / 'stgan' / 'checkout' / 'models' / 'toy' / 'setting.txt').exists()


@pytest.mark.slow
def test_commands_of_a_wheel_work(wheel, tmp_path):
    """Drawn, edited and measured in a folder that knows nothing of the checkout."""
    for arguments in (['make_toy_celeba', 'data', '--images', 3],
                      ['test', '--experiment_name', wheel / 'stgan/checkout/models/toy',
                       '--dataroot', 'data', '--img', 1, 2, '--output_dir', 'sheets',
                       '--device', 'cpu'],
                      ['psnr_ssim', '--img_dir', 'sheets'],
                      ['test_classifier', '--img_dir', 'sheets', '--checkpoint',
                       wheel / 'stgan/checkout/models/toy_classifier', '--device', 'cpu'],
                      ['check_data', '--dataroot', 'data']):
        done = stgan(*arguments, cwd=tmp_path, path=wheel)
        assert done.returncode == 0, done.stderr
        if arguments[0] == 'test':
            assert 'to sum up: stgan report --experiment_name=' in done.stdout
    assert (tmp_path / 'sheets' / '000002.png').exists()
    assert (tmp_path / 'attribute_accuracy.json').exists()


def test_what_to_type_in_a_checkout(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = commands.command_line('scripts/report.py', '--experiment_name', 'a b').split(' ', 2)
    assert words[0].endswith(('python', os.path.basename(sys.executable)))
    assert os.path.samefile(words[1], str(ROOT / 'scripts' / 'report.py'))
    assert words[2] == "--experiment_name 'a b'"
