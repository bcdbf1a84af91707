"""Decoding images, and batches of them."""

import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from pylib import RunFailed, UserError
from scripts.bench import plain
from stgan import data
from stgan.attributes import DEFAULT_ATTRIBUTES
from stgan.celeba import CelebA
from tflib import tf, utils


def bicubic_1d(size_in, size_out):
    """TF1's bicubic weights [out,in]: Keys' kernel with a=-0.75 at i*scale, borders repeated."""
    def kernel(x):
        x = abs(x)
        if x <= 1:
            return 1.25 * x ** 3 - 2.25 * x ** 2 + 1
        return -.75 * (x ** 3 - 5 * x ** 2 + 8 * x - 4) if x < 2 else 0.
    weights = np.zeros([size_out, size_in])
    for i in range(size_out):
        position = i * size_in / size_out
        for j in range(int(position) - 1, int(position) + 3):
            weights[i, min(max(j, 0), size_in - 1)] += kernel(position - j)
    return weights


CROPS = [(128, (26, 3, 170, 170)), (64, (40, 15, 148, 148))]


@pytest.mark.parametrize('img_size, box', CROPS)
def test_decoded_pixels_by_formula(tmp_path, img_size, box):
    path = str(tmp_path / 'image.png')
    y, x = np.mgrid[0:218, 0:178]
    image = np.stack([y, x, (y + x) / 2], axis=2).astype(np.uint8)
    Image.fromarray(image).save(path)
    top, left, size, _ = box
    weights = bicubic_1d(size, img_size)
    crop = image[top:top + size, left:left + size]
    wanted = np.einsum('ai,ijc,bj->abc', weights, crop, weights)
    ((_, decoded),) = data.load_images([path], img_size, True, 1)
    # The tensor kernel tabulates its weights at 1/1024 pixel.
    np.testing.assert_allclose(decoded[0], np.clip(wanted, 0, 255) / 127.5 - 1, atol=.004)


@pytest.mark.parametrize('img_size, crop', [(128, True), (64, True), (128, False)])
def test_decoded_pixels_are_the_published_ones(tmp_path, toy_data, img_size, crop):
    """The plain way decodes the whole JPEG and crops then."""
    paths = [str(toy_data / 'img_align_celeba' / f'{number:06d}.jpg') for number in range(1, 9)]
    if not crop:
        squares = [str(tmp_path / f'{number}.jpg') for number in range(8)]
        for path, square in zip(paths, squares):
            Image.open(path).crop((0, 20, 178, 198)).save(square)
        paths = squares
    with tf.Graph().as_default(), utils.session() as session:
        wanted = session.run([plain.decode_image(path, img_size, crop) for path in paths])
    ((_, decoded),) = data.load_images(paths, img_size, crop, len(paths))
    np.testing.assert_allclose(decoded, wanted, rtol=0, atol=1e-5)


def test_content_counts_not_the_extension(tmp_path):
    Image.new('RGB', (64, 64), (255, 0, 0)).save(str(tmp_path / 'x.png'))
    (tmp_path / 'x.png').rename(tmp_path / 'x.jpg')
    ((_, decoded),) = data.load_images([str(tmp_path / 'x.jpg')], 32, False, 1)
    np.testing.assert_allclose(decoded[0, 16, 16], [1, -1, -1], atol=.01)


# EXIF orientation -> what is to be done with [H,W,3] as stored (EXIF 2.3, table 4.6.4 A).
UPRIGHT = {
    1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud,
    5: lambda x: x.transpose(1, 0, 2), 6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).transpose(1, 0, 2), 8: np.rot90}


def exif(orientation, order):
    """Metadata that says nothing but an orientation, made byte by byte."""
    mark = b'II*\0' if order == '<' else b'MM\0*'
    return (b'Exif\0\0' + mark + struct.pack(order + 'IHHHIHHI', 8, 1, 0x112, 3, 1, orientation, 0,
                                             0))


