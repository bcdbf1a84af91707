"""Decoding images, and batches of them."""

import shutil

import numpy as np
import pytest
from PIL import Image

from pylib import UserError
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
    (decoded,) = data.load_images([path], img_size, True, 1)
    # The tensor kernel tabulates its weights at 1/1024 pixel.
    np.testing.assert_allclose(decoded[0], np.clip(wanted, 0, 255) / 127.5 - 1, atol=.004)


@pytest.mark.parametrize('img_size, crop', [(128, True), (64, True), (128, False)])
def test_decoded_pixels_are_the_published_ones(toy_data, img_size, crop):
    """The plain way decodes the whole JPEG and crops then."""
    paths = [str(toy_data / 'img_align_celeba' / f'{number:06d}.jpg') for number in range(1, 9)]
    with tf.Graph().as_default(), utils.session() as session:
        wanted = session.run([plain.decode_image(path, img_size, crop) for path in paths])
    (decoded,) = data.load_images(paths, img_size, crop, len(paths))
    np.testing.assert_allclose(decoded, wanted, rtol=0, atol=1e-5)


def test_content_counts_not_the_extension(tmp_path):
    Image.new('RGB', (64, 64), (255, 0, 0)).save(str(tmp_path / 'x.png'))
    (tmp_path / 'x.png').rename(tmp_path / 'x.jpg')
    (decoded,) = data.load_images([str(tmp_path / 'x.jpg')], 32, False, 1)
    np.testing.assert_allclose(decoded[0, 16, 16], [1, -1, -1], atol=.01)


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
    assert f'warning: {path}: not a readable image' in capfd.readouterr().err


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
        with pytest.raises(UserError, match='2 of .* images are unreadable, at most 1 may be'):
            batches.recover(session, 0, error.value)


def test_errors_of_other_kinds_are_not_blamed_on_images(toy_data):
    celeba = CelebA(str(toy_data), DEFAULT_ATTRIBUTES)
    with tf.Graph().as_default(), utils.session() as session:
        _, batches = open_batches(celeba)
        problem = tf.errors.ResourceExhaustedError(None, None, 'out of memory')
        with pytest.raises(tf.errors.ResourceExhaustedError):
            batches.recover(session, 0, problem)


def test_load_images_names_the_broken_one(tmp_path, toy_data):
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    paths = CelebA(str(tmp_path / 'toy')).paths(range(5))
    spoil(paths[3])
    with pytest.raises(UserError, match='000004.jpg: not a readable image'):
        list(data.load_images(paths, 32, True, 2))


def test_load_images_leaves_the_default_graph_alone(toy_data):
    paths = CelebA(str(toy_data)).paths(range(3))
    default = tf.get_default_graph()
    images = data.load_images(paths, 32, True, 2)
    next(images)
    assert tf.get_default_graph() is default
    images.close()
