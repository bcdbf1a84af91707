"""The tool as its users meet it, on dumps of this project's generator with a broken operator."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, run_cli

from precision_tool.dump_tree import NpuDump
from precision_tool.reading import read_text
from precision_tool.workspace import Workspace
from pylib import read_json, write_text
from scripts.ascend.dump_writer import dump_name, write_dump
from scripts.precision_walkthrough import BROKEN

SMALL = ['--img_size', 32, '--dim', 4]
CLI = 'precision_tool/cli.py'


def walkthrough(folder, *flags):
    done = run_cli('scripts/precision_walkthrough.py', *SMALL, *flags, cwd=folder)
    assert done.status == 0, done.err
    return folder


@pytest.fixture(scope='module')
def broken(tmp_path_factory):
    """A folder with the data of a float16 run with a broken operator and an overflow."""
    return walkthrough(tmp_path_factory.mktemp('broken'), '--overflow', 'Genc/Conv_3/Conv2D')


@pytest.fixture
def workspace(broken, tmp_path):
    """A copy of it in the working directory of `run`."""
    shutil.copytree(str(broken / 'precision_data'), str(tmp_path / 'precision_data'))
    return Workspace(str(tmp_path / 'precision_data'))


def answer(done):
    """(exit status, {title of a table: rows}, lines) of a command with --json."""
    data = json.loads(done.out)
    assert done.status == int(data['found'])
    return done.status, {table['title']: table['rows'] for table in data['tables']}, data['lines']


def test_the_broken_operator_and_the_overflow_are_found(run, workspace):
    done = run(CLI, 'ac')
    assert done.status == 1, done.err
    verdict = done.out[done.out.index('verdict'):].splitlines()
    assert verdict[1].startswith('  1. Conv2D Genc/Conv_3/Conv2D overflowed first: floating-point')
    assert verdict[2] == '     next: python -m precision_tool npu_overflow'
    assert verdict[3].startswith(f'  2. Sigmoid {BROKEN} breaks: cosine 0.')
    assert 'though its inputs are right (Gstu/Conv_4/BiasAdd:output:0 1.0000)' in verdict[3]
    assert verdict[4] == f'     next: python -m precision_tool ni {BROKEN}'


def test_without_a_compiled_graph_tensorflow_s_tells_what_feeds_it(run, workspace):
    shutil.rmtree(workspace.npu_graph())
    done = run(CLI, 'ac')
    assert f'Sigmoid {BROKEN} breaks: cosine 0.' in done.out, done.err
    assert 'though its inputs are right (Gstu/Conv_4/BiasAdd:output:0 1.0000)' in done.out


def test_tensorflow_runs_are_compared_with_each_other(run, workspace, tmp_path):
    shutil.copytree(workspace.tf_dump, str(tmp_path / 'other'))
    (path,) = [str(path) for path in (tmp_path / 'other').glob('Gstu_Conv_4_Sigmoid.0.*')]
    np.save(path, -np.load(path))
    done = run(CLI, 'vc', '-lt', 'other', '-rt', workspace.tf_dump)
    assert done.status == 1 and ' 1 below a cosine' in done.out, done.err
    assert 'Gstu_Conv_4_Sigmoid breaks: cosine -1.0' in done.out


def test_what_it_says_to_type_next_works(run, workspace):
    lines = run(CLI, 'ac').out.splitlines()
    commands = [line.split('precision_tool ', 1)[1] for line in lines if 'next: ' in line]
    assert len(commands) == 2
    assert commands[0] == 'npu_overflow'
    for command in commands:
        done = run(CLI, *command.split())
        assert done.status == int(command == 'npu_overflow'), done.err
    assert 'inf' in run(CLI, 'npu_overflow').out    # the numbers of the operator


def test_a_healthy_run_is_called_healthy(tmp_path_factory, run, tmp_path):
    """bfloat16, and nothing broken: no operator is blamed for rounding."""
    walkthrough(tmp_path, '--data_type', 'bfloat16', '--broken', 'none')
    done = run(CLI, '--json', 'ac')
    status, tables, lines = answer(done)
    assert status == 0 and not tables
    assert lines[-1] == 'verdict: nothing wrong was found'
    # Something was compared: all outputs of the generator's operators.
    count = len(NpuDump(Workspace(str(tmp_path / 'precision_data')).npu_dump()).operators)
    assert count > 100 and int(lines[0].split('all ')[1].split()[0]) > 2 * count


def test_compare_writes_a_table_and_a_page(run, workspace):
    done = run(CLI, 'vc', '--processes', 2)
    assert done.status == 1, done.err
    (folder,) = os.listdir(workspace.vector_compare)
    names = sorted(os.listdir(os.path.join(workspace.vector_compare, folder)))
    assert names == [f'result_{folder}.{each}' for each in ('csv', 'html', 'json')]
    page = read_text(os.path.join(workspace.vector_compare, folder, names[1]), 1 << 20)
    assert '<svg' in page and BROKEN in page
    status, tables, lines = answer(run(CLI, '--json', 'vcs', '-l', 2))
    ((title, rows),) = tables.items()
    assert 'first 2' in title and len(rows) == 2
    assert rows[0]['tensor'] == f'{BROKEN}:output:0' and rows[0]['cosine'] < .5
    # A threshold nothing is below.
    assert answer(run(CLI, '--json', 'vcs', '--cosine', -1))[0] == 0


def test_graph_and_dumped_operators_are_listed(run, workspace):
    _, tables, _ = answer(run(CLI, '--json', 'ls'))
    counts = {row['type']: row['count'] for row in tables['operators by type']}
    assert counts['Sigmoid'] == 8 and counts['Conv2D'] == 17
    _, tables, _ = answer(run(CLI, '--json', 'ls', '-t', 'Sigmoid', '-n', 'Conv_4'))
    assert tables['1 operators'][0]['name'] == BROKEN


def test_dumped_operators_are_listed(run, workspace):
    _, tables, _ = answer(run(CLI, '--json', 'ls', 'dump', '-t', 'Sigmoid'))
    ((_, rows),) = tables.items()
    assert len(rows) == 8 and rows[3]['name'] == BROKEN


def test_an_operator_is_described(run, workspace):
    # As official users write it, with -n.
    done = run(CLI, 'ni', '-n', BROKEN, '-s', 1, '-a')
    assert done.status == 0, done.err
    for text in (f'Sigmoid {BROKEN}', 'Gstu/Conv_4/BiasAdd:0', 'NPU dump Sigmoid.Gstu_Conv_4',
                 f'TensorFlow {BROKEN}', 'float16', 'float32'):
        assert text in done.out
    (picture,) = [name for name in os.listdir(workspace.op_graph) if name.endswith('.gv')]
    text = read_text(os.path.join(workspace.op_graph, picture), 1 << 20)
    assert f'"Gstu/Conv_4/BiasAdd" -> "{BROKEN}" [label="0"]' in text
    done = run(CLI, 'ni', 'Conv_4/Sig')
    assert done.status == 2 and f'did you mean {BROKEN}' in done.err


def test_dumps_are_converted_and_compared(run, workspace):
    _, tables, _ = answer(run(CLI, '--json', 'dc', BROKEN))
    ((_, rows),) = tables.items()
    names = [row['file'] for row in rows]
    assert [name.split('.')[-3:] for name in names] == [['input', '0', 'npy'],
                                                        ['output', '0', 'npy']]
    (golden,) = [name for name in os.listdir(workspace.tf_dump)
                 if name.startswith('Gstu_Conv_4_Sigmoid.0.')]
    # Names are looked for in the workspace.
    status, tables, _ = answer(run(CLI, '--json', 'cp', names[1], golden, '-p', 3))
    assert status == 1 and len(next(iter(tables.values()))) == 3
    status, *_ = answer(run(CLI, '--json', 'cp', golden, golden))
    assert status == 0
    done = run(CLI, 'pt', golden, '-s')
    assert done.status == 0 and 'float32' in done.out
    text = np.loadtxt(os.path.join(workspace.tf_dump, f'{golden}.txt'))
    np.testing.assert_allclose(text.ravel(), np.load(os.path.join(
        workspace.tf_dump, golden)).ravel(), rtol=1e-4)


def test_overflows_are_listed(run, workspace):
    status, tables, lines = answer(run(CLI, '--json', 'npu_overflow'))
    (record,) = tables['overflows: 1, first 3']
    assert record['operator'] == 'Genc/Conv_3/Conv2D' and status == 1
    assert record['meaning'] == 'floating-point operation overflowed'
    (output,) = tables['Conv2D Genc/Conv_3/Conv2D']
    assert output['max'] == 'inf'
    assert any('AIC, model_id 0x1, task_type 0x0' in line for line in lines)


def test_the_graph_of_tensorflow_is_loaded(workspace):
    from precision_tool.tf_dump import graph_edges  # noqa: PLC0415
    assert graph_edges(workspace.tf_dump)[BROKEN] == [('Gstu/Conv_4/BiasAdd', 0)]


def test_the_data_folder_can_be_chosen(run, workspace, tmp_path):
    os.rename(workspace.root, str(tmp_path / 'elsewhere'))
    for words in (['--root', 'elsewhere', 'data'], ['data', 'elsewhere']):
        _, tables, _ = answer(run(CLI, '--json', *words))
        ((title, rows),) = tables.items()
        assert title.endswith('elsewhere')
        assert {'folder': 'overflow', 'what': 'records', 'count': 1} in rows
    assert run(CLI, 'data').status == 2


def test_any_debug_folder_will_do(run, workspace):
    os.rename(workspace.npu_debug(0), workspace.npu_debug(3))
    _, tables, _ = answer(run(CLI, '--json', 'ls', '-n', BROKEN))
    assert tables['1 operators'][0]['run'] == 3
    assert run(CLI, 'ni', BROKEN).status == 0


def test_the_documented_folders_are_those_used():
    text = (ROOT / 'docs' / 'precision_tool.md').read_text('utf-8')
    table = text[text.index('| folder | what |'):text.index('## Commands')]
    documented = {name for row in table.splitlines()[2:] for name in
                  re.findall(r'`([^`]+)`', row.split('|')[1] if '|' in row else '')}
    used = Workspace('')
    assert documented == {
        used.npu_dump(), used.npu_graph(), used.overflow_dump, used.fusion, used.tf_debug,
        used.tf_dump, used.checkpoints, used.checkpoint_input, 'temp'}


def test_empty_tensors_are_printed_and_objects_refused(run, workspace, tmp_path):
    np.save(str(tmp_path / 'empty.npy'), np.zeros([0, 3], np.float32))
    done = run(CLI, 'pt', 'empty.npy')
    assert done.status == 0 and '[0, 3]' in done.out
    np.save(str(tmp_path / 'object.npy'), np.array([{}], object), allow_pickle=True)
    done = run(CLI, 'pt', 'object.npy')
    assert done.status == 2 and 'object.npy' in done.err and done.err.count('\n') == 1


def test_two_npu_runs_are_compared(run, workspace):
    """Their tensors, and the similarity of graphs: debug_1 has one operator in another type."""
    shutil.copytree(workspace.npu_debug(0), workspace.npu_debug(1))
    done = run(CLI, 'vc', '-lt', workspace.npu_dump(0), '-rt', workspace.npu_dump(1))
    assert done.status == 0 and ' 0 below a cosine' in done.out, done.err
    (name,) = os.listdir(workspace.npu_graph(1))
    path = os.path.join(workspace.npu_graph(1), name)
    graph = read_json(path)
    (op,) = [op for op in graph['graph'][0]['op'] if op['name'] == BROKEN]
    op['output_desc'][0]['dtype'] = 'DT_FLOAT'
    write_text(path, json.dumps(graph))
    done = run(CLI, 'ac')
    assert ('1 operators differ in type or layout between debug_0 and debug_1, such as '
            f'{BROKEN}') in done.out


def test_fusions_and_casts_are_listed(run, workspace):
    write_text(os.path.join(workspace.fusion, 'fusion_result.json'), json.dumps({
        'graphId': '0_1', 'graph_fusion': {},
        'ub_fusion': {'TbeMultiOutputFusionPass': {'effect_times': '4', 'match_times': '5'},
                      'Idle': {'effect_times': '0', 'match_times': '1'}}}))
    status, tables, lines = answer(run(CLI, '--json', 'ac'))
    (fusion,) = tables['fusion passes with effect']
    assert (fusion['pass'], fusion['times']) == ('TbeMultiOutputFusionPass', 4)
    assert any('1 fusion passes changed the graph' in line for line in lines)


def test_all_graphs_of_msquickcmp_are_taken_over(run, workspace, tmp_path):
    output = tmp_path / 'msquickcmp'
    (output / 'model').mkdir(parents=True)
    for number in range(2):
        shutil.copy(os.path.join(workspace.npu_graph(), os.listdir(workspace.npu_graph())[0]),
                    str(output / 'model' / f'new_model_{number}.json'))
    run_folder = NpuDump(workspace.npu_dump()).folder
    shutil.copytree(run_folder, str(output / 'dump_data' / 'npu' / os.path.basename(run_folder)))
    shutil.copytree(workspace.tf_dump, str(output / 'dump_data' / 'tf'))
    done = run(CLI, '--root', 'taken', 'infer', output)
    assert done.status == 1 and f'{BROKEN} breaks' in done.out, done.err
    assert len(os.listdir('taken/npu/debug_0/graph')) == 2
    done = run(CLI, '--root', 'taken', 'infer', output)
    assert done.status == 2 and 'taken: exists' in done.err


def test_commands_run_with_the_variables_that_tf_config_reads(run, workspace):
    code = 'import os; print(os.environ.get("{}"), flush=True)'
    for command, variable in (('npu_dump', 'PRECISION_TOOL_DUMP'),
                              ('npu_overflow', 'PRECISION_TOOL_OVERFLOW')):
        done = run(CLI, command, sys.executable, '-c', code.format(variable))
        assert 'True' in done.out.splitlines()[0], done.err
    done = run(CLI, 'run', sys.executable, '-c', 'raise SystemExit(3)')
    assert done.status == 1 and 'ended with status 3' in done.err
    shutil.rmtree(workspace.tf_debug)
    for variable, value in (('TF_ENABLE_ONEDNN_OPTS', '0'), ('STGAN_PLAIN', '1')):
        done = run(CLI, 'tf_dump', sys.executable, '-c', code.format(variable))
        assert done.out.startswith(f'{value}\n') and done.status == 2    # nothing was dumped


def test_prompt(broken):
    lines = ['ls -n Conv_4/Sigmoid', 'ni nobody', 'ls "', 'help vc', 'echo from the shell',
             'data nowhere', 'ls -x', '', 'exit', 'echo never']
    done = subprocess.run([sys.executable, '-m', 'precision_tool'], input='\n'.join(lines),
                          cwd=str(broken), env=dict(os.environ, PYTHONPATH=str(ROOT)),
                          capture_output=True, text=True)
    assert done.returncode == 0
    assert BROKEN in done.stdout and 'from the shell' in done.stdout
    assert 'examples:\n  python -m precision_tool vc' in done.stdout
    assert 'never' not in done.stdout and 'Traceback' not in done.stderr
    assert 'nobody: no such operator' in done.stderr and 'No closing quotation' in done.stderr
    assert 'nowhere: holds no dumps' in done.stderr


def test_prompt_completes_commands_operators_and_files(workspace, tmp_path, monkeypatch):
    from precision_tool.cli import Prompt, build_parser  # noqa: PLC0415
    monkeypatch.chdir(tmp_path)
    prompt = Prompt(build_parser(), workspace.root)
    assert prompt.completenames('v') == ['vc', 'vcs', 'vector_compare']
    line = 'ni Gstu/Conv_4/S'
    assert prompt.completedefault('S', line, len(line) - 1, len(line)) == ['Sigmoid']
    line = 'pt precision_'
    assert prompt.completedefault('precision_', line, 3, len(line)) == ['precision_data']


@pytest.mark.parametrize('words, complaint', [
    (['nonsense'], 'invalid choice'),
    (['ac'], 'no dumps and no graphs'),
    (['ls'], 'no graph'),
    (['ls', 'dump'], 'no dumped operators'),
    (['pt', 'none.npy'], 'none.npy: no such file'),
    (['dc', 'none'], 'none: no such file, folder, or operator'),
    (['vc'], 'precision_data'),
    (['vc', '--processes', '0'], 'invalid positive value'),
    (['vc', '-c', 'nan'], "invalid finite value: 'nan'"),
    (['ac', '--cosine', 'inf'], 'invalid finite value'),
    (['cp', '-al', 'nan', 'garbage.npy', 'garbage.npy'], 'invalid tolerance value'),
    (['cp', '-rl', '-1', 'garbage.npy', 'garbage.npy'], 'invalid tolerance value'),
    (['ni', 'a', '-s', '-1'], 'invalid natural value'),
    (['vcs'], 'no comparison; run vc first'),
    (['npu_dump'], 'give the command to run'),
    (['npu_overflow'], 'no such folder'),
    (['run'], 'give the command'),
    (['infer', 'nowhere'], 'no output of msquickcmp'),
    (['tf_dump'], 'tf_debug'),
    (['train', '-d', 'cpu'], 'no graph'),
    (['pt', 'garbage.npy'], 'garbage.npy'),
    (['dc', 'Conv2D.x.1.1.1619492699305998'], 'Conv2D.x.1.1.1619492699305998'),
])
def test_bad_input(run, tmp_path, words, complaint):
    (tmp_path / 'garbage.npy').write_bytes(b'\x93NUMPY garbage')
    (tmp_path / 'Conv2D.x.1.1.1619492699305998').write_bytes(b'\xff' * 100)
    before = sorted(tmp_path.rglob('*'))
    done = run(CLI, *words)
    assert done.status == 2, done.err
    assert complaint in done.err and done.err.strip().count('\n') == 0
    assert sorted(tmp_path.rglob('*')) == before


def test_walkthrough_refuses_what_it_cannot_break(run, tmp_path):
    for flags, complaint in ((['--broken', 'nobody'], 'no such operator'),
                             (['--broken', 'Genc/Conv/Conv2D'], 'expected a Sigmoid'),
                             (['--root', '.'], 'exists')):
        done = run('scripts/precision_walkthrough.py', *SMALL, *flags)
        assert done.status == 2 and complaint in done.err
        assert not list(tmp_path.iterdir())


def test_a_graph_of_npu_dumps_only_is_checked(run, tmp_path):
    """No golden tensors, no graph: nothing was found, but it is not called healthy."""
    workspace = Workspace(str(tmp_path / 'precision_data'))
    os.makedirs(workspace.npu_dump())
    write_dump(os.path.join(workspace.npu_dump(), dump_name('Add', 'a', 1, 0, 16 * 10 ** 14)), 'a',
               [], [np.zeros(3, np.float32)])
    done = run(CLI, 'ac')
    assert done.status == 1 and 'nothing wrong was found' not in done.out
    assert 'nothing was compared: precision_data/tf/dump missing' in done.out
