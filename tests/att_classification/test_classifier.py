"""The attribute classifier and what it measures."""

import json
import shutil
from collections import OrderedDict

import numpy as np
import pytest

import imlib
from att_classification import evaluation, training
from att_classification.models import classifier
from att_classification.options import TrainingConfig
from pylib import UserError, read_json
from stgan import models, sheets
from stgan.attributes import CELEBA_ATTRIBUTES, DEFAULT_ATTRIBUTES
from stgan.config import RunConfig
from tflib import checkpoint, tf, utils


def test_variables_are_those_of_the_published_checkpoint(golden_folder):
    with open(str(golden_folder / 'classifier_variables.json')) as stream:
        wanted = json.load(stream)
    with tf.Graph().as_default():
        classifier(tf.zeros([1, 128, 128, 3]))
        assert {v.op.name: v.shape.as_list() for v in tf.global_variables()} == wanted


def test_a_file_like_the_published_one_is_restored_by_name(tmp_path):
    """128.ckpt without classifier.json: 40 CelebA attributes, 128 pixels."""
    with tf.Graph().as_default(), utils.session() as session:
        x = tf.placeholder(tf.float32, [None, 128, 128, 3])
        logits = classifier(x, is_training=False)
        session.run(tf.global_variables_initializer())
        path = checkpoint.Checkpoints(str(tmp_path), 1).save(session, '128.ckpt')
        images = np.random.RandomState(0).randint(0, 256, [2, 128, 128, 3]).astype(np.uint8)
        wanted = session.run(logits, {x: imlib.to_float(images)}) > 0
    for name in (path, str(tmp_path)):
        published = evaluation.Classifier(name, 'cpu')
        assert published.atts == list(CELEBA_ATTRIBUTES) and published.img_size == 128
        np.testing.assert_array_equal(published.predict(images), wanted)


def test_learning_rate_is_published():
    rates = [training.learning_rate(2e-4, 25, epoch) for epoch in (0, 8, 9, 24)]
    np.testing.assert_allclose(rates, [2e-4, 2e-4, 2e-4 * (24 / 25) ** .75, 2e-4 * (9 / 25) ** .75])


class Oracle:
    """Reads the labels that `painted` has put into the pixels."""

    atts = ['Other', 'Male', 'Bald', 'Young']

    def predict(self, images):
        return (images[:, :len(self.atts), 0, 0] > 127).astype(np.int64)


def painted(labels):
    image = np.full([32, 32, 3], -1, np.float32)
    image[:len(labels), 0] = np.array(labels)[:, np.newaxis] * 2 - 1
    return image


@pytest.fixture
def painted_folder(tmp_path):
    """Two sheets: editing Bald works once and disturbs Male once, editing Male always works."""
    config = RunConfig(atts=('Bald', 'Male'), img_size=32)
    names = ['000001.png', '000002.png']
    sheets.TestFolder(
        str(tmp_path), OrderedDict(img_size=32, attributes=['Bald', 'Male']),
        sheets.single_plan(config, 2.).columns,
        OrderedDict((name, ('x.jpg', [0, 1])) for name in names)).write_description()
    # Per image: Other, Male, Bald, Young.
    source = painted([0, 1, 0, 1])
    results = [[source, painted([0, 1, 1, 1]), painted([0, 0, 0, 1])],
               [source, painted([0, 0, 0, 1]), painted([0, 0, 0, 1])]]
    for name, edits in zip(names, results):
        imlib.write(str(tmp_path / name), sheets.compose(source, edits))
    return sheets.open_folder(str(tmp_path))


def test_accuracy_error_and_confusion(painted_folder):
    result = evaluation.evaluate(painted_folder, Oracle())
    assert result.atts == ['Bald', 'Male'] and result.images == 2
    np.testing.assert_allclose(result.source_accuracy, [1, 1])
    np.testing.assert_allclose(result.accuracy, [.5, 1])
    np.testing.assert_allclose(result.error_each, [[0, .5], [0, 0]])
    np.testing.assert_allclose(result.error, [.5, 0])


