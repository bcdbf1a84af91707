"""Photos edited from file to file: what changes, what never does, and what is told."""

import io
import json
import os
import re
import shutil

import numpy as np
import people
import pytest
from conftest import ROOT
from exported import set_label
from PIL import Image

import imlib.photos
from imlib import faces
from pylib import UserError
from scripts.toy.make_toy_celeba import draw_face, image_generator, sample_attributes
from stgan import attributes, data, photos
from stgan.config import RunConfig
from stgan.editing import EditGraph, Editor
from tflib import tf, utils

EDIT = 'scripts/edit_photos.py'
NAMED = '--experiment_name', 'toy', '--device', 'cpu', '--threads', 2
CLASSIFIED = '--labels_from_classifier', ROOT / 'models' / 'toy_classifier'
# Where the eyes and the corners of the mouth of CelebA's aligned images are, and so of drawn faces.
TEMPLATE = [[69.745, 111], [107.238, 111], [90, 130], [78.432, 152.514], [98.432, 152.514]]


@pytest.fixture(scope='module')
def experiment(tmp_path_factory):
    """An experiment folder: few layers, which open soon, with random weights."""
    folder = tmp_path_factory.mktemp('experiment') / 'toy'
    config = RunConfig(experiment_name='toy', img_size=32, atts=('Bangs', 'Eyeglasses', 'Male'),
                       enc_layers=2, dec_layers=2, stu_layers=1, enc_dim=4, dec_dim=4, stu_dim=4,
                       dis_layers=2)
    config.save(str(folder))
    with tf.Graph().as_default(), utils.session('cpu') as session:
        EditGraph(config)
        random = np.random.RandomState(0)
        for variable in tf.global_variables():
            shape = variable.shape.as_list()
            variable.load(random.normal(0, .15, shape) if 'weights' in variable.name
                          else np.full(shape, .5), session)
        (folder / 'checkpoints').mkdir()
        tf.train.Saver().save(session, str(folder / 'checkpoints' / 'Epoch_(1)_(1of1).ckpt'))
    return folder


@pytest.fixture(scope='module')
def editor(experiment):
    with Editor(str(experiment), device='cpu', threads=2) as opened:
        yield opened


@pytest.fixture(scope='module')
def astronaut():
    return photos.Photo.open(people.ASTRONAUT)


@pytest.fixture
def studio(tmp_path, experiment):
    """tmp_path with that experiment in output/toy and two photos, one without a face, in in/."""
    (tmp_path / 'output').mkdir()
    shutil.copytree(str(experiment), str(tmp_path / 'output' / 'toy'))
    (tmp_path / 'in').mkdir()
    shutil.copy(people.ASTRONAUT, str(tmp_path / 'in' / 'astronaut.png'))
    shutil.copy(people.WITHOUT_FACE[0], str(tmp_path / 'in' / 'cat.png'))
    return tmp_path


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_an_edit_of_nothing_changes_no_pixel(editor, astronaut):
    for values in ({}, {'Male': 0}):
        same = editor.edit_photo(astronaut, values)
        np.testing.assert_array_equal(same.pixels, astronaut.pixels)
    face = photos.EditableFace(editor, astronaut, astronaut.faces[0].landmarks)
    pasted = face.paste(astronaut.pixels, face.edit([{}])[0])    # nor does one that is computed
    np.testing.assert_array_equal(pasted, astronaut.pixels)


def test_only_the_face_changes_and_as_the_network_says(editor, astronaut):
    edited = editor.edit_photo(astronaut, {'Male': -1, 'Bangs': 1.5}).pixels
    changed = (edited != astronaut.pixels).any(axis=2)
    rows, columns = np.nonzero(changed)
    eyes = np.array(people.LANDMARKS[people.ASTRONAUT][:2], float)
    side = 170 / (107.238 - 69.745) * np.hypot(*(eyes[1] - eyes[0]))    # of what is cut out
    assert side * .7 < np.ptp(rows) < side * 1.1 and side * .7 < np.ptp(columns) < side * 1.1
    assert abs(columns.mean() - eyes[:, 0].mean()) < side / 6
    assert changed[80:150, 195:255].mean() > .5
    # The corners of what the network sees are outside of the mask.
    face = photos.EditableFace(editor, astronaut, astronaut.faces[0].landmarks)
    middle = face.outline.mean(axis=0)
    for x, y in np.rint(middle + .9 * (face.outline - middle)).astype(int):
        assert not changed[y - 2:y + 3, x - 2:x + 3].any()


