"""Files from strangers: damaged at random or on purpose, they end in one line, never in a crash."""

import json
import resource
import shutil
import struct
import zlib

import numpy as np
import pytest
from conftest import EXPERIMENT

import imlib
from pylib import RunFailed, UserError, read_json_lines
from stgan import data, sheets
from stgan.celeba import CelebA
from stgan.config import RunConfig, load_config
from tflib import checkpoint, tf, utils

PIECES = [b'', b'\0', b'\xff\xfe', b'NaN', b'1e999', b'-1', b'99999999999999999999', b'"', b'{',
          b'[', b'../../x', b'/etc/passwd', b'null', b'true', b',', b'\n', b'\r', b'[' * 3000,
          b'{"a":' * 3000, 'é\u2028'.encode(), b'__import__("os")', b'%s%n', b' ' * 100]


def damaged(content, random):
    """`content` with something cut out, put in or overwritten."""
    start, stop = sorted(random.randint(0, len(content) + 1, 2))
    kind = random.randint(5)
    if kind == 0:
        return content[:start]
    if kind == 1:
        return content[:start] + content[stop:]
    if kind == 2:
        return content[:start] + PIECES[random.randint(len(PIECES))] + content[start:]
    if kind == 3:
        return content[:start] + PIECES[random.randint(len(PIECES))] + content[stop:]
    changed = bytearray(content)
    for place in random.randint(0, max(1, len(content)), 5):
        changed[place:place + 1] = bytes([random.randint(256)])
    return bytes(changed)


@pytest.fixture
def folder(tmp_path, trained, toy_data):
    """tmp_path with an experiment, its data, and a folder of test sheets."""
    shutil.copytree(str(trained / 'output'), str(tmp_path / 'output'))
    shutil.copytree(str(toy_data), str(tmp_path / 'data'))
    config, _ = load_config(str(tmp_path / 'output' / EXPERIMENT))
    plan, path = sheets.single_plan(config, 2.), tmp_path / 'sheets'
    labels = {'000001.png': ('000001.jpg', [0] * config.n_att)}
    sheets.TestFolder(str(path), {'img_size': 32, 'attributes': list(config.atts)}, plan.columns,
                      labels).write_description()
    shape = sheets.SheetFolder(str(path), 32, plan.columns, config.atts, labels).sheet_shape
    imlib.write(str(path / '000001.png'), np.random.RandomState(0).randint(
        0, 256, shape).astype(np.uint8))
    return tmp_path


def read_sheets(folder):
    """What psnr_ssim.py and the classifier do with a folder of sheets."""
    opened = sheets.open_folder(str(folder / 'sheets'))
    opened.column_index('reconstruction')
    for column in opened.columns:
        str(column.attributes[:1]) + str([2 * value for value in column.intensities])
    for name in opened.labels:
        opened.read(name)


def read_data(folder):
    celeba = CelebA(str(folder / 'data'), ['Bald', 'Young'], 'partition')
    celeba.paths(celeba.part('train')[:3])


def read_image(folder):
    path = str(folder / 'data' / 'img_align_celeba' / '000001.jpg')
    imlib.size(path)
    if data.unreadable_images([path], 64, True):
        raise UserError('named by the caller')


def restore(folder):
    path = checkpoint.require_latest(str(folder / 'output' / EXPERIMENT / 'checkpoints'))
    with tf.Graph().as_default(), utils.session() as session:
        shape = {'Genc/Conv/weights': [4, 4, 3, 4]}
        variables = [tf.get_variable(name, size) for name, size in shape.items()]
        checkpoint.restore(session, path, variables, ['Genc_of_nobody'])


CHECKPOINT = f'output/{EXPERIMENT}/checkpoints'
# file -> (function that reads it, how many damaged copies)
KINDS = {
    f'output/{EXPERIMENT}/setting.txt':
        (lambda folder: load_config(str(folder / 'output' / EXPERIMENT)), 60),
    'sheets/sheet.json': (read_sheets, 50),
    'sheets/labels.csv': (read_sheets, 50),
    'sheets/000001.png': (read_sheets, 30),
    'data/list_attr_celeba.txt': (read_data, 50),
    'data/list_eval_partition.txt': (read_data, 30),
    'data/img_align_celeba/000001.jpg': (read_image, 30),
    f'{CHECKPOINT}/checkpoint': (restore, 20),
    f'{CHECKPOINT}/Epoch_(2)_(4of4).ckpt.index': (restore, 30),
    f'{CHECKPOINT}/Epoch_(2)_(4of4).ckpt.data-00000-of-00001': (restore, 10),
    f'output/{EXPERIMENT}/metrics.jsonl':
        (lambda folder: read_json_lines(str(folder / f'output/{EXPERIMENT}/metrics.jsonl')), 30),
}


def test_there_are_hundreds_of_them():
    assert sum(count for _, count in KINDS.values()) >= 300


@pytest.mark.parametrize('name', list(KINDS))
def test_damaged_files_end_in_one_line(folder, name):
    read, count = KINDS[name]
    read(folder)    # while it is whole
    path, refused = folder / name, 0
    content, others = path.read_bytes(), listing(folder)
    random = np.random.RandomState(zlib.crc32(name.encode()))
    for _ in range(count):
        path.write_bytes(damaged(content, random))
        try:
            read(folder)
        except (UserError, RunFailed) as error:
            refused += 1
            assert '\n' not in str(error) and len(str(error)) < 2000
    path.write_bytes(content)
    assert listing(folder) == others
    read(folder)
    # A damaged log is cut, and the checkpoint before stands in for a damaged one.
    if not name.endswith('metrics.jsonl') and CHECKPOINT not in name:
        assert refused > count / 4