def test_attribute_subset(painted_folder):
    result = evaluation.evaluate(painted_folder, Oracle(), ['Male'])
    assert result.atts == ['Male'] and result.accuracy.tolist() == [1]
    for atts, complaint in ((['Young'], '--atts Young: the sheets edit Bald Male'),
                            (['Bald'], 'Bald: unknown to the classifier')):
        classifier_ = Oracle()
        classifier_.atts = ['Male', 'Young']
        with pytest.raises(UserError, match=complaint):
            evaluation.evaluate(painted_folder, classifier_, atts)


def test_labels_of_published_sheets_come_from_the_list(published_run):
    """No tfrecord is needed, and no number of attributes is written into the code."""
    folder = sheets.open_folder(str(published_run / 'output' / 'golden' / 'sample_testing'))

    class Nobody:
        atts = list(CELEBA_ATTRIBUTES)

        def predict(self, images):
            return np.zeros([len(images), 40], np.int64)
    with pytest.raises(UserError, match='no labels.csv; name the data folder with --dataroot'):
        evaluation.evaluate(folder, Nobody())
    result = evaluation.evaluate(folder, Nobody(), dataroot=str(published_run / 'celeba'))
    # Who sees nothing is right about an edit where the attribute was on: image 1 is Bald.
    assert result.accuracy[DEFAULT_ATTRIBUTES.index('Bald')] == pytest.approx(1 / 3)
    assert result.images == 3


@pytest.mark.parametrize('content, complaint', [
    ('{', 'classifier.json:1: not JSON'), ('[]', 'classifier.json: expected a JSON object'),
    ('{}', 'classifier.json: expected attributes and img_size'),
    ('{"attributes": 3, "img_size": 128}', 'expected attributes'),
    ('{"attributes": [], "img_size": 128}', 'expected attributes'),
    ('{"attributes": ["Bald", 3], "img_size": 128}', 'expected attributes'),
    ('{"attributes": ["Bald", "Bald"], "img_size": 128}', 'expected attributes'),
    ('{"attributes": ["Bald"], "img_size": "128"}', 'expected attributes'),
    ('{"attributes": ["Bald"], "img_size": 100}', 'expected attributes'),
    ('{"attributes": ["Bald"], "img_size": 1e99}', 'expected attributes'),
    ('{"attributes": ["Bald"], "img_size": true}', 'expected attributes'),
    ('{"attributes": ["Bald"], "img_size": 3200000}', 'expected attributes')])
def test_a_damaged_description_is_one_line(tmp_path, content, complaint):
    (tmp_path / 'classifier.json').write_text(content)
    (tmp_path / 'x.ckpt.index').write_text('')
    with pytest.raises(UserError) as error:
        evaluation.Classifier(str(tmp_path / 'x.ckpt'), 'cpu')
    assert complaint in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('net, complaint', [
    (lambda x: classifier(x, 3, 2), 'x.ckpt: not the published classifier; for any other restore '),
    (lambda x: models.Genc(x, 4), 'x.ckpt: holds Genc, of which this model has none')])
def test_without_description_it_is_the_published_one_or_refused(tmp_path, net, complaint):
    with tf.Graph().as_default(), utils.session() as session:
        net(tf.zeros([1, 32, 32, 3]))
        session.run(tf.global_variables_initializer())
        checkpoint.Checkpoints(str(tmp_path), 1).save(session, 'x.ckpt')
    with pytest.raises(UserError, match=complaint):
        evaluation.Classifier(str(tmp_path), 'cpu')