@pytest.mark.parametrize('orientation', UPRIGHT)
@pytest.mark.parametrize('name, order', [('x.jpg', '<'), ('x.jpg', '>'), ('x.png', '>')])
@pytest.mark.parametrize('width, height, crop', [(64, 64, False), (178, 218, True)])
def test_photos_are_turned_upright(tmp_path, orientation, name, order, width, height, crop):
    """Crops of the aligned size are made of what is seen, not of what is stored."""
    if orientation >= 5:
        width, height = height, width
    y, x = np.mgrid[0:height, 0:width]
    stored = np.stack([x, y, 128 + 0 * x], axis=2).astype(np.uint8)
    path = str(tmp_path / name)
    Image.fromarray(stored).save(path, exif=exif(orientation, order), quality=100)
    plain_path = str(tmp_path / 'upright.png')
    Image.fromarray(UPRIGHT[orientation](np.asarray(Image.open(path)))).save(plain_path)
    ((_, images),) = data.load_images([path, plain_path], 64, crop, 2)
    np.testing.assert_allclose(images[0], images[1], atol=.06)    # Pillow decodes otherwise
    assert np.ptp(images[0]) > .3    # it is no empty picture


@pytest.mark.parametrize('content', [exif(9, '<'), exif(0, '>'), b'Exif\0\0', b'Exif\0\0II*\0' +
                                     b'\xff' * 20, exif(6, '<')[:-9]])
def test_damaged_metadata_turns_nothing(tmp_path, content):
    image = np.zeros([64, 64, 3], np.uint8)
    image[:32] = 255
    Image.fromarray(image).save(str(tmp_path / 'x.jpg'), exif=content)
    ((_, images),) = data.load_images([str(tmp_path / 'x.jpg')], 64, False, 1)
    assert images[0, :28].min() > .9 and images[0, 36:].max() < -.9


@pytest.mark.parametrize('size, crop, reason', [
    ((1024, 1024), True, "1024x1024 pixels, expected CelebA's aligned 178x218"),
    ((100, 100), True, "100x100 pixels, expected CelebA's aligned 178x218"),
    ((218, 178), True, "218x178 pixels, expected CelebA's aligned 178x218"),
    ((178, 218), False, '178x218 pixels, expected a square')])
@pytest.mark.parametrize('extension', ['jpg', 'png'])
def test_images_of_another_size_are_never_used(tmp_path, size, crop, reason, extension):
    """Not cut to a corner, not squashed."""
    good, other = str(tmp_path / 'good.png'), str(tmp_path / f'other.{extension}')
    Image.new('RGB', (178, 218) if crop else (64, 64)).save(good)
    Image.new('RGB', size).save(other)
    unreadable = []
    ((indices, _),) = data.load_images([other, good], 32, crop, 2, unreadable=unreadable)
    assert indices.tolist() == [1] and unreadable == [(other, reason)]


def test_what_is_no_image_is_named_in_plain_words(tmp_path):
    picture = Image.effect_noise((178, 218), 50).convert('RGB')
    for kind in ('webp', 'gif'):
        picture.save(str(tmp_path / kind), format=kind)
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'nowhere')
    paths = [str(tmp_path / name) for name in ('webp', 'gif', 'folder', 'link')]
    assert [reason for _, reason in data.unreadable_images(paths, 64, True)] == [
        'in WEBP format, expected JPEG or PNG', 'in GIF format, expected JPEG or PNG',
        'Is a directory', 'No such file or directory']


def test_another_size_is_replaced_in_training(tmp_path, toy_data, capfd):
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    celeba = CelebA(str(tmp_path / 'toy'), DEFAULT_ATTRIBUTES)
    with tf.Graph().as_default(), utils.session() as session:
        indices, batches = open_batches(celeba)
        sample = batches.stream.samples(1, 1)[0]
        path = celeba.paths(indices[[sample]])[0]
        Image.new('RGB', (178, 178)).save(path)
        batches.seek(session, 0)
        with pytest.raises(tf.errors.OpError) as error:
            session.run(batches.batch)
        batches.recover(session, 0, error.value)
        session.run(batches.batch)
    assert batches.stream.bad == {sample}
    assert f'{path}: unusable image (178x178 pixels, expected' in capfd.readouterr().err


