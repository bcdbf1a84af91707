"""What the page shows: views, edits, gates and recipes; and how long it keeps photos."""

import io
import json

import numpy as np
import people
import pytest
from conftest import GOLDEN
from pages import drawn, png
from PIL import Image

from imlib import faces
from pylib import UserError
from stgan import models, page, photos
from stgan.editing import Editor
from tflib import checkpoint, tf


@pytest.fixture(scope='module')
def shown():
    """A `Page` of an experiment of 32x32 pixels."""
    with Editor(str(GOLDEN / 'current_run'), device='cpu', threads=2) as editor:
        yield page.Page(editor)


@pytest.fixture(scope='module')
def astronaut(shown):
    with open(people.ASTRONAUT, 'rb') as stream:
        return shown.add(stream.read(), 'astronaut.png')


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert('RGB')).astype(int)


def test_a_photo_is_described(astronaut):
    assert (astronaut['width'], astronaut['height'], astronaut['trouble']) == (512, 512, '')
    (face,) = astronaut['faces']
    left, top, right, bottom = face['box']
    nose = people.LANDMARKS[people.ASTRONAUT][2]
    assert left < nose[0] < right and top < nose[1] < bottom
    assert face['number'] == 1 and not face['profile'] and astronaut['whole']


def test_an_edit_shown_is_the_edit_downloaded(shown, astronaut):
    values = {'Eyeglasses': 1.5, 'Male': -.5}
    before = pixels(shown.view(astronaut['id'], 'photo', [1]))
    data, left, top = shown.edit(astronaut['id'], 'photo', [1], values)
    part = pixels(data)
    after = before.copy()
    after[top:top + part.shape[0], left:left + part.shape[1]] = part
    assert (before == people.pixels(people.ASTRONAUT)).all()
    assert (after == shown.edited(astronaut['id'], [1], values).pixels).all()
    assert np.abs(after - before).max() > 10
    # The part is all that changes, and little more.
    changed = np.argwhere((after != before).any(axis=2))
    assert (changed.min(axis=0) >= [top, left]).all() and part.shape[0] < 300


def test_a_face_is_shown_closer_and_changes_alike(shown, astronaut):
    values = {'Eyeglasses': 1.5}
    before = pixels(shown.view(astronaut['id'], 'face', [1]))
    height, width = before.shape[:2]
    whole = people.pixels(people.ASTRONAUT).astype(int)
    place = next((row, column) for row in range(512 - height + 1)
                 for column in range(512 - width + 1)
                 if (whole[row, column:column + width] == before[0]).all())
    data, left, top = shown.edit(astronaut['id'], 'face', [1], values)
    after = before.copy()
    part = pixels(data)
    after[top:top + part.shape[0], left:left + part.shape[1]] = part
    edited = shown.edited(astronaut['id'], [1], values).pixels.astype(int)
    expected = edited[place[0]:place[0] + height, place[1]:place[1] + width]
    assert np.abs(after - expected).max() <= 1 and (after != before).mean() > .2


def test_large_photos_are_shown_reduced_in_the_right_place():
    crowd = people.crowd(3000, 2000)
    view = page._reduced(crowd, (0, 0, 3000, 2000), 1000)
    assert view.pixels.shape == (667, 1000, 3)
    # Pixels' corners correspond: the first and the last one's.
    corners = faces.apply(view.to_photo, [[-.5, -.5], [999.5, 666.5]])
    assert np.allclose(corners, [[-.5, -.5], [2999.5, 1999.5]], atol=1e-6)


def test_an_edit_of_nothing_changes_nothing(shown, astronaut):
    before = pixels(shown.view(astronaut['id'], 'photo', [1]))
    data, left, top = shown.edit(astronaut['id'], 'photo', [1], {'Male': 0})
    part = pixels(data)
    assert (part == before[top:top + part.shape[0], left:left + part.shape[1]]).all()


def test_strip_has_a_tile_for_each_attribute(shown):
    key = shown.add(drawn(2), 'drawn')['id']
    strip = pixels(shown.strip(key, page.WHOLE, 1))
    tiles = np.split(strip, 3, axis=1)
    assert strip.shape[0] <= page.TILE and len({tile.tobytes() for tile in tiles}) == 3


def test_gates_are_those_of_the_plain_generator(shown, astronaut):
    values = {'Male': 1.}
    levels = shown.gates(astronaut['id'], 1, values)
    config = shown.config
    photo = shown.shelf.get(astronaut['id'])
    face = photos.EditableFace(shown._editor, photo, photos.chosen_faces(photo, 1)[1][0])
    with tf.Graph().as_default() as graph, tf.Session() as session:
        images = tf.placeholder(tf.float32, [1, 32, 32, 3])
        label = tf.placeholder(tf.float32, [1, 3])
        models.decode(config, models.encode(config, images, False), label, False)
        # The only ones in G, in the order in which they are made: reset, update, reset, ...
        sigmoids = [op.outputs[0] for op in graph.get_operations() if op.type == 'Sigmoid']
        checkpoint.restore(session, str(GOLDEN / 'current_run/checkpoints/Epoch_(3)_(14of14).ckpt'),
                           tf.global_variables(), models.GENERATOR_SCOPES)
        for suffix, difference in (('', 2 * config.thres_int), ('_before', 0)):
            expected = session.run(sigmoids, {images: face.image[np.newaxis],
                                              label: [[0, 0, difference]]})
            for number, level in enumerate(levels):
                for gate, values in zip(('reset', 'update'), expected[2 * number:]):
                    assert level[gate + suffix].shape == (2 ** (number + 1),) * 2
                    assert np.allclose(level[gate + suffix], values[0].mean(axis=2), atol=1e-5)
    assert len(levels) == 4 and len(sigmoids) == 8
    assert any(np.abs(level['update'] - level['update_before']).max() > 1e-3 for level in levels)