def test_units_of_an_edit(editor, astronaut):
    """1 is the step from off to on that training shows."""
    atts, thres_int = editor.config.atts, editor.config.thres_int
    face = photos.EditableFace(editor, astronaut, astronaut.faces[0].landmarks)
    off, on = np.zeros([1, len(atts)], int), np.zeros([1, len(atts)], int)
    on[0, atts.index('Male')] = 1
    difference = attributes.signed(on, thres_int) - attributes.signed(off, thres_int)
    (wanted,) = editor.edit(face.image, difference)
    found, = face.edit([{'Male': 1}])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(found - face.edit([{'Male': .5}])[0]).max() > 1e-3
    np.testing.assert_allclose(face.edit([{}])[0], face.reconstruction, atol=1e-5)


def test_the_network_sees_what_training_shows(editor, tmp_path):
    """A photo that is an aligned image already comes to the same as decoding it for training."""
    noise = np.random.RandomState(0).randint(0, 256, [28, 23, 3]).astype(np.uint8)
    aligned = np.asarray(Image.fromarray(noise).resize((178, 218), Image.BICUBIC))
    path = tmp_path / '000001.png'
    Image.fromarray(aligned).save(str(path))
    ((_, (wanted,)),) = data.load_images([str(path)], 32, True, 1)
    photo = photos.Photo.open(str(path))
    for each in (TEMPLATE, None):
        found = photos.EditableFace(editor, photo, each).image
        np.testing.assert_allclose(found, wanted, atol=.02)
    square = tmp_path / 'square.png'
    Image.fromarray(aligned[:100, :100]).save(str(square))
    ((_, (wanted,)),) = data.load_images([str(square)], 32, False, 1)
    found = photos.EditableFace(editor, photos.Photo.open(str(square))).image
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize('use_cropped_img', [False, True])
@pytest.mark.parametrize('img_size', [64, 128])
def test_cut_and_map_agree(img_size, use_cropped_img):
    """A dot of the photo is where the map says in the network's input, to a tenth of a pixel."""
    y, x = np.mgrid[:600, :700]
    spot = np.array([330.3, 260.8])
    dot = 200 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / (2 * 14. ** 2))
    photo = photos.Photo.open(png(np.rint(np.stack([dot] * 3, axis=2)).astype(np.uint8)), 'dot')
    landmarks = np.array([[280, 250], [390, 230], [340, 280], [300, 360], [400, 345]])
    config = RunConfig(img_size=img_size, use_cropped_img=use_cropped_img)
    crop, mapping = photos.cut_out(photo, landmarks, config)
    mass = data.square_reader(img_size)(crop)[..., 0] + 1.
    rows, columns = np.mgrid[:img_size, :img_size]
    found = np.array([(mass * columns).sum(), (mass * rows).sum()]) / mass.sum()
    np.testing.assert_allclose(found, faces.apply(mapping, spot), atol=.1)


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, 'PNG')
    stream.seek(0)
    return stream


def test_large_squares_are_reduced_and_edited_as_a_whole(editor):
    pixels = Image.fromarray(people.pixels(people.ASTRONAUT)[40:200, 140:300])
    pixels = np.asarray(pixels.resize((12, 12), Image.BOX).resize((700, 700), Image.BICUBIC))
    photo = photos.Photo.open(png(pixels), 'square')
    face = photos.EditableFace(editor, photo)
    small = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.BOX), float) / 127.5 - 1
    assert np.abs(face.image - small).mean() < .06 < small.std() / 5
    np.testing.assert_allclose(face.outline[[0, 2]], [[-.5, -.5], [677.6, 677.6]], atol=3)
    edited = editor.edit_photo(photo, {'Male': -1}, align=False)
    changed = (edited.pixels != pixels).any(axis=2)
    assert changed.mean() > .7 and changed[-3:].any() and changed[:, -3:].any()
    with pytest.raises(UserError, match='oblong: 700x600 pixels; without alignment'):
        photos.EditableFace(editor, photos.Photo.open(png(pixels[:600]), 'oblong'))


