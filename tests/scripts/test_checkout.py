"""Commands find this checkout's packages without an installation, from whatever folder."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

COMMANDS = sorted(
    str(path.relative_to(ROOT))
    for folder in ('att_classification', 'precision_tool', 'scripts')
    for path in (ROOT / folder).rglob('*.py')
    if "if __name__ == '__main__'" in path.read_text('utf-8'))


def test_commands_are_found():
    assert {'att_classification/test.py', 'scripts/demo.py', 'scripts/bench/chaos.py'} < {*COMMANDS}


@pytest.fixture
def environment(tmp_path):
    """Of a process that meets other packages of our names before it gets to installed ones."""
    others = tmp_path / 'others'
    for path in ROOT.glob('*/__init__.py'):
        other = others / path.parent.name / '__init__.py'
        other.parent.mkdir(parents=True)
        other.write_text(f'raise ImportError("{other}")')
    return dict(os.environ, PYTHONPATH=str(others))


@pytest.mark.parametrize('command', COMMANDS)
def test_commands_find_the_packages(tmp_path, environment, command):
    done = subprocess.run([sys.executable, str(ROOT / command), '--help'], cwd=str(tmp_path),
                          env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith('usage: '), done.stderr


def test_the_classifier_s_from_its_folder(environment):
    done = subprocess.run([sys.executable, 'test.py', '--help'], env=environment,
                          cwd=str(ROOT / 'att_classification'), capture_output=True, text=True)
    assert done.returncode == 0 and '--img_dir' in done.stdout, done.stderr
