"""What scripts/launch.py starts; tests/pylib/test_launching.py has how."""

import os
import sys

import pytest
from conftest import ROOT

from scripts.launch import command_of


def test_the_command_after_the_dashes_runs_in_each_worker(run):
    done = run('scripts/launch.py', '-n', 2, '--', 'sh', '-c', 'echo "$0 $TF_CONFIG"; exit 3', '-n')
    assert done.status == 3
    for rank in range(2):
        line, = (line for line in done.out.splitlines() if line.startswith(f'[{rank}] '))
        assert f'"index": {rank}' in line and line.split()[1] == '-n'
    assert 'launch: worker ' in done.err and 'ended with exit status 3' in done.err


def test_scripts_run_in_python_wherever_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command_of(['train.py', '--lr', '1']) == [
        sys.executable, str(ROOT / 'train.py'), '--lr', '1']
    (tmp_path / 'train.py').write_text('')
    assert command_of(['train.py']) == [sys.executable, 'train.py']
    assert command_of(['train', '-h']) == [sys.executable, '-m', 'stgan', 'train', '-h']
    assert command_of(['echo', 'a']) == ['echo', 'a']


@pytest.mark.parametrize('words, said', [
    ([], 'nothing to start: give a command after --'),
    (['--'], 'nothing to start: give a command after --'),
    (['-n', 0, '--', 'true'], '-n 0: expected 1 to 1024'),
    (['--restarts', -1, '--', 'true'], '--restarts -1: expected 0 to '),
    (['--port', 99999, '--', 'true'], '--port 99999: expected 1 to '),
    (['--hosts', 'far.invalid', '--', 'true'], '--hosts far.invalid: this machine, '),
    (['--hosts', 'a:99999999', '--', 'true'], '--hosts a:99999999: expected a name'),
    (['--rank_table', 'a.json', '--hosts', 'a', '--', 'true'], '--rank_table: has the machines'),
    (['--node_rank', 1, '--', 'true'], '--node_rank 1: counts the machines of --hosts'),
    (['--server_id', 'a', '--', 'true'], '--server_id a: is one of --rank_table'),
    (['-n', 2, '--', 'trian.py'], 'error: trian.py: No such file'),
    (['--', os.path.join('no', 'such', 'program')], 'no/such/program: No such file')])
def test_bad_input(run, words, said):
    done = run('scripts/launch.py', *words)
    assert done.status == 2 and said in done.err and len(done.err.splitlines()) == 1