def test_several_faces_and_one_of_them(editor):
    crowd = photos.Photo.open(png(people.crowd(800, 800)), 'crowd')
    assert len(crowd.faces) == 4
    changed = (editor.edit_photo(crowd, {'Male': -1}).pixels != crowd.pixels).any(axis=2)
    quarters = [changed[row:row + 400, column:column + 400].any()
                for row in (0, 400) for column in (0, 400)]
    assert all(quarters)
    one = editor.edit_photo(crowd, {'Male': -1}, face=2)
    changed = (one.pixels != crowd.pixels).any(axis=2)
    assert sum(changed[row:row + 400, column:column + 400].any()
               for row in (0, 400) for column in (0, 400)) == 1
    x, y = crowd.faces[1].landmarks[2]
    assert changed[int(y), int(x)] and one.recipe.numbers == [2]
    for number in (0, 5):
        with pytest.raises(UserError, match=f'crowd: no face {number}, it has 4'):
            editor.edit_photo(crowd, {'Male': -1}, face=number)


def test_what_cannot_be_edited_is_told(editor, astronaut):
    with pytest.raises(UserError, match='cat: no face found'):
        editor.edit_photo(photos.Photo.open(people.WITHOUT_FACE[0], 'cat'), {'Male': 1})
    with pytest.raises(UserError, match='Hat: the experiment edits Bangs'):
        editor.edit_photo(astronaut, {'Hat': 1})
    photo = photos.Photo.open(people.ASTRONAUT, 'x')
    for landmarks in ([[0, 0]] * 4, [[9, 9]] * 5, [[9, 9], [600, 9], [9, 9], [9, 9], [9, 9]],
                      [[9, np.nan], [60, 9], [9, 9], [9, 9], [9, 9]],
                      # Right eye first, on a face that this would turn and shrink without end.
                      [[200, 100], [100, 100], [150, 120], [100, 168], [200, 167]]):
        with pytest.raises(UserError, match='x: face 1: '):
            photo.set_landmarks([landmarks])


def test_a_jpeg_that_cannot_be_as_large_is_told(tmp_path):
    photo = photos.Photo(imlib.photos.Decoded(np.zeros([65501, 1, 3], np.uint8)), 'tall')
    for write in (lambda: photo.encode('jpeg'), lambda: photo.save(str(tmp_path / 'x.jpg'))):
        with pytest.raises(UserError, match='tall: 1x65501 pixels.*take PNG'):
            write()
    assert not list(tmp_path.iterdir())


def test_faces_seen_from_the_side(astronaut):
    (face,) = astronaut.faces
    assert not photos.is_profile(face)
    points = face.landmarks.copy()
    points[:, 0] = points[:, 0].mean() + .2 * (points[:, 0] - points[:, 0].mean())
    assert photos.is_profile(face._replace(landmarks=points))


def test_saved_as_png_or_jpeg(editor, astronaut, tmp_path):
    edited = editor.edit_photo(astronaut, {'Male': -1})
    edited.save(str(tmp_path / 'x.png'))
    edited.save(str(tmp_path / 'x.JPG'))
    np.testing.assert_array_equal(photos.Photo.open(str(tmp_path / 'x.png')).pixels,
                                  edited.pixels)
    assert (tmp_path / 'x.JPG').read_bytes()[:2] == b'\xff\xd8'
    with pytest.raises(UserError, match=r'x.gif: expected a name that ends in .png or .jpg'):
        edited.save(str(tmp_path / 'x.gif'))


def test_target_labels(run, studio):
    set_label(studio, 'target')
    photo = photos.Photo.open(people.ASTRONAUT, 'x')
    with Editor(str(studio / 'output' / 'toy'), device='cpu') as editor:
        with pytest.raises(UserError, match='target labels'):
            editor.edit_photo(photo, {'Bangs': 1})
        face = photos.EditableFace(editor, photo, photo.faces[0].landmarks, ['Male'])
        labels = np.array([[name == 'Male' for name in editor.config.atts]], int)
        source = attributes.signed(labels, editor.config.thres_int)
        np.testing.assert_allclose(face.reconstruction, editor.edit(face.image, source)[0],
                                   atol=1e-5)
        source[0, editor.config.atts.index('Bangs')] *= -1
        np.testing.assert_allclose(face.edit([{'Bangs': 1}])[0],
                                   editor.edit(face.image, source)[0], atol=1e-5)
    arguments = ['in/astronaut.png', *NAMED, '--set', 'Bangs=1']
    done = run(EDIT, *arguments)
    assert done.status == 2 and 'say with --labels which attributes' in done.err
    assert run(EDIT, *arguments, '--labels', 'Male').status == 0
    recipe = photos.Recipe.from_text(
        Image.open(str(studio / 'output' / 'toy' / 'photos' / 'astronaut.png')).text['stgan'], 'x')
    assert recipe.labels == ['Male']