def test_squares_that_are_reduced_a_lot_are_said_once(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(data, '_large_images', [])
    paths = [str(tmp_path / f'{size}.png') for size in (128, 129, 512)]
    for path, size in zip(paths, (128, 129, 512)):
        Image.new('RGB', (size, size)).save(path)
    assert len(list(data.load_images(paths[:1], 32, False, 1))) == 1
    assert 'pixels become' not in capfd.readouterr().err
    for _ in range(2):
        assert len(list(data.load_images(paths, 32, False, 1, threads=1))) == 3
    warnings = [line for line in capfd.readouterr().err.splitlines() if 'warning' in line]
    assert warnings == [f'warning: {paths[1]}: 129x129 pixels become 32x32 without antialiasing, '
                        'as published, which roughens them; reduce such images beforehand']


def test_training_says_so_too(tmp_path, monkeypatch, toy_data, capfd):
    monkeypatch.setattr(data, '_large_images', [])
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    folder = tmp_path / 'toy' / 'img_align_celeba'
    for path in folder.iterdir():
        Image.new('RGB', (129, 129)).save(str(path))
    folder.rename(tmp_path / 'toy' / 'img_crop_celeba')
    celeba = CelebA(str(tmp_path / 'toy'), DEFAULT_ATTRIBUTES, use_cropped_img=True)
    with tf.Graph().as_default(), utils.session() as session:
        _, batches = open_batches(celeba)
        batches.seek(session, 0)
        session.run(batches.batch)
        assert batches.replaced(0, 1) == {}
    assert '129x129 pixels become 32x32' in capfd.readouterr().err


def open_batches(celeba, seed=0, batch_size=4):
    indices = celeba.part('train')
    batches = data.TrainingBatches(celeba, indices, 32, batch_size, seed)
    return indices, batches


def test_batches_are_functions_of_their_number(toy_data):
    celeba = CelebA(str(toy_data), DEFAULT_ATTRIBUTES)
    with tf.Graph().as_default(), utils.session() as session:
        indices, batches = open_batches(celeba)
        batches.seek(session, 0)
        run = [session.run(batches.batch) for _ in range(15)]
        batches.seek(session, 13)
        again = session.run(batches.batch)
    assert [batch.number for batch in run] == list(range(15))
    for wanted, value in zip(run[13], again):
        np.testing.assert_array_equal(wanted, value)
    samples = batches.stream.samples(0, 4)
    np.testing.assert_array_equal(run[0].a, celeba.labels[indices[samples]])
    assert run[0].xa.shape == (4, 32, 32, 3) and -1 <= run[0].xa.min() < run[0].xa.max() <= 1
    for batch in run:   # b is a, in the batch's own order
        np.testing.assert_array_equal(
            batch.b, batch.a[batches.stream.target_order(batch.number, 4)])


def spoil(path):
    with open(path, 'r+b') as stream:
        stream.truncate(100)


def test_a_corrupt_jpeg_is_replaced_and_named(tmp_path, toy_data, capfd):
    """The published code ends the run."""
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    celeba = CelebA(str(tmp_path / 'toy'), DEFAULT_ATTRIBUTES)
    with tf.Graph().as_default(), utils.session() as session:
        indices, batches = open_batches(celeba)
        spoiled = batches.stream.samples(9, 1)[0]    # in the third batch
        path = celeba.paths(indices[[spoiled]])[0]
        spoil(path)
        batches.seek(session, 0)
        number = 0
        while number < 15:    # more than a pass
            try:
                batch = session.run(batches.batch)
            except tf.errors.OpError as error:
                assert number == 2
                batches.recover(session, number, error)
            else:
                assert batch.number == number
                number += 1
    assert batches.stream.bad == {spoiled}
    assert f'warning: {path}: unusable image' in capfd.readouterr().err


def test_too_many_corrupt_images_stop_the_run(tmp_path, toy_data):
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    celeba = CelebA(str(tmp_path / 'toy'), DEFAULT_ATTRIBUTES)
    with tf.Graph().as_default(), utils.session() as session:
        indices, batches = open_batches(celeba)
        for path in celeba.paths(indices[batches.stream.samples(0, 2)]):
            spoil(path)
        batches.seek(session, 0)
        with pytest.raises(tf.errors.OpError) as error:
            session.run(batches.batch)
        with pytest.raises(UserError, match='2 of .* images are unusable, at most 1 may be'):
            batches.recover(session, 0, error.value)


def test_errors_of_other_kinds_are_not_blamed_on_images(toy_data):
    celeba = CelebA(str(toy_data), DEFAULT_ATTRIBUTES)
    with tf.Graph().as_default(), utils.session() as session:
        _, batches = open_batches(celeba)
        problem = tf.errors.ResourceExhaustedError(None, None, 'out of memory')
        with pytest.raises(tf.errors.ResourceExhaustedError):
            batches.recover(session, 0, problem)


def test_load_images_leaves_out_and_names_the_broken_ones(tmp_path, toy_data, capfd):
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    paths = CelebA(str(tmp_path / 'toy')).paths(range(9))
    wanted = np.concatenate([images for _, images in data.load_images(paths, 32, True, 2)])
    for broken in (1, 4, 5):
        spoil(paths[broken])
    unreadable = []
    batches = list(data.load_images(paths, 32, True, 2, unreadable=unreadable))
    assert [indices.tolist() for indices, _ in batches] == [[0, 2], [3, 6], [7, 8]]
    assert all(indices.dtype == np.int64 for indices, _ in batches)
    np.testing.assert_array_equal(np.concatenate([images for _, images in batches]),
                                  wanted[[0, 2, 3, 6, 7, 8]])
    assert [path for path, _ in unreadable] == [paths[1], paths[4], paths[5]]
    # libjpeg may say something as well.
    warnings = [line for line in capfd.readouterr().err.splitlines() if 'warning: ' in line]
    assert len(warnings) == 3
    for path, line in zip((paths[1], paths[4], paths[5]), warnings):
        assert f'warning: {path}: unusable image' in line


@pytest.mark.parametrize('heals', [True, False])
def test_a_batch_that_cannot_be_read_is_read_once_more(tmp_path, monkeypatch, toy_data, heals):
    """As on a network file system; if no image is to blame and it fails again, that is an error."""
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    paths = CelebA(str(tmp_path / 'toy')).paths(range(4))
    looked = []

    def look(some, *_):
        looked.append(list(some))
        if heals:
            shutil.copy(str(toy_data / 'img_align_celeba' / '000003.jpg'), paths[2])
        return []
    monkeypatch.setattr(data, 'unreadable_images', look)
    spoil(paths[2])
    if heals:
        batches = list(data.load_images(paths, 32, True, 2))
        assert [indices.tolist() for indices, _ in batches] == [[0, 1], [2, 3]]
        assert looked == [paths[2:]]
    else:
        with pytest.raises(tf.errors.OpError):
            list(data.load_images(paths, 32, True, 2))
        assert looked == [paths[2:]] * 2


def test_a_folder_that_is_gone_is_no_unreadable_image(tmp_path, toy_data):
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    paths = CelebA(str(tmp_path / 'toy')).paths(range(9))
    batches = data.load_images(paths, 32, True, 1)
    next(batches)
    shutil.rmtree(str(tmp_path / 'toy'))
    with pytest.raises(RunFailed, match='img_align_celeba: the image folder is gone'):
        list(batches)


def test_load_images_leaves_the_default_graph_alone(toy_data):
    paths = CelebA(str(toy_data)).paths(range(3))
    default = tf.get_default_graph()
    images = data.load_images(paths, 32, True, 2)
    next(images)
    assert tf.get_default_graph() is default
    images.close()
