"""The toy data set: layout, labels without contradictions, visible attributes, re-runs."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from scripts.toy import canvas, face
from scripts.toy import make_toy_celeba as toy

SCRIPT = ROOT / 'scripts' / 'toy' / 'make_toy_celeba.py'
HAIR_COLOURS = ('Black_Hair', 'Blond_Hair', 'Brown_Hair', 'Gray_Hair')
BEARDS = ('5_o_Clock_Shadow', 'Goatee', 'Sideburns')
FREQUENCIES = {
    'Bald': .06, 'Bangs': .15, 'Black_Hair': .26, 'Blond_Hair': .17, 'Brown_Hair': .25,
    'Bushy_Eyebrows': .14, 'Eyeglasses': .13, 'Gray_Hair': .05, 'Male': .42,
    'Mouth_Slightly_Open': .48, 'Mustache': .10, 'No_Beard': .83, 'Pale_Skin': .10, 'Smiling': .48,
    'Wearing_Hat': .06, 'Wearing_Lipstick': .47, 'Young': .77,
}
# The smallest part of the 64 x 64 pixels that must change by more than 30 of 255.
VISIBLE = {
    'Bald': .08, 'Bangs': .025, 'Black_Hair': .05, 'Blond_Hair': .05, 'Brown_Hair': .02,
    'Bushy_Eyebrows': .008, 'Eyeglasses': .03, 'Gray_Hair': .05, 'Male': .02,
    'Mouth_Slightly_Open': .006, 'Mustache': .005, 'No_Beard': .015, 'Pale_Skin': .15,
    'Smiling': .003, 'Wearing_Hat': .1, 'Wearing_Lipstick': .006, 'Young': .007,
}


def run(folder, *flags):
    """Run the command as its users do."""
    return subprocess.run([sys.executable, str(SCRIPT), str(folder), *flags],
                          capture_output=True, text=True)


def read_files(folder):
    """All files below a folder: relative path -> bytes."""
    files = {}
    for place, _, names in os.walk(str(folder)):
        for name in names:
            path = os.path.join(place, name)
            with open(path, 'rb') as stream:
                files[os.path.relpath(path, str(folder))] = stream.read()
    return files


def people(count, seed=0):
    """`count` samples of attributes."""
    return [toy.sample_attributes(toy.image_generator(seed, index)) for index in range(count)]


def with_attribute(attributes, name, value):
    """Flip one attribute, and those that would contradict it."""
    edited = dict(attributes, **{name: value})
    if value and name in HAIR_COLOURS:
        edited.update((other, other == name) for other in HAIR_COLOURS)
    if value and name == 'Bald':
        edited.update(dict.fromkeys(('Bangs', 'Receding_Hairline', *HAIR_COLOURS), False))
    if value and name == 'No_Beard':
        edited.update(dict.fromkeys(('Mustache', *BEARDS), False))
    if value and name == 'Mustache':
        edited['No_Beard'] = False
    return edited


def small_crop(picture):
    """The training input at 64 pixels, float [64, 64, 3]."""
    crop = Image.fromarray(picture[40:188, 15:163]).resize((64, 64), Image.BICUBIC)
    return np.asarray(crop, np.float64)


@pytest.fixture(scope='module')
def small_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp('toy') / 'celeba'
    result = run(folder, '--images', '30', '--processes', '1')
    assert result.returncode == 0, result.stderr
    return folder


def test_layout(small_set):
    names = [f'{index:06d}.jpg' for index in range(1, 31)]
    assert sorted(os.listdir(str(small_set))) == [
        'img_align_celeba', 'list_attr_celeba.txt', 'list_eval_partition.txt', 'toy.json']
    assert sorted(os.listdir(str(small_set / 'img_align_celeba'))) == names
    for name in names:
        with Image.open(str(small_set / 'img_align_celeba' / name)) as picture:
            assert (picture.format, picture.mode, picture.size) == ('JPEG', 'RGB', (178, 218))
    lines = (small_set / 'list_attr_celeba.txt').read_text().splitlines()
    assert lines[0] == '30'
    header = lines[1].split()
    assert len(header) == 40
    assert header == sorted(header, key=str.lower)  # as CelebA's are
    assert [line.split()[0] for line in lines[2:]] == names
    for line in lines[2:]:
        assert len(line) == len('000001.jpg') + 40 * 3
        assert set(line.split()[1:]) <= {'-1', '1'}
    assert len(lines) == 32


def test_partition(small_set):
    lines = (small_set / 'list_eval_partition.txt').read_text().splitlines()
    expected = [0] * 26 + [1] + [2] * 3
    assert lines == [f'{index:06d}.jpg {part}' for index, part in enumerate(expected, 1)]


@pytest.mark.parametrize('images', [1, 2, 3, 10, 1000])
def test_partition_of_any_size(images):
    parts = [int(line.split()[1]) for line in toy.partition_list(images).splitlines()]
    assert len(parts) == images
    assert parts == sorted(parts)
    assert set(parts) == ({0, 1, 2} if images >= 3 else {0})


def test_labels_are_those_of_the_drawing(small_set):
    line = (small_set / 'list_attr_celeba.txt').read_text().splitlines()[2 + 6]
    rng = toy.image_generator(0, 7)
    attributes = toy.sample_attributes(rng)
    assert [value == '1' for value in line.split()[1:]] == [
        attributes[name] for name in toy.CELEBA_ATTRIBUTES]
    with Image.open(str(small_set / 'img_align_celeba' / '000007.jpg')) as picture:
        difference = np.asarray(picture, np.float64) - face.draw_face(attributes, rng)
    assert np.abs(difference).mean() < 4  # JPEG


def test_images_depend_on_seed_and_index_only(small_set, tmp_path):
    assert toy.make_data_set(str(tmp_path / 'two'), images=12, seed=0, processes=2)
    assert toy.make_data_set(str(tmp_path / 'other'), images=3, seed=1, processes=1)
    one, two, other = (read_files(folder / 'img_align_celeba')
                       for folder in (small_set, tmp_path / 'two', tmp_path / 'other'))
    assert len(two) == 12
    for name, content in two.items():
        assert content == one[name]
    assert not set(other.values()) & set(one.values())


def test_second_run_does_nothing(small_set):
    before = read_files(small_set)
    stamps = {name: os.stat(str(small_set / name)).st_mtime_ns for name in before}
    result = run(small_set, '--images', '30')
    assert (result.returncode, result.stderr) == (0, '')
    assert 'up to date' in result.stdout
    assert read_files(small_set) == before
    assert stamps == {name: os.stat(str(small_set / name)).st_mtime_ns for name in before}


def test_interrupted_set_is_completed(tmp_path):
    folder = tmp_path / 'celeba'
    toy.make_data_set(str(folder), images=6, processes=1)
    whole = read_files(folder)
    (folder / 'list_attr_celeba.txt').unlink()
    (folder / 'img_align_celeba' / '000004.jpg').unlink()
    (folder / 'img_align_celeba' / '.writing-x-000005.jpg').write_bytes(b'half')
    assert toy.make_data_set(str(folder), images=6, processes=1)
    assert read_files(folder) == whole
    assert not toy.make_data_set(str(folder), images=6, processes=1)


def test_bad_input_ends_in_one_line_and_writes_nothing(small_set, tmp_path):
    strange = tmp_path / 'strange'
    strange.mkdir()
    (strange / 'thesis.txt').write_text('precious')
    cases = [
        (tmp_path / 'new', ['--images', '0']),
        (tmp_path / 'new', ['--seed', '-1']),
        (tmp_path / 'new', ['--processes', '0']),
        (tmp_path / 'new', ['--images', 'many']),
        (strange, ['--images', '2']),
        (strange / 'thesis.txt', ['--images', '2']),
        (strange / 'thesis.txt' / 'below', ['--images', '2']),
        (small_set, ['--images', '31']),
        (small_set, ['--images', '30', '--seed', '1']),
    ]
    before = read_files(tmp_path), read_files(small_set)
    for folder, flags in cases:
        result = run(folder, *flags)
        assert result.returncode == 2, (folder, flags, result.stderr)
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert 'error' in result.stderr
        assert result.stdout == ''
    assert (read_files(tmp_path), read_files(small_set)) == before
    assert not (tmp_path / 'new').exists()


def test_attributes_do_not_contradict_each_other():
    for has in people(3000):
        assert sorted(has) == sorted(toy.CELEBA_ATTRIBUTES)
        assert all(type(value) is bool for value in has.values())
        colours = sum(has[name] for name in HAIR_COLOURS)
        assert colours <= 1
        if has['Bald'] or has['Wearing_Hat']:
            assert not has['Bangs']
            assert not has['Receding_Hairline']
        if has['Bald']:
            assert has['Male']
            assert not colours
            assert not has['Wearing_Hat']
        if colours:
            assert face.has_hair(has)
        if has['Mustache'] or any(has[name] for name in BEARDS):
            assert not has['No_Beard']
        if not has['No_Beard']:
            assert has['Male']
            assert sum(has[name] for name in BEARDS) == 1
        if has['Male']:
            assert not (has['Wearing_Lipstick'] or has['Heavy_Makeup'] or has['Wearing_Earrings'])
        assert not (has['Wavy_Hair'] and has['Straight_Hair'])


def test_frequencies_are_the_documented_ones():
    samples = people(4000, seed=5)
    for name, expected in FREQUENCIES.items():
        found = np.mean([has[name] for has in samples])
        assert abs(found - expected) < max(.012, .08 * expected), name
    gray = [has for has in samples if has['Gray_Hair']]
    assert np.mean([has['Young'] for has in gray]) < .5


@pytest.mark.parametrize('name', sorted(VISIBLE))
def test_attribute_is_visible_at_64_pixels(name):
    # Who can have the attribute: a hat hides hair, lipstick is a woman's, a beard a man's.
    male = {'Wearing_Lipstick': False, 'Mustache': True, 'No_Beard': True, 'Bald': True}.get(name)
    needs_hair = name in (*HAIR_COLOURS, 'Bald', 'Bangs')
    suitable = [(index, has) for index, has in enumerate(people(150, seed=3))
                if (male is None or has['Male'] == male)
                and not (needs_hair and (has['Bald'] or has['Wearing_Hat']))]
    for index, has in suitable[:6]:
        on = with_attribute(has, name, True)
        off = with_attribute(on, name, False)
        crops = [small_crop(face.draw_face(attributes, np.random.default_rng([9, index])))
                 for attributes in (on, off)]
        changed = np.abs(crops[0] - crops[1]).max(axis=-1) > 30
        assert changed.mean() > VISIBLE[name], index


def test_flipping_an_attribute_changes_nothing_else():
    has = next(has for has in people(50) if face.has_hair(has) and not has['Wearing_Hat'])
    before, after = (
        face.draw_face(dict(has, Mouth_Slightly_Open=opened), toy.image_generator(0, 1))
        for opened in (False, True))
    rows = np.flatnonzero(np.any(before != after, axis=(1, 2)))
    assert rows.min() > 120  # the mouth, far below the eyes
    assert rows.max() < 190


def test_drawing():
    rng = toy.image_generator(0, 1)
    picture = face.draw_face(toy.sample_attributes(rng), rng)
    assert picture.shape == (218, 178, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 20


def test_eyes_are_where_celeba_has_them():
    looks = [canvas.sample_look(toy.image_generator(0, index)) for index in range(60)]
    x, y = np.mean([canvas.face_coordinates(look) for look in looks], axis=0)
    for column, row, across, down in ((69, 112, -19.5, 0), (108, 112, 19.5, 0), (88, 152, 0, 40)):
        assert abs(x[row, column] - across) < 1.5
        assert abs(y[row, column] - down) < 1.5
