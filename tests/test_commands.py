"""The main job through the command line, as a new user would run it."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import ROOT, SMALL, run_cli

import imlib
from att_classification.evaluation import Classifier
from pylib import read_json, read_json_lines
from scripts import demo
from scripts.toy import pack_model
from stgan.attributes import DEFAULT_ATTRIBUTES
from stgan.editing import Editor
from tflib import checkpoint, tf


def test_training_leaves_the_published_experiment_folder(trained):
    folder = trained / 'output' / 'toy'
    setting = json.loads((folder / 'setting.txt').read_text())
    assert setting['atts'] == list(DEFAULT_ATTRIBUTES) and setting['enc_dim'] == 4
    assert sorted(path.stem for path in (folder / 'checkpoints').glob('*.index')) == [
        'Epoch_(1)_(4of4).ckpt', 'Epoch_(2)_(4of4).ckpt']
    assert len(list((folder / 'summaries').iterdir())) == 1
    grids = sorted((folder / 'sample_training').iterdir())
    assert [path.name for path in grids] == [f'Epoch_({epoch})_(4of4).jpg' for epoch in range(3)]
    # Validation images below each other, source + gap + reconstruction + 13 edits.
    assert imlib.size(str(grids[0])) == (32 * 15 + 3, 32 * 2)


def test_losses_fall(trained):
    records = read_json_lines(str(trained / 'output' / 'toy' / 'metrics.jsonl'))
    assert [record['iteration'] for record in records] == list(range(1, 13))
    assert set(records[0]) == {'iteration', 'epoch', 'lr', 'seconds', 'd_loss_gan', 'gp',
                               'd_loss_att', 'd_loss', 'g_loss_gan', 'g_loss_att', 'g_loss_rec',
                               'g_loss'}
    for name in ('g_loss_rec', 'd_loss_att'):
        first, last = (np.mean([record[name] for record in part])
                       for part in (records[:4], records[-4:]))
        assert last < first, name


def test_banner_tells_what_runs(trained):
    banner = (trained / 'stdout.txt').read_text()
    assert re.search(r'^device +CPU', banner, re.M)
    assert re.search(r'^TensorFlow +tensorflow\S* \d', banner, re.M)
    assert re.search(r'^images +\d+ train, 2 val, 6 test .list_eval_partition.txt.', banner, re.M)
    assert 'enc_dim = 4  [default: 64]' in banner


@pytest.mark.slow
def test_repeating_the_command_resumes(run, workspace, toy_data):
    command = ['train.py', '--experiment_name', 'toy', '--dataroot', toy_data, *SMALL,
               '--lr', 0.002]
    done = run(*command, '--epoch', 4)
    assert done.status == 0, done.err
    assert 'resuming after iteration 12 of 16' in done.out
    records = read_json_lines(str(workspace / 'output' / 'toy' / 'metrics.jsonl'))
    assert [record['iteration'] for record in records] == list(range(1, 17))
    done = run(*command, '--epoch', 4)
    assert done.status == 0 and 'nothing to do' in done.out


@pytest.mark.slow
def test_a_new_run_starts_with_given_weights(run, workspace, toy_data):
    source = str(workspace / 'output' / 'toy' / 'checkpoints')
    command = ['train.py', '--experiment_name', 'fine', '--dataroot', toy_data, *SMALL,
               '--init_checkpoint', source, '--epoch', 1, '--lr', 1e-12]
    done = run(*command, '--enc_dim', 8)
    assert done.status == 2 and 'does not fit the model' in done.err
    assert not (workspace / 'output' / 'fine').exists()
    done = run(*command)
    assert done.status == 0, done.err
    old, new = (tf.train.NewCheckpointReader(checkpoint.latest(str(folder))) for folder in (
        source, workspace / 'output' / 'fine' / 'checkpoints'))
    np.testing.assert_allclose(new.get_tensor('Genc/Conv/weights'),
                               old.get_tensor('Genc/Conv/weights'), atol=1e-9)
    assert (old.get_tensor('counter/counter'), new.get_tensor('counter/counter')) == (12, 4)


@pytest.mark.slow
def test_clear_says_what_it_removes_and_keeps_test_sheets(run, workspace, toy_data):
    folder = workspace / 'output' / 'toy'
    (folder / 'sample_testing').mkdir()
    done = run('train.py', '--experiment_name', 'toy', '--dataroot', toy_data, *SMALL,
               '--epoch', 1, '--enc_dim', 8, '--clear')
    assert done.status == 0, done.err
    assert ('--clear: removing checkpoints, summaries, metrics.jsonl, setting.txt, '
            'sample_training from output/toy') in done.out
    assert read_json(str(folder / 'setting.txt'))['enc_dim'] == 8
    assert [path.stem for path in (folder / 'checkpoints').glob('*.index')] == [
        'Epoch_(0)_(4of4).ckpt']
    assert (folder / 'sample_testing').exists()


@pytest.mark.slow
def test_corrupt_image_does_not_end_a_run(tmp_path, toy_data, run):
    """One to train on, one of the validation set: the run ends well and names them."""
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    for name in ('000003.jpg', '000053.jpg'):
        path = tmp_path / 'toy' / 'img_align_celeba' / name
        path.write_bytes(path.read_bytes()[:200])
    done = run('train.py', '--experiment_name', 'x', '--dataroot', 'toy', *SMALL, '--epoch', 2)
    assert done.status == 0, done.err
    assert '000003.jpg: unusable image' in done.err
    assert '000053.jpg: unusable image' in done.err and done.err.count('000053.jpg') == 1
    grids = sorted((tmp_path / 'output' / 'x' / 'sample_training').iterdir())
    assert [imlib.size(str(path))[1] for path in grids] == [32, 32]    # one image each, not two
    assert '1 unusable image replaced by others' in done.out
    records = read_json_lines(str(tmp_path / 'output' / 'x' / 'metrics.jsonl'))
    # 96 places in the data: nearly two passes of 52 images.
    assert len(records) == 8 and 1 <= sum(r.get('replaced_images', 0) for r in records) <= 2


@pytest.fixture(scope='module')
def evaluated(tmp_path_factory, trained, toy_data):
    """test.py, psnr_ssim.py and both classifier commands, each in a process of its own."""
    folder = tmp_path_factory.mktemp('evaluated')
    shutil.copytree(str(trained / 'output'), str(folder / 'output'))
    outputs = {}
    for name, command, cwd in [
            ('test', ['test.py', '--experiment_name', 'toy', '--test_int', 2, '--edit_batch', 42],
             folder),
            ('psnr', ['psnr_ssim.py', '--experiment_name', 'toy', '--threads', 2], folder),
            ('train', ['att_classification/train.py', '--dataroot', toy_data, '--img_size', 32,
                       '--epoch', 2, '--batch_size', 16, '--output_dir', 'classifier'], folder),
            ('classify', ['att_classification/test.py', '--img_dir', 'toy/sample_testing',
                          '--checkpoint', '../classifier/checkpoints'], folder / 'output')]:
        done = run_cli(*command, cwd=cwd)
        assert done.status == 0, (name, done.err)
        outputs[name] = done.out
    return folder, outputs


def test_test_split_is_edited(evaluated):
    folder = evaluated[0] / 'output' / 'toy' / 'sample_testing'
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f'{i:06d}.png' for i in range(55, 61)] + ['labels.csv', 'sheet.json']
    assert imlib.size(str(folder / names[0])) == (32 * 15 + 3, 32)
    assert read_json(str(folder / 'sheet.json'))['columns'][1]['intensities'] == [2]


def test_quality_is_measured(evaluated):
    folder, outputs = evaluated
    summary = read_json(str(folder / 'output' / 'toy' / 'psnr_ssim.json'))
    assert summary['images'] == 6 and 5 < summary['psnr'] < 40 and 0 < summary['ssim'] < 1
    assert re.search(r'this run\W+6', outputs['psnr'])


def test_classifier_reports_test_accuracy(evaluated):
    folder, outputs = evaluated
    accuracy = read_json(str(folder / 'classifier' / 'test_accuracy.json'))
    assert accuracy['images'] == 6 and len(accuracy['attributes']) == 40
    assert 'Wearing_Hat' in outputs['train']


def test_accuracy_is_reported(evaluated):
    folder, outputs = evaluated
    result = read_json(str(folder / 'output' / 'toy' / 'attribute_accuracy.json'))
    assert list(result['accuracy']) == list(DEFAULT_ATTRIBUTES) and result['images'] == 6
    assert np.shape([list(row.values()) for row in result['error_each'].values()]) == (13, 13)
    assert imlib.size(str(folder / 'output' / 'toy' / 'attribute_accuracy.png'))[0] > 500
    assert 'Mouth_Slightly_Open' in outputs['classify'] and '86.05%' in outputs['classify']


def test_demo_table_and_pictures(evaluated, run, monkeypatch, capfd):
    monkeypatch.chdir(evaluated[0])
    figures = demo.figures('output/toy')
    demo.print_table({'documented': figures, 'measured here': figures}, 'output/toy', minutes=1.25)
    table = capfd.readouterr().out
    for name in ('PSNR', 'SSIM', 'Mouth_Slightly_Open', 'test images', '12 training iterations',
                 'ms per edit', '1.2 minutes'):
        assert name in table
    done = run('scripts/toy/pictures.py', '--experiment_name', evaluated[0] / 'output' / 'toy',
               '--output_dir', 'pictures')
    assert done.status == 0, done.err
    for name, width in (('sheets', 600), ('slide', 300), ('curve', 900)):
        assert imlib.size(f'pictures/{name}.png')[0] > width


@pytest.mark.parametrize('name, change, is_unlike', [
    ('psnr', .01, False), ('psnr', -.03, True), ('ssim', .0005, False), ('ssim', .002, True),
    ('accuracy', -.001, False), ('accuracy', -.01, True), ('error', .002, True)])
def test_demo_says_which_figures_are_not_the_documented_ones(name, change, is_unlike):
    documented = {'psnr': 30., 'ssim': .9, 'accuracy': .8, 'error': .05}
    measured = {**documented, name: documented[name] + change}
    assert demo.unlike(measured, documented) == [name] * is_unlike


@pytest.mark.slow
def test_packed_models_edit_and_judge_as_the_trained_ones(evaluated, run, tmp_path):
    folder = evaluated[0]
    done = run('scripts/toy/pack_model.py', '--experiment_name', folder / 'output' / 'toy',
               '--classifier', folder / 'classifier', '--output_dir', 'models')
    assert done.status == 0, done.err
    assert (tmp_path / 'models' / 'toy' / 'metrics.jsonl').read_text().count('\n') == 12
    image = np.random.RandomState(0).uniform(-1, 1, [32, 32, 3]).astype(np.float32)
    edits, verdicts = [], []
    for experiment, classifier in ((folder / 'output' / 'toy', folder / 'classifier'),
                                   (tmp_path / 'models' / 'toy',
                                    tmp_path / 'models' / 'toy_classifier')):
        with Editor(str(experiment)) as editor:
            edits.append(editor.edit(image, np.eye(13)))
        verdicts.append(Classifier(str(classifier / 'checkpoints')).predict(
            imlib.to_uint8(np.concatenate([[image], edits[-1]]))))
    np.testing.assert_array_equal(*edits)
    np.testing.assert_array_equal(*verdicts)
    sizes = [sum(path.stat().st_size for path in (root / below / 'checkpoints').iterdir())
             for root, below in ((folder, 'classifier'), (tmp_path, 'models/toy_classifier'))]
    assert sizes[1] < .51 * sizes[0] / 2    # two checkpoints of three times the weights


@pytest.mark.slow
def test_weights_of_two_experiments_are_averaged(workspace, run):
    """Of the newest checkpoint, and of one before."""
    shutil.copytree(str(workspace / 'output' / 'toy'), str(workspace / 'output' / 'earlier'))
    names = sorted(path.name for path in (workspace / 'output/earlier/checkpoints').glob('*.index'))
    for path in (workspace / 'output/earlier/checkpoints').iterdir():
        if path.name.startswith(names[-1][:-len('.index')]):
            path.unlink()
    done = run('scripts/toy/pack_model.py', '--experiment_name', 'toy', '--average_with', 'earlier',
               '--classifier', ROOT / 'models' / 'toy_classifier', '--output_dir', 'models')
    assert done.status == 0, done.err

    def weights(folder, name):
        reader = tf.train.load_checkpoint(str(workspace / folder / 'checkpoints' / name))
        return {each: reader.get_tensor(each) for each in reader.get_variable_to_shape_map()}
    older, newer = (weights(f'output/{folder}', name[:-len('.index')])
                    for folder, name in zip(('earlier', 'toy'), names[-2:]))
    packed = weights('models/toy', names[-1][:-len('.index')])
    assert len(packed) == 25
    for name, value in packed.items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(value, (older[name] + newer[name]) / 2, atol=1e-6)
    assert any(np.abs(older[name] - newer[name]).max() > 1e-4 for name in packed)


def test_thinned_log_holds_means():
    records = [{'iteration': i, 'epoch': 0, 'lr': .1 / i, 'loss': float(i)} for i in range(1, 8)]
    assert list(pack_model.thinned(records, points=3)) == [
        {'iteration': 2, 'epoch': 0, 'lr': .05, 'loss': 1.5},
        {'iteration': 4, 'epoch': 0, 'lr': .025, 'loss': 3.5},
        {'iteration': 6, 'epoch': 0, 'lr': .1 / 6, 'loss': 5.5}]


@pytest.mark.parametrize('command', [
    demo.data_command('d'), *demo.measure_commands('e', 'f', 'd'),
    f'train.py --experiment_name e --dataroot d {demo.TRAIN_ON}',
    f'train.py --experiment_name e --dataroot d {demo.FROM_NOTHING}'])
def test_demo_commands_have_their_flags(run, command):
    script, *arguments = command.split()
    known = run(script, '--help').out
    assert all(flag in known for flag in arguments if flag.startswith('--'))


def write_custom_data(folder, toy_data, names, size=48):
    """Square images with another set of attributes, as the README describes."""
    lines = (toy_data / 'list_attr_celeba.txt').read_text().splitlines()
    images = folder / 'img_crop_celeba'
    images.mkdir(parents=True)
    rows = [str(len(lines) - 2), ' '.join(names)]
    for line in lines[2:]:
        fields = line.split()
        rows.append(' '.join([fields[0]] + fields[5:5 + len(names)]))
        picture = imlib.read(str(toy_data / 'img_align_celeba' / fields[0]))
        imlib.write(str(images / fields[0]), picture[40:40 + size * 3:3, 15:15 + size * 3:3])
    (folder / 'list_attr_celeba.txt').write_text('\n'.join(rows) + '\n')


@pytest.mark.slow
def test_custom_data_with_ten_attributes(tmp_path, run, toy_data):
    """No code change for another attribute set, image size and count."""
    names = [f'Quality_{letter}' for letter in 'ABCDEFGHIJ']
    write_custom_data(tmp_path / 'mine', toy_data, names)
    done = run('train.py', '--experiment_name', 'mine', '--dataroot', 'mine', *SMALL, '--epoch', 1,
               '--use_cropped_img', '--atts', *names)
    assert done.status == 0, done.err
    assert 'ratios 0.9,0.02,0.08' in done.out
    for command in (['test.py', '--experiment_name', 'mine', '--test_int', 2],
                    ['psnr_ssim.py', '--experiment_name', 'mine', '--threads', 1],
                    ['att_classification/train.py', '--dataroot', 'mine', '--use_cropped_img',
                     '--img_size', 64, '--epoch', 1, '--batch_size', 16, '--output_dir', 'c'],
                    ['att_classification/test.py', '--img_dir', 'output/mine/sample_testing',
                     '--checkpoint', 'c/checkpoints']):
        done = run(*command)
        assert done.status == 0, (command, done.err)
    result = read_json(str(tmp_path / 'output' / 'mine' / 'attribute_accuracy.json'))
    assert list(result['accuracy']) == names and result['images'] == 5