def test_recipes_go_out_and_come_back(shown, astronaut):
    values = {'Male': -.5, 'Bangs': 0}
    text = shown.recipe(astronaut['id'], [1], values)
    edited = shown.edited(astronaut['id'], [1], values)
    assert text == edited.recipe.to_text()
    back = shown.read_recipe(astronaut['id'], text)
    assert back == {'values': {'Male': -.5}, 'numbers': [1], 'labels': None, 'remark': ''}
    short = shown.read_recipe(astronaut['id'], 'Male=-0.5, Bangs=1')
    assert short['values'] == {'Male': -.5, 'Bangs': 1.} and short['numbers'] is None
    other = json.loads(text)
    for labels, ticked in ((['Male'], ['Male']), ([], []), ([['Male'], ['Male']], ['Male']),
                           ([['Male'], []], None)):
        two = dict(other, faces=other['faces'] * 2, numbers=[1, 1], labels=labels)
        back = shown.read_recipe(astronaut['id'], json.dumps(two))
        assert back['labels'] == ticked
        assert ('different attributes' in back['remark']) == (ticked is None)
    other['photo'] = 'another'
    assert 'another photo' in shown.read_recipe(astronaut['id'], json.dumps(other))['remark']
    other['weights'] = 'others'
    assert 'other weights' in shown.read_recipe(astronaut['id'], json.dumps(other))['remark']


NO_FACE = json.dumps({'stgan': 1, 'experiment': '', 'weights': '', 'photo': '', 'values': {},
                      'faces': [[[1, 1]] * 5], 'numbers': [-1]})


@pytest.mark.parametrize('text', ['', 'Male', 'Male=x', 'Nose=1', 'Male=99', 'Male=nan', '{',
                                  NO_FACE])
def test_bad_recipes_are_refused(shown, astronaut, text):
    with pytest.raises(UserError):
        shown.read_recipe(astronaut['id'], text)


def test_a_recipe_of_a_whole_photo_needs_one_of_that_shape(shown, astronaut):
    text = json.dumps(dict(json.loads(NO_FACE), align=False, faces=[], numbers=[]))
    assert shown.read_recipe(astronaut['id'], text)['numbers'] == [page.WHOLE]
    with open(people.HOPPER, 'rb') as stream:
        wide = shown.add(stream.read(), 'hopper.jpg')['id']
    with pytest.raises(UserError, match='hopper.jpg: 512x600 pixels; without alignment'):
        shown.read_recipe(wide, text)


def test_a_photo_without_a_face_says_so(shown):
    with open(people.WITHOUT_FACE[0], 'rb') as stream:
        found = shown.add(stream.read(), 'cat')
    assert found['faces'] == [] and 'No face' in found['trouble'] and not found['whole']
    with pytest.raises(UserError, match='no face'):
        shown.edit(found['id'], 'photo', [1], {'Male': 1})


def test_what_is_forgotten_is_gone_with_its_faces(shown):
    now = [0.]
    kept = page.Page(shown._editor, lambda: now[0])
    key = kept.add(drawn(1), 'drawn')['id']
    kept.edit(key, 'photo', [page.WHOLE], {'Male': 1})
    now[0] = page.LIFETIME - 1
    kept.view(key, 'photo', [page.WHOLE])    # which counts as use
    now[0] = 2 * page.LIFETIME - 2
    kept.forget()
    assert len(kept.shelf) == len(kept._encoded) == len(kept._views) == 1
    now[0] = 2 * page.LIFETIME
    kept.forget()
    assert len(kept.shelf) == len(kept._encoded) == len(kept._views) == 0
    with pytest.raises(page.Gone, match='30 minutes'):
        kept.view(key, 'photo', [page.WHOLE])


class OfSize:
    """A photo of so many pixels that takes no memory."""

    def __init__(self, count):
        self.pixels = np.broadcast_to(np.uint8(0), [count, 1, 3])


def test_the_latest_used_photos_are_kept():
    shelf = page.Shelf()
    keys = [shelf.add(OfSize(10)) for _ in range(page.MOST_PHOTOS)]
    shelf.get(keys[0])
    keys.append(shelf.add(OfSize(10)))
    assert len(shelf) == page.MOST_PHOTOS and keys[0] in shelf and keys[1] not in shelf
    # Large ones are fewer, and one is always kept.
    large = [shelf.add(OfSize(page.MOST_KEPT // 2)) for _ in range(3)]
    assert [key in shelf for key in large] == [False, True, True]
    assert len(shelf) == 2
    huge = shelf.add(OfSize(2 * page.MOST_KEPT))
    assert len(shelf) == 1 and huge in shelf


def test_ids_cannot_be_guessed():
    shelf = page.Shelf()
    keys = {shelf.add(OfSize(1)) for _ in range(20)}
    assert len(keys) == 20 and all(len(key) >= 22 for key in keys)


def test_a_black_picture_has_no_face(shown):
    found = shown.add(png(Image.new('RGB', (300, 300))), 'black.png')
    assert not found['faces'] and found['whole'] and not found['aligned']