def listing(folder):
    return sorted(str(path) for path in folder.rglob('*'))


@pytest.mark.parametrize('change', [
    {'enc_dim': 10 ** 12}, {'img_size': 2 ** 40}, {'seed': 10 ** 30}, {'enc_layers': 60},
    {'lr': float('inf')}, {'atts': [['Bald']]}, {'atts': 'Bald'}, {'n_sample': True},
    {'split': 3}, {'dataroot': None}])
def test_settings_that_ask_for_too_much_are_named(folder, change):
    path = folder / 'output' / EXPERIMENT / 'setting.txt'
    path.write_text(json.dumps(dict(json.loads(path.read_text()), **change)))
    with pytest.raises(UserError, match=f'setting.txt: --{list(change)[0]}'):
        load_config(str(folder / 'output' / EXPERIMENT))


@pytest.mark.parametrize('text', ['[' * 100000, '{"a":' * 100000, '{"seed": 1%s}' % ('0' * 5000)])
def test_settings_made_to_exhaust_the_reader(folder, text):
    path = folder / 'output' / EXPERIMENT / 'setting.txt'
    path.write_text(text)
    with pytest.raises(UserError, match='setting.txt'):
        load_config(str(folder / 'output' / EXPERIMENT))


def test_unknown_settings_are_listed(folder):
    path = folder / 'output' / EXPERIMENT / 'setting.txt'
    path.write_text(json.dumps(dict(json.loads(path.read_text()), hook='rm -rf', zeal=3)))
    assert load_config(str(folder / 'output' / EXPERIMENT))[1] == ['hook', 'zeal']


EDIT = {'kind': 'edit', 'attributes': ['Bald'], 'intensities': [2.]}


@pytest.mark.parametrize('change', [
    {'img_size': 10 ** 9}, {'img_size': 'a'}, {'img_size': -32}, {'img_size': float('inf')},
    {'attributes': [1]}, {'attributes': 'Bald'}, {'columns': 7}, {'columns': []},
    {'columns': [dict(EDIT, kind=5)]}, {'columns': [dict(EDIT, attributes=None)]},
    {'columns': [dict(EDIT, attributes=[['Bald']])]}, {'columns': [dict(EDIT, intensities='x')]},
    {'columns': [dict(EDIT, intensities=[None])]}, {'columns': [dict(EDIT, more=1)]}])
def test_descriptions_of_sheets_are_checked(folder, change):
    path = folder / 'sheets' / 'sheet.json'
    description = json.loads(path.read_text())
    if change.get('columns') and change['columns'] != 7:
        change = {'columns': description['columns'][:-1] + change['columns']}
    path.write_text(json.dumps(dict(description, **change)))
    with pytest.raises(UserError, match='sheet.json' if 'columns' in change and change['columns']
                       else 'sheets'):
        read_sheets(folder)


@pytest.mark.parametrize('name', ['../x.png', '/etc/passwd', '..', 'a/b.png', '', 'a\0b.png'])
def test_names_cannot_leave_the_folder(folder, name):
    """Of sheets in labels.csv, of images in the attribute list."""
    path = folder / 'sheets' / 'labels.csv'
    path.write_text(path.read_text().replace('000001.png', name))
    with pytest.raises(UserError):
        read_sheets(folder)
    path = folder / 'data' / 'list_attr_celeba.txt'
    path.write_text(path.read_text().replace('000001.jpg', name))
    with pytest.raises(UserError):
        read_data(folder)


@pytest.mark.parametrize('name', ['', 'a\0b', './a\0b'])
def test_experiment_names_that_no_folder_can_have(name):
    with pytest.raises(UserError, match='--experiment_name'):
        RunConfig(experiment_name=name).check()


def bomb_png(width, height):
    """A valid PNG of few bytes that claims many pixels."""
    def chunk(kind, content):
        return (struct.pack('>I', len(content)) + kind + content
                + struct.pack('>I', zlib.crc32(kind + content)))
    return (data.PNG_SIGNATURE + chunk(b'IHDR', struct.pack('>2I5B', width, height, 8, 2, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(b'\0' * 100)) + chunk(b'IEND', b''))


def bomb_jpeg(content, width, height):
    """A JPEG whose frame header claims another size."""
    place = content.index(b'\xff\xc0') + 5
    return content[:place] + struct.pack('>2H', height, width) + content[place + 4:]


def test_images_that_claim_to_be_huge_are_not_decoded(folder):
    path = folder / 'data' / 'img_align_celeba' / '000001.jpg'
    bombs = [bomb_jpeg(path.read_bytes(), 65500, 65500), bomb_png(30000, 30000),
             bomb_png(2 ** 31 - 1, 2 ** 31 - 1), bomb_png(0, 5)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in bombs:
        path.write_bytes(content)
        for crop in (True, False):
            ((_, reason),) = data.unreadable_images([str(path)], 64, crop)
            assert 'too large' in reason
        with pytest.raises(UserError, match='000001.jpg: not a readable image'):
            imlib.read(str(path))
    # Kilobytes. One of them decoded would take 2.7 GB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 1024