@pytest.fixture
def classify(run, tmp_path, painted_folder, monkeypatch):
    """A function that runs the command on the painted sheets, with a classifier that reads them."""
    class Stub(Oracle):
        is_published, path = True, 'checkpoints/128.ckpt'

        def __init__(self, *_):
            pass
    monkeypatch.setattr(evaluation, 'Classifier', Stub)
    (tmp_path / 'sheets').mkdir()
    for path in list(tmp_path.glob('0*.png')) + [tmp_path / 'sheet.json', tmp_path / 'labels.csv']:
        path.rename(tmp_path / 'sheets' / path.name)

    def command(*options, is_published=True):
        Stub.is_published = is_published
        return run('att_classification/test.py', '--img_dir', 'sheets', *options)
    return command


def test_the_table_names_the_conditions(classify, tmp_path):
    done = classify()
    assert done.status == 0, done.err
    assert 'attribute accuracy on 2 sheets of 32x32, intensity 2' in done.out
    assert 'paper: 19962 sheets of 128x128, intensity 2\n' in done.out
    assert ('not comparable with the paper: 2 sheets instead of 19962; 32x32 pixels instead of '
            '128x128; the mean of Bald Male instead of the published 13 attributes\n') in done.out
    report = json.loads((tmp_path / 'attribute_accuracy.json').read_text())
    assert (report['sheets'], report['images'], report['test_int']) == ('sheets', 2, 2)
    assert report['paper'] == {'images': 19962, 'mean_accuracy': .8605, 'img_size': 128,
                               'test_int': 2}
    out = classify('--atts', 'Male', is_published=False).out
    assert ('; the mean of Male instead of the published 13 attributes; a classifier trained here '
            '(checkpoints/128.ckpt) instead of the published 128.ckpt\n') in out


def test_the_report_may_go_elsewhere(classify, tmp_path):
    (tmp_path / 'taken' / 'attribute_accuracy.json').mkdir(parents=True)
    done = classify('--output_dir', 'taken')
    assert done.status == 1 and '75.00%' in done.out    # printed before the report failed
    assert done.err.endswith(', or name another folder with --output_dir\n')
    assert classify('--output_dir', 'reports').status == 0
    assert sorted(path.name for path in (tmp_path / 'reports').iterdir()) == [
        'attribute_accuracy.json', 'attribute_accuracy.png']
    assert not (tmp_path / 'attribute_accuracy.json').exists()
    (tmp_path / 'sheets').rename(tmp_path / 'others')
    (tmp_path / 'others').rename(tmp_path / 'reports' / 'sheets')
    done = classify('--img_dir', 'reports/sheets', '--output_dir', 'reports')
    assert done.status == 2 and 'report on the sheets in ../sheets; name another' in done.err


def test_options_without_effect_are_errors(classify):
    done = classify('--dataroot', 'data')
    assert done.status == 2 and '--dataroot: has no effect, as sheets/labels.csv' in done.err
    done = classify('--atts', 'Male', 'Bald', 'Male')
    assert done.status == 2 and '--atts: Male is named twice' in done.err


def test_sheets_left_out_are_told(classify, tmp_path):
    path = tmp_path / 'sheets' / 'sheet.json'
    path.write_text(json.dumps(dict(json.loads(path.read_text()), left_out=[
        {'sheet': '000003.png', 'image': 'y.jpg', 'reason': 'cut short'}])))
    done = classify()
    assert '1 unusable image of the test without a sheet (y.jpg)' in done.out
    report = json.loads((tmp_path / 'attribute_accuracy.json').read_text())
    assert report['unreadable_images'] == 1


def test_sheets_of_other_modes_are_refused(published_run):
    folder = sheets.open_folder(str(published_run / 'output' / 'golden' / 'sample_testing_multi'))
    with pytest.raises(UserError, match='do not show one edit per attribute'):
        evaluation.evaluate(folder, Oracle())


def small_config(dataroot, folder, **options):
    return TrainingConfig(dataroot=str(dataroot), output_dir=str(folder), img_size=32,
                          batch_size=16, device='cpu', **options).check()


