"""The interpreters that the Makefile makes its virtual environments with."""

import subprocess

import pytest
from conftest import ROOT


def find(kind, **environment):
    done = subprocess.run(['/bin/sh', str(ROOT / 'scripts' / 'find_python.sh'), kind],
                          env={'PATH': '/nowhere', **environment}, capture_output=True, text=True)
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def fake_python(folder, name, version):
    """An executable that is Python `version` to whoever asks."""
    path = folder / name
    path.write_text(f'#!/bin/sh\ncase " $3 " in *" {version} "*) exit 0;; esac\nexit 1\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize('version, wanted', [('3.12', 0), ('3.7', 0), ('3.8', 2), ('3.14', 2)])
def test_current(tmp_path, version, wanted):
    for name in ('python3', 'python3.7'):
        fake_python(tmp_path, name, version)
    status, out, err = find('current', PATH=str(tmp_path))
    assert status == wanted
    if status == 0:
        assert out == 'python3' and err == ''
    else:
        assert err.startswith('No usable Python found') and out == ''


def test_classic_takes_what_it_is_given(tmp_path):
    python = fake_python(tmp_path, 'some', '3.7')
    assert find('classic', PYTHON37=python) == (0, python, '')
    python = fake_python(tmp_path, 'other', '3.9')
    assert find('classic', PYTHON37=python) == (
        2, '', f'PYTHON37={python} is no Python 3.7 with venv')


def test_classic_asks_pyenv(tmp_path):
    versions = tmp_path / 'root' / 'versions' / '3.7.16' / 'bin'
    versions.mkdir(parents=True)
    python = fake_python(versions, 'python', '3.7')
    (tmp_path / 'pyenv').write_text(f'#!/bin/sh\necho {tmp_path}/root\n')
    (tmp_path / 'pyenv').chmod(0o755)
    assert find('classic', PATH=str(tmp_path)) == (0, python, '')


def test_classic_says_what_to_do():
    status, out, err = find('classic')
    assert (status, out) == (2, '') and 'make test-tf1 PYTHON37=' in err