@pytest.fixture
def couple(studio):
    """Two drawn faces in in/couple.png, their landmarks in list.txt; what each of them shows."""
    set_label(studio, 'target')
    drawn, labels = [], []
    for number in (4, 6):
        rng = image_generator(seed=2024, index=number)
        is_set = sample_attributes(rng)
        drawn.append(draw_face(is_set, rng))
        labels.append([name for name in ('Bangs', 'Eyeglasses', 'Male') if is_set[name]])
    Image.fromarray(np.concatenate(drawn, axis=1)).save(str(studio / 'in' / 'couple.png'))
    for number, image in enumerate(drawn):
        Image.fromarray(image).save(str(studio / f'drawn{number}.png'))
    lines = ['couple.png ' + ' '.join(f'{x + 178 * number} {y}' for x, y in TEMPLATE)
             for number in range(2)]
    (studio / 'list.txt').write_text('\n'.join(lines) + '\n')
    assert labels[0] != labels[1]
    return labels


def recipe_in(path):
    return json.loads(Image.open(str(path)).text['stgan'])


@pytest.mark.slow
def test_labels_from_a_classifier(run, studio, couple):
    """Each face gets the labels of its own, and the recipe repeats the edit."""
    arguments = ['in/couple.png', *NAMED]
    edit = [*arguments, '--set', 'Eyeglasses=1']
    done = run(EDIT, *edit, '--landmarks', 'list.txt', *CLASSIFIED, '--output_dir', 'a')
    assert done.status == 0, done.err
    made = studio / 'a' / 'couple.png'
    assert recipe_in(made)['labels'] == couple
    assert run(EDIT, *arguments, '--recipe', made, '--output_dir', 'b').status == 0
    assert (studio / 'b' / 'couple.png').read_bytes() == made.read_bytes()
    # As if each had been edited on its own, with those labels.
    alone = [*edit, '--landmarks', 'list.txt']
    for number, labels in enumerate(couple, 1):
        assert run(EDIT, *alone, '--face', number, '--labels', *labels or ['none'],
                   '--output_dir', f'c{number}').status == 0
    halves = [people.pixels(str(studio / f'c{number + 1}' / 'couple.png'))
              [:, 178 * number:178 * number + 178] for number in range(2)]
    assert (people.pixels(str(made)) == np.concatenate(halves, axis=1)).all()
    # Sheets; whole pictures; an edit of nothing.
    assert run(EDIT, *arguments, '--strip', '--landmarks', 'list.txt', *CLASSIFIED,
               '--output_dir', 'd').status == 0
    assert files(studio / 'd') == ['couple_face1_strip.png', 'couple_face2_strip.png']
    assert run(EDIT, 'drawn1.png', *NAMED, '--set', 'Male=0', '--no_align', *CLASSIFIED,
               '--output_dir', 'e').status == 0
    assert recipe_in(studio / 'e' / 'drawn1.png')['labels'] == couple[1:]
    assert run(EDIT, 'drawn1.png', *NAMED, '--recipe', 'e/drawn1.png', '--output_dir', 'f'
               ).status == 0
    assert (studio / 'f' / 'drawn1.png').read_bytes() == (
        studio / 'e' / 'drawn1.png').read_bytes()
    # Labels of these faces say nothing of others.
    done = run(EDIT, 'in/astronaut.png', *NAMED, '--recipe', made, '--output_dir', 'g')
    assert done.status == 2 and 'are of the faces of another photo; say with --set' in done.err
    assert files(studio / 'g') == []


