"""Offline inference: images to raw files, a stand-in for the NPU, and back to sheets."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from exported import EXPORT, infer, set_label

import imlib
from scripts.ascend import img2bin
from stgan import sheets

IMAGES = (58, 3)  # list positions; not in order
INPUTS = ('input1', 'input2', 'input3')
TO_BINS = ('scripts/ascend/img2bin.py', '--experiment_name', 'toy', '--output_dir', 'bins')
TO_SHEETS = ('scripts/ascend/bin2img.py', '--bin_dir', 'bins', '--result_dir', 'results',
             '--output_dir', 'offline/sheets')
SCRIPT = ROOT / 'scripts' / 'ascend' / 'offline_inference.sh'


def run_model(model, folders, result):
    """What msame does: run a model, here the frozen graph, on all files of three folders."""
    names = sorted(os.listdir(folders[0]))

    def batches():
        for name in names:
            image, target, source = (np.fromfile(os.path.join(folder, name), np.float32)
                                     for folder in folders)
            size = int(round((image.size / 3) ** .5))
            yield image.reshape(1, size, size, 3), target[np.newaxis], source[np.newaxis]
    os.makedirs(result)
    for name, output in zip(names, infer(model, batches())):
        output.tofile(os.path.join(result, name[:-len('.bin')] + '_output_0.bin'))


def write_random_results(folder, images=2, variants=14):
    """Results as of some model: raw float32 [32,32,3] in [-1,1]."""
    folder.mkdir()
    random = np.random.RandomState(0)
    for number in range(images):
        for variant in range(variants):
            values = random.uniform(-1, 1, [32, 32, 3]).astype(np.float32)
            values.tofile(str(folder / f'{number}_{variant}_output_0.bin'))


@pytest.fixture
def bins(run, workspace):
    """tmp_path with the experiment, the bins of two images, and results for them."""
    done = run(*TO_BINS, '--img', *IMAGES)
    assert done.status == 0, done.err
    write_random_results(workspace / 'results')
    return workspace


def read(folder, name, base):
    return np.fromfile(str(folder / 'bins' / name / f'{base}.bin'), np.float32)


def test_bins(bins):
    """All float32, and labels as they should be: the published port wrote float64 here."""
    for name, size in zip(INPUTS, (32 * 32 * 3 * 4, 13 * 4, 13 * 4)):
        sizes = {path.name: path.stat().st_size for path in (bins / 'bins' / name).iterdir()}
        assert sizes == {f'{k}_{i}.bin': size for k in range(2) for i in range(14)}
    description = json.loads((bins / 'bins' / 'bins.json').read_text())
    assert description['test_int'] == 2 and description['thres_int'] == .5
    assert description['img_size'] == 32 and len(description['attributes']) == 13
    assert [entry['sheet'] for entry in description['images']] == ['000058.png', '000003.png']
    assert [entry['image'] for entry in description['images']] == ['000058.jpg', '000003.jpg']
    for number, entry in enumerate(description['images']):
        source = np.array(entry['labels']) - .5
        for variant in range(14):
            base = f'{number}_{variant}'
            np.testing.assert_array_equal(read(bins, 'input3', base), source)
            np.testing.assert_array_equal(read(bins, 'input1', base),
                                          read(bins, 'input1', f'{number}_0'))
            target = read(bins, 'input2', base)
            if variant:
                assert target[variant - 1] == -2 * source[variant - 1]
                assert set(np.delete(target, variant - 1)) <= {-.5, .5}
            else:
                np.testing.assert_array_equal(target, source)
    image = read(bins, 'input1', '0_0')
    assert image.min() >= -1 and image.max() <= 1 and image.std() > .1
    assert not np.array_equal(image, read(bins, 'input1', '1_0'))


@pytest.mark.parametrize('label', ['diff', pytest.param('target', marks=pytest.mark.slow)])
def test_sheets_are_those_of_test_py(run, workspace, label):
    set_label(workspace, label)
    for command in ((*EXPORT, '--batch_size', 1), TO_BINS,
                    ('test.py', '--experiment_name', 'toy', '--test_int', 2, '--device', 'cpu')):
        done = run(*command)
        assert done.status == 0, done.err
    experiment, mine = workspace / 'output' / 'toy', workspace / 'offline' / 'sheets'
    run_model(str(experiment / 'toy.pb'), [str(workspace / 'bins' / name) for name in INPUTS],
              str(workspace / 'results'))
    done = run(*TO_SHEETS)
    assert done.status == 0, done.err
    wanted = experiment / 'sample_testing'
    assert sorted(os.listdir(str(mine))) == sorted(os.listdir(str(wanted)))
    assert (mine / 'labels.csv').read_text() == (wanted / 'labels.csv').read_text()
    description = json.loads((mine / 'sheet.json').read_text())
    assert description.pop('inference') == 'offline'
    of_test = json.loads((wanted / 'sheet.json').read_text())
    # How test.py made its sheets does not tell what they show.
    for name in ('images', 'precision'):
        del of_test[name]
    assert description == of_test
    for path in wanted.glob('*.png'):
        sheet = imlib.read(str(mine / path.name)).astype(int)
        difference = np.abs(sheet - imlib.read(str(path)))
        assert not difference[:, :35].any()
        # Batches of other sizes round the last bit differently; cutting off to 8 bits shows it.
        assert difference.max() <= 1 and (difference > 0).mean() < 1e-3, path.name


def test_results_become_pixels(run, bins):
    """Pixel for pixel, and the evaluation takes the folder."""
    done = run(*TO_SHEETS)
    assert done.status == 0, done.err
    folder = sheets.open_folder(str(bins / 'offline' / 'sheets'))
    assert sorted(folder.labels) == ['000003.png', '000058.png'] and len(folder.columns) == 14
    for number, name in enumerate(('000058.png', '000003.png')):
        source, results = folder.read(name)
        for variant in range(14):
            values = np.fromfile(str(bins / 'results' / f'{number}_{variant}_output_0.bin'),
                                 np.float32).reshape(32, 32, 3)
            np.testing.assert_array_equal(results[variant], imlib.to_uint8(values))
        np.testing.assert_array_equal(
            source, imlib.to_uint8(read(bins, 'input1', f'{number}_0').reshape(32, 32, 3)))
    done = run('psnr_ssim.py', '--img_dir', 'offline/sheets', '--threads', 1)
    assert done.status == 0, done.err
    assert json.loads((bins / 'offline' / 'psnr_ssim.json').read_text())['images'] == 2


def truncate(path):
    path.write_bytes(path.read_bytes()[:-4])


def put_nan(path):
    values = np.fromfile(str(path), np.float32)
    values[7] = np.nan
    values.tofile(str(path))


def edit_description(path):
    path.write_text(path.read_text().replace('"thres_int"', '"threshold"'))


BAD_BINS = {
    'truncated result': (truncate, 'results/1_13_output_0.bin', '12284 bytes, expected 12288'),
    'missing result': (os.unlink, 'results/1_5_output_0.bin', 'No such file or directory'),
    'NaN in a result': (put_nan, 'results/0_3_output_0.bin', 'has values that are not finite'),
    'truncated source': (truncate, 'bins/input1/1_0.bin', '12284 bytes, expected 12288'),
    'missing source': (os.unlink, 'bins/input1/1_0.bin', 'No such file or directory'),
    'no results': (shutil.rmtree, 'results', 'no such folder'),
    'unfinished bins': (os.unlink, 'bins/bins.json', 'missing; run img2bin.py, to its end'),
    'other description': (edit_description, 'bins/bins.json', "KeyError: 'thres_int'")}


def test_bad_results(run, bins):
    """One line that names the file, and nothing written."""
    for case, (spoil, name, message) in BAD_BINS.items():
        for folder in ('bins', 'results'):
            shutil.copytree(str(bins / folder), str(bins / 'good' / folder))
        spoil(bins / name)
        done = run(*TO_SHEETS)
        errors = [line for line in done.err.splitlines() if line.startswith('error: ')]
        assert done.status == 2 and 'Traceback' not in done.err, (case, done.err)
        assert len(errors) == 1 and f'error: {name}: ' in errors[0] and message in errors[0], case
        assert not (bins / 'offline').exists(), case
        for folder in ('bins', 'results'):
            shutil.rmtree(str(bins / folder), ignore_errors=True)
            shutil.move(str(bins / 'good' / folder), str(bins / folder))


def test_bad_bins(run, workspace, toy_data):
    shutil.copytree(str(toy_data), str(workspace / 'data'))
    broken = workspace / 'data' / 'img_align_celeba' / '000003.jpg'
    broken.write_bytes(broken.read_bytes()[:300])
    (workspace / 'other' / 'input1').mkdir(parents=True)
    (workspace / 'other' / 'input1' / '2_0.bin').write_text('')
    before = sorted(workspace.rglob('*'))
    for arguments, message in (
            (['--experiment_name', 'nobody'], 'error: output/nobody: no such experiment'),
            (['--img', 61], 'error: --img 61: the list has images 1 to 60'),
            (['--test_int', 'nan'], 'error: --test_int nan: expected a finite number'),
            (['--dataroot', 'nowhere'], 'error: --dataroot nowhere: no such folder'),
            (['--output_dir', 'other', '--img', *IMAGES],
             'error: other/input1: has other files than those of this test (2_0.bin)'),
            (['--dataroot', 'data', '--img', 3],
             'error: data/img_align_celeba/000003.jpg: unusable image')):
        done = run(*TO_BINS, *arguments)
        errors = [line for line in done.err.splitlines() if line.startswith('error: ')]
        assert done.status == 2 and len(errors) == 1 and message in errors[0], done.err
        assert 'Traceback' not in done.err
    assert sorted(workspace.rglob('*')) == before


def test_file_systems_without_hard_links(monkeypatch, tmp_path):
    def refuse(source, path):
        raise OSError('not supported')
    monkeypatch.setattr(os, 'link', refuse)
    for name in INPUTS:
        (tmp_path / name).mkdir()
    image = np.linspace(-1, 1, 12).reshape(2, 2, 3)
    for _ in range(2):
        img2bin.write_image(str(tmp_path), 0, image, np.zeros([2, 5]), np.ones([5]))
        first, second = (np.fromfile(str(tmp_path / 'input1' / name), np.float32)
                         for name in ('0_0.bin', '0_1.bin'))
        np.testing.assert_array_equal(first, image.astype(np.float32).ravel())
        np.testing.assert_array_equal(second, first)


# ------------------------------------------------------------------------------------- the script

FAKE_ATC = '''#!{python}
import shutil, sys
values = dict(argument[2:].split('=', 1) for argument in sys.argv[1:])
assert values['framework'] == '3' and values['soc_version'] == 'Ascend310', values
assert values['input_shape'] == 'input1:1,32,32,3;input2:1,13;input3:1,13', values
shutil.copyfile(values['model'], values['output'] + '.om')
'''

FAKE_MSAME = '''#!{python}
import os, sys
sys.path[:0] = [{root!r}, {tests!r}, {here!r}]
from test_offline_inference import run_model
values = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert values['--outfmt'] == 'BIN', values
run_model(values['--model'], values['--input'].split(','),
          os.path.join(values['--output'], '2024131_12_0_0_123456'))
'''


def offline(folder, *arguments, path='/nowhere'):
    """Run the script in a folder; returns (status, stdout, stderr)."""
    # Not the whole PATH: some have CANN.
    environment = dict(os.environ, PYTHON=sys.executable, PATH=f'{path}:/usr/bin:/bin',
                       PYTHONDONTWRITEBYTECODE='1')
    done = subprocess.run(['bash', str(SCRIPT), *map(str, arguments)], cwd=str(folder),
                          env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def fake_tool(folder, name, text):
    path = folder / 'tools' / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.format(python=sys.executable, root=str(ROOT), tests=str(ROOT / 'tests'),
                                here=str(ROOT / 'tests' / 'scripts' / 'ascend')))
    path.chmod(0o755)
    return str(path.parent)


@pytest.mark.slow
def test_script(workspace, toy_data):
    tools = fake_tool(workspace, 'atc', FAKE_ATC)
    fake_tool(workspace, 'msame', FAKE_MSAME)
    status, out, err = offline(
        workspace, '--experiment_name=toy', f'--data_path={toy_data}', '--soc_version=Ascend310',
        '--img=3 58', '--output_dir=my results', path=tools)
    assert status == 0, err
    folder = sheets.open_folder(str(workspace / 'my results' / 'sheets'))
    assert sorted(folder.labels) == ['000003.png', '000058.png']
    assert (workspace / 'my results' / 'psnr_ssim.json').exists()
    assert 'PSNR' in out and 'attribute accuracy: ' in out


def test_script_without_cann(tmp_path):
    status, out, err = offline(tmp_path, '--experiment_name=toy')
    assert status == 2 and out == ''
    assert err.startswith('error: atc and msame not on PATH')
    assert 'CANN' in err
    for step in ('export.py', 'ascend/img2bin.py', 'ascend/bin2img.py'):
        assert f'scripts/{step}' in err
    tools = fake_tool(tmp_path, 'atc', '#!/bin/sh\n')
    assert 'error: msame not on PATH' in offline(tmp_path, '--experiment_name=toy', path=tools)[2]


def test_script_options(tmp_path):
    status, out, err = offline(tmp_path, '-h')
    assert (status, err) == (0, '') and out.startswith('usage: offline_inference.sh')
    for arguments, message in (
            ([], '--experiment_name=NAME is missing'),
            (['--experiment_name', 'toy'], '--experiment_name: unknown option'),
            (['--soc=Ascend310'], '--soc=Ascend310: unknown option')):
        status, out, err = offline(tmp_path, *arguments)
        assert (status, out) == (2, '') and message in err and err.count('\n') == 1


@pytest.mark.slow
def test_script_keeps_the_status_of_a_step(workspace):
    tools = fake_tool(workspace, 'atc', '#!/bin/sh\necho E10001 >&2\nexit 7\n')
    fake_tool(workspace, 'msame', '#!/bin/sh\n')
    for name in ('toy', './output/toy'):
        status, _, err = offline(workspace, f'--experiment_name={name}', path=tools)
        assert status == 7 and err.endswith('E10001\n')
        assert (workspace / 'output' / 'toy' / 'offline' / 'toy.pb').exists()
        shutil.rmtree(str(workspace / 'output' / 'toy' / 'offline'))
    status, _, err = offline(workspace, '--experiment_name=nobody', path=tools)
    assert status == 2 and err.endswith('is --experiment_name right?\n')
    assert not (workspace / 'output' / 'nobody').exists()


@pytest.mark.slow
def test_script_refuses_an_msame_without_results(workspace):
    tools = fake_tool(workspace, 'atc', '#!/bin/sh\n')
    fake_tool(workspace, 'msame', '#!/bin/sh\n')
    status, _, err = offline(workspace, '--experiment_name=toy', '--img=3', path=tools)
    assert status == 1 and 'msame left no results there' in err.splitlines()[-1]
