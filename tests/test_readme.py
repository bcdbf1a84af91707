"""Commands of README and docs exist, with these flags; both languages show the same ones."""

import re
import shlex

import numpy as np
import pytest
from conftest import ROOT

COMMAND = re.compile(r'python (\S+\.py)([^&`]*)')


def commands(readme):
    """(script, flags) of every python command in the code blocks of a README."""
    found, folder = [], ''
    for block in re.findall(r'```console\n(.*?)```', (ROOT / readme).read_text('utf-8'), re.S):
        for line in block.splitlines():
            folder = 'att_classification/' if line.startswith('cd att_classification') else ''
            for script, arguments in COMMAND.findall(line):
                flags = [word for word in shlex.split(arguments, comments=True)
                         if word.startswith('--')]
                found.append((folder + script, tuple(flags)))
    return found


def test_there_are_commands():
    assert len(commands('README.md')) >= 10


DOCUMENTED = commands('README.md') + commands('docs/reliability.md')


@pytest.mark.parametrize('script', sorted({script for script, _ in DOCUMENTED}))
def test_flags_exist(run, script):
    done = run(script, '--help')
    assert done.status == 0
    known = set(re.findall(r'--\w+', done.out))
    for _, flags in (c for c in DOCUMENTED if c[0] == script):
        assert set(flags) <= known


def test_make_targets_exist():
    targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M)
    named = re.findall(r'(?:^|`)make ([\w-]+)', (ROOT / 'README.md').read_text('utf-8'))
    assert set(named) <= {*targets, 'it'}


def test_translation_shows_the_same_commands():
    assert commands('README.zh-CN.md') == commands('README.md')


@pytest.mark.parametrize('readme', ['README.md', 'README.zh-CN.md'])
def test_links_to_files_lead_somewhere(readme):
    for target in re.findall(r'\]\((?!http)([^)#]+)\)', (ROOT / readme).read_text('utf-8')):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize('readme', ['README.md', 'README.zh-CN.md'])
def test_python_example_runs(trained, monkeypatch, readme):
    (code,) = re.findall(r'```python\n(.*?)```', (ROOT / readme).read_text('utf-8'), re.S)
    monkeypatch.chdir(trained)
    namespace = {'image': np.zeros([32, 32, 3], np.float32), 'labels': np.zeros([1, 13], int)}
    exec(code.replace('output/128', 'output/toy'), namespace)
    assert namespace['edits'].shape == (14, 32, 32, 3)