@pytest.mark.slow
def test_recipes_that_know_no_labels_of_single_faces(run, studio, couple):
    """As earlier versions wrote them: one list for all faces, on any photo."""
    points = [[[x + 178 * number, y] for x, y in TEMPLATE] for number in range(2)]
    recipe = {'stgan': 1, 'experiment': 'toy', 'weights': '0', 'photo': 'another',
              'values': {'Bangs': 1}, 'faces': points[:1], 'numbers': [1], 'align': True,
              'labels': ['Male']}
    (studio / 'old.json').write_text(json.dumps(recipe))
    arguments = ['in/astronaut.png', *NAMED]
    done = run(EDIT, *arguments, '--recipe', 'old.json', '--output_dir', 'a')
    assert done.status == 0 and recipe_in(studio / 'a' / 'astronaut.png')['labels'] == ['Male']
    assert run(EDIT, *arguments, '--set', 'Bangs=1', '--labels', 'Male', '--output_dir', 'b'
               ).status == 0
    assert (people.pixels(str(studio / 'a' / 'astronaut.png'))
            == people.pixels(str(studio / 'b' / 'astronaut.png'))).all()
    for labels in (['Hat'], [['Hat']]):
        (studio / 'old.json').write_text(json.dumps(dict(recipe, labels=labels)))
        done = run(EDIT, *arguments, '--recipe', 'old.json', '--output_dir', 'c')
        assert done.status == 2 and '--recipe Hat: the experiment edits Bangs' in done.err
    for labels in ('Male', 5, [5], [['Male'], ['Male']], [['Male'], 'Male'], [[5]], [[['Male']]]):
        for changes in ({}, {'faces': [], 'numbers': []}):
            (studio / 'old.json').write_text(json.dumps(dict(recipe, labels=labels, **changes)))
            done = run(EDIT, *arguments, '--recipe', 'old.json', '--output_dir', 'c')
            assert done.status == 2 and 'old.json: holds no recipe' in done.err
            assert done.err.count('\n') == 1 and not (studio / 'c').exists()


def test_classifiers_that_do_not_fit(run, studio, couple):
    known = studio / 'classifier'
    shutil.copytree(str(ROOT / 'models' / 'toy_classifier' / 'checkpoints'), str(known))
    description = json.loads((known / 'classifier.json').read_text())
    description['attributes'][description['attributes'].index('Bangs')] = 'Curls'
    (known / 'classifier.json').write_text(json.dumps(description))
    (studio / 'empty').mkdir()
    before = sorted(studio.rglob('*'))
    for arguments, message in (
            (['--set', 'Male=1', '--labels_from_classifier', 'classifier'],
             ': does not predict Bangs, but 5_o_Clock_Shadow'),
            (['--set', 'Male=1', '--labels_from_classifier', 'empty'], 'empty: no classifier che'),
            (['--set', 'Male=1', '--labels_from_classifier', 'nowhere'], 'nowhere: no classifier'),
            (['--set', 'Male=1', '--labels_from_classifier', 'in/cat.png'], 'not a checkpoint'),
            (['--set', 'Male=1', '--labels', 'Male', *CLASSIFIED],
             'take one of --labels and --labels_from_classifier'),
            (['--recipe', 'x', *CLASSIFIED], '--recipe: says what to do')):
        done = run(EDIT, 'in/couple.png', *NAMED, *arguments)
        assert done.status == 2 and message in done.err and done.err.count('\n') == 1, done.err
        assert sorted(studio.rglob('*')) == before
    set_label(studio, 'diff', 'target')
    done = run(EDIT, 'in/couple.png', *NAMED, '--set', 'Male=1', *CLASSIFIED)
    assert done.status == 2 and done.err.count('\n') == 1
    assert '--labels_from_classifier: has no effect, as the experiment' in done.err
    assert sorted(studio.rglob('*')) == before