def test_published_defaults():
    """csmliu/STGAN att_classification/train.py@8a206ad."""
    config = TrainingConfig()
    assert (config.img_size, config.epoch, config.batch_size, config.lr, config.atts) == (
        128, 25, 64, 2e-4, ())


@pytest.mark.parametrize('options, complaint', [
    ({'img_size': 16}, '--img_size 16: expected at least 32'), ({'lr': 0.}, '--lr 0.0'),
    ({'img_size': 48}, '--img_size 48: expected a multiple of 32'), ({'epoch': 0}, '--epoch 0'),
    ({'time_limit': -1.}, '--time_limit -1.0'), ({'seed': 2 ** 31}, '--seed 2147483648')])
def test_illegal_options_are_named(options, complaint):
    with pytest.raises(UserError) as error:
        TrainingConfig(**options).check()
    assert str(error.value).startswith(complaint)


@pytest.mark.slow
def test_training_resumes(tmp_path, toy_data, capfd):
    def train(epochs, **options):
        training.train(small_config(toy_data, tmp_path / 'a[1]', epoch=epochs, **options))
        return capfd.readouterr().out
    train(1)
    assert 'resuming after iteration 3 of 6' in train(2)
    with pytest.raises(UserError, match='classifier.json: trained with other attributes'):
        train(2, atts=('Bald',))
    assert '--clear: removing checkpoints, summaries, metrics.jsonl, test_accuracy.json' in (
        train(1, atts=('Bald',), clear=True))
    folder, files = tmp_path / 'a[1]', 'Epoch_(0)_(3of3).ckpt'
    for content in ('{', f'{{"checkpoint": "{files}"}}'):
        (folder / 'test_accuracy.json').write_text(content)
        training.train(small_config(toy_data, folder, epoch=1, atts=('Bald',)))
        done = capfd.readouterr()
        assert f'{files}: accuracy ' in done.out and 'mean' in done.out
        assert 'test_accuracy.json' in done.err and done.err.endswith('; measuring anew\n')
    for path in (folder, folder / 'checkpoints', folder / 'checkpoints' / 'checkpoint',
                 folder / 'checkpoints' / (files + '.index'), folder / 'checkpoints' / files):
        assert evaluation.Classifier(str(path), 'cpu').atts == ['Bald']


def test_an_unreadable_test_image_is_left_out(tmp_path, toy_data, capfd):
    """It ends no epoch, and counts neither as right nor as wrong."""
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    path = tmp_path / 'toy' / 'img_align_celeba' / '000058.jpg'
    path.write_bytes(path.read_bytes()[:200])
    training.train(small_config(tmp_path / 'toy', tmp_path, epoch=1))
    done = capfd.readouterr()
    assert f'warning: {path}: unusable image' in done.err
    assert 'on 5 test images, 1 unusable left out' in done.out
    measured = read_json(str(tmp_path / 'test_accuracy.json'))
    assert (measured['images'], measured['unreadable_images']) == (5, 1)
    for accuracy in measured['attributes'].values():
        assert accuracy * 5 == pytest.approx(round(accuracy * 5))


def test_labels_of_a_list_alone(published_run):
    """--dataroot of the evaluation needs no images."""
    shutil.rmtree(str(published_run / 'celeba' / 'img_align_celeba'))
    folder = sheets.open_folder(str(published_run / 'output' / 'golden' / 'sample_testing'))
    names = list(DEFAULT_ATTRIBUTES)
    labels = evaluation._sheet_labels(folder, names, str(published_run / 'celeba'))
    assert len(labels) == 3 and all(len(label) == 13 for label in labels.values())


@pytest.mark.slow
def test_training_is_repeatable(tmp_path, toy_data):
    marks = []
    for name in ('a', 'b'):
        training.train(small_config(toy_data, tmp_path / name, epoch=1, threads=2))
        newest = checkpoint.latest(str(tmp_path / name / 'checkpoints'))
        marks.append(checkpoint.fingerprint(newest))
    assert marks[0] == marks[1]