def test_command_goes_on_after_a_photo_without_a_face(run, studio):
    (studio / 'in' / 'broken.jpg').write_bytes(b'nothing')
    done = run(EDIT, 'in', *NAMED, '--set', 'Male=-1', 'Eyeglasses=0.5', '--output_dir', 'out')
    assert done.status == 1 and files(studio / 'out') == ['astronaut.png']
    lines = done.err.strip().splitlines()
    assert len(lines) == 3
    assert lines[0] == 'warning: in/broken.jpg: not a JPEG, PNG, WebP or TIFF'
    assert lines[1].startswith('warning: in/cat.png: no face found from 40 pixels on; lower --sm')
    assert lines[2] == 'error: 2 of 3 photos could not be edited, see above'
    assert ' a second; wrote out\n' in done.out and done.out.startswith('1 of 3 photos, ')
    source = people.pixels(people.ASTRONAUT)
    edited = people.pixels(str(studio / 'out' / 'astronaut.png'))
    assert (edited != source).any() and (edited[250:] == source[250:]).all()
    # Nothing is overwritten.
    before = (studio / 'out' / 'astronaut.png').read_bytes()
    again = run(EDIT, 'in/astronaut.png', *NAMED, '--set', 'Male=1', '--output_dir', 'out')
    assert again.status == 2 and 'is there already; --force overwrites it' in again.err
    assert (studio / 'out' / 'astronaut.png').read_bytes() == before
    # What an interrupted command made is not made anew, unless something was asked otherwise.
    shutil.copy(people.HOPPER, str(studio / 'in' / 'hopper.jpg'))
    time = os.stat(str(studio / 'out' / 'astronaut.png')).st_mtime_ns
    same = ['--set', 'Eyeglasses=0.5', 'Male=-1', '--output_dir', 'out']
    again = run(EDIT, 'in/astronaut.png', 'in/hopper.jpg', *NAMED, *same)
    assert again.status == 0 and not again.err and again.out.startswith('1 of 2 photos, ')
    assert '; wrote out; 1 there already, made in the same way\n' in again.out
    assert os.stat(str(studio / 'out' / 'astronaut.png')).st_mtime_ns == time
    assert (studio / 'out' / 'astronaut.png').read_bytes() == before
    assert run(EDIT, 'in/astronaut.png', *NAMED, *same).status == 0
    # The same holds for sheets.
    sheets = [*same, '--strip', '--slide', 'Male']
    done = run(EDIT, 'in/astronaut.png', *NAMED, *sheets)
    assert done.status == 0 and done.out.startswith('1 of 1 photos, '), done.err
    made = {name: (studio / 'out' / name).read_bytes() for name in files(studio / 'out')}
    assert len(made) == 4 and made.pop('astronaut.png') == before
    (studio / 'out' / 'astronaut.png').unlink()    # as if it had been ended between them
    (studio / 'out' / 'astronaut_face1_strip.png').unlink()
    assert run(EDIT, 'in/astronaut.png', *NAMED, *sheets).status == 0
    again = run(EDIT, 'in/astronaut.png', *NAMED, *sheets)
    assert again.status == 0 and '; 1 there already' in again.out
    assert made == {name: (studio / 'out' / name).read_bytes() for name in made}
    assert (people.pixels(str(studio / 'out' / 'astronaut.png')) == edited).all()
    other = run(EDIT, 'in/astronaut.png', *NAMED, *sheets, '--n_slide', 3)
    assert other.status == 2 and '1_slide_Male.png: is there already; --force' in other.err
    # A photo is not overwritten by another one's sheet, whatever is forced.
    photo = studio / 'in' / 'astronaut_face1_strip.png'
    shutil.copy(people.HOPPER, str(photo))
    other = run(EDIT, 'in/astronaut.png', photo, *NAMED, '--strip', '--force', '--format', 'jpeg',
                '--output_dir', 'in')
    assert other.status == 1 and '_strip.png: is one of the photos; name another' in other.err
    with open(people.HOPPER, 'rb') as stream:
        assert photo.read_bytes() == stream.read()
    again = run(EDIT, 'in/astronaut.png', *NAMED, '--set', 'Male=1', '--output_dir', 'out',
                '--force')
    assert again.status == 0 and (studio / 'out' / 'astronaut.png').read_bytes() != before


def test_recipe_repeats_an_edit(run, studio):
    Image.fromarray(people.crowd(600, 600)).save(str(studio / 'in' / 'crowd.png'))
    arguments = ['in/crowd.png', *NAMED]
    assert run(EDIT, *arguments, '--set', 'Male=-1', 'Bangs=0.5', '--face', 2,
               '--output_dir', 'a').status == 0
    made = (studio / 'a' / 'crowd.png')
    assert run(EDIT, *arguments, '--recipe', made, '--output_dir', 'b').status == 0
    assert (studio / 'b' / 'crowd.png').read_bytes() == made.read_bytes()
    recipe = json.loads(Image.open(str(made)).text['stgan'])
    assert recipe['values'] == {'Male': -1, 'Bangs': .5} and recipe['numbers'] == [2]
    # A recipe may say to leave all as it is, as the page's does before an edit.
    (studio / 'recipe.json').write_text(json.dumps(dict(recipe, values={})))
    assert run(EDIT, *arguments, '--recipe', 'recipe.json', '--output_dir', 'same').status == 0
    same, source = (np.asarray(Image.open(str(studio / name / 'crowd.png')))
                    for name in ('same', 'in'))
    np.testing.assert_array_equal(same, source)
    # The face is where the recipe says, whatever would be found.
    recipe['faces'] = (np.array(recipe['faces']) + 3).tolist()
    (studio / 'recipe.json').write_text(json.dumps(recipe))
    assert run(EDIT, *arguments, '--recipe', 'recipe.json', '--output_dir', 'b2').status == 0
    moved = json.loads(Image.open(str(studio / 'b2' / 'crowd.png')).text['stgan'])
    np.testing.assert_allclose(moved['faces'], recipe['faces'], atol=.001)
    # From a text, and to a JPEG of another photo, where faces are looked for; other weights.
    recipe['weights'], recipe['numbers'] = '0', [1]
    (studio / 'recipe.json').write_text(json.dumps(recipe))
    Image.fromarray(people.pixels(people.HOPPER)).save(str(studio / 'in' / 'hopper.webp'))
    done = run(EDIT, 'in/hopper.webp', *NAMED, '--recipe', 'recipe.json', '--format', 'jpeg',
               '--output_dir', 'c')
    assert done.status == 0 and 'recipe.json: is of other weights' in done.err
    other = json.loads(Image.open(str(studio / 'c' / 'hopper.jpg')).info['comment'].decode())
    assert other['values'] == recipe['values'] and other['faces'] != recipe['faces']
    for text in ('{"stgan": 2}', '{}', '{"stgan": 1, "x": 3}', '{', '{"stgan": [[[[',
                 json.dumps(dict(recipe, faces=[[1]])), json.dumps(dict(recipe, values=[])),
                 json.dumps(dict(recipe, values={'Male': 1e9})),
                 json.dumps(dict(recipe, values={'Male': 10 ** 400})),
                 json.dumps(dict(recipe, numbers=[float('inf')])),
                 json.dumps(dict(recipe, numbers=[0])),
                 json.dumps(dict(recipe, faces=[[[10 ** 400, 1]] * 5]))):
        (studio / 'recipe.json').write_text(text)
        done = run(EDIT, *arguments, '--recipe', 'recipe.json', '--output_dir', 'd')
        assert done.status == 2 and done.err.startswith('error: recipe.json: holds no recipe')
        assert done.err.count('\n') == 1 and not (studio / 'd').exists()


def test_sheets_and_dry_run(run, studio):
    arguments = ['in/astronaut.png', *NAMED, '--output_dir', 'out']
    done = run(EDIT, *arguments, '--strip', '--slide', 'Male', '--n_slide', 3, '--slide_min', -2)
    assert done.status == 0, done.err
    assert files(studio / 'out') == ['astronaut_face1_slide_Male.png',
                                     'astronaut_face1_strip.png']
    sheet = people.pixels(str(studio / 'out' / 'astronaut_face1_slide_Male.png'))
    first = 64    # the captions' half cell of 128 pixels
    cells = [sheet[-128:, first + 128 * i:first + 128 * (i + 1)].astype(int) for i in range(5)]
    assert sheet.shape[1] == first + 5 * 128
    assert all(np.abs(one - another).mean() > .5 for one, another in zip(cells, cells[1:]))
    strip = people.pixels(str(studio / 'out' / 'astronaut_face1_strip.png'))
    assert strip.shape[1] == first + 5 * 128 and strip.shape[0] > 2 * 128
    done = run(EDIT, *arguments, '--slide', 'Male')
    assert done.status == 2 and 'is there already' in done.err
    done = run(EDIT, *arguments, '--dry_run')
    assert done.status == 0 and 'astronaut_faces.png' in files(studio / 'out')
    drawn = people.pixels(str(studio / 'out' / 'astronaut_faces.png'))
    changed = (drawn != people.pixels(people.ASTRONAUT)).any(axis=2)
    assert changed[100, 204] and .001 < changed.mean() < .05    # the eye, lines and no more


def test_landmarks_of_a_list(run, studio):
    points = ' '.join(f'{value}' for point in people.LANDMARKS[people.ASTRONAUT]
                      for value in point)
    (studio / 'list.txt').write_text(f'1\nlefteye_x lefteye_y\nastronaut.png {points}\n')
    arguments = [*NAMED, '--set', 'Male=-1', '--landmarks', 'list.txt']
    done = run(EDIT, 'in', *arguments, '--output_dir', 'out')
    assert done.status == 1 and files(studio / 'out') == ['astronaut.png']
    assert 'in/cat.png: list.txt has no line of cat.png' in done.err
    recipe = json.loads(Image.open(str(studio / 'out' / 'astronaut.png')).text['stgan'])
    assert recipe['faces'] == [people.LANDMARKS[people.ASTRONAUT]]
    (studio / 'list.txt').write_text(f'1\nnames\nastronaut.png {points}\ncat.png 1 2\n')
    done = run(EDIT, 'in', *arguments, '--output_dir', 'out2')
    assert done.status == 2 and 'list.txt:4: expected a file name and 10 numbers' in done.err


def test_bad_commands(run, studio):
    (studio / 'other').mkdir()
    shutil.copy(people.HOPPER, str(studio / 'other' / 'astronaut.jpg'))
    before = files(studio)
    for arguments, message in (
            ([], 'nothing to do: say what with --set'),
            (['--set', 'Male'], '--set Male: expected an attribute and a number'),
            (['--set', 'Male=nan'], '--set Male=nan: expected'),
            (['--set', 'Male=11'], '--set Male=11: expected an attribute and a number from -10'),
            (['--slide', 'Male', '--slide_max', 99], '--slide_max 99.0: expected at most 10'),
            (['--set', 'Male=1', 'Male=2'], '--set: an attribute is named twice'),
            (['--set', 'Hat=1'], '--set Hat: the experiment edits Bangs'),
            (['--slide', 'Hat'], '--slide Hat: the experiment edits Bangs'),
            (['--set', 'Male=1', '--labels', 'Bangs'], '--labels: has no effect'),
            (['--set', 'Male=1', '--recipe', 'x'], '--recipe: says what to do'),
            (['--recipe', 'x', '--face', 1], '--recipe: says which faces'),
            (['--recipe', 'x'], 'x: No such file or directory; is --recipe right?'),
            (['--recipe', 'in/cat.png'], 'in/cat.png: holds no recipe'),
            (['--set', 'Male=1', '--no_align', '--face', 1], '--no_align: the photos are faces'),
            (['--set', 'Male=1', '--landmarks', 'x'], 'x: No such file or directory; is --land'),
            (['--set', 'Male=1', '--output_dir', 'in'], 'in/astronaut.png: would be overwritten'),
            (['--set', 'Male=1', '--output_dir', 'in/cat.png'], 'in/cat.png is a file'),
            (['in/astronaut.jpg', '--set', 'Male=1'], 'in/astronaut.jpg: no such photo'),
            (['output', '--set', 'Male=1'], 'output: has no JPEG, PNG, WebP or TIFF'),
            (['other/astronaut.jpg', '--set', 'Male=1'], 'would have the same name'),
            (['--set', 'Male=1', '--smallest_face', 3], '--smallest_face 3: expected at least')):
        done = run(EDIT, 'in', *arguments, *NAMED)
        assert done.status == 2 and message in done.err and done.err.count('\n') == 1, done.err
        assert files(studio) == before


def test_python_examples_of_the_page_run(studio, monkeypatch):
    monkeypatch.chdir(studio)
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'photos.md').read_text('utf-8'),
                        re.S)
    assert len(blocks) == 2
    for code in blocks:
        namespace = {}
        exec(code.replace('output/128', 'output/toy').replace('Young', 'Male')
             .replace('me.jpg', 'in/astronaut.png'), namespace)
    assert (studio / 'older.png').exists()
    assert namespace['slide'].shape == (2, 32, 32, 3)
    assert namespace['pixels'].shape == (512, 512, 3)
