"""Reading, splitting, decoding and streaming a data set."""

import shutil

import numpy as np
import pytest
from PIL import Image

from pylib import UserError
from scripts.bench import plain
from stgan import data
from stgan.attributes import DEFAULT_ATTRIBUTES
from tflib import tf, utils

HEADER = 'Bald Male Young'


def write_list(folder, *rows, count=None, header=HEADER):
    path = folder / 'list_attr_celeba.txt'
    path.write_text('\n'.join([str(len(rows) if count is None else count), header, *rows]) + '\n')
    return str(path)


def test_attributes_are_found_by_name(tmp_path):
    path = write_list(tmp_path, 'a.jpg -1  1 -1', 'b.jpg  1 -1  1')
    atts, names, labels = data.read_attribute_list(path, ['Young', 'Bald'])
    assert (atts, names) == (('Young', 'Bald'), ['a.jpg', 'b.jpg'])
    np.testing.assert_array_equal(labels, [[0, 0], [1, 1]])
    assert data.read_attribute_list(path)[0] == ('Bald', 'Male', 'Young')


@pytest.mark.parametrize('rows, options, complaint', [
    (['a.jpg 1 1 1', 'b.jpg 1 1'], {}, ':4: expected 4 fields, found 3'),
    (['a.jpg 1 1 1', 'b.jpg 1 0 1'], {}, ":4: expected values 1 or -1, found '0'"),
    (['a.jpg 1 1 1'], {'count': 2}, ":1: says '2' images, but 1 lines follow"),
    (['a.jpg 1 1 1'], {'count': 'many'}, ":1: says 'many' images"),
    (['a.jpg 1 1'], {'header': 'Bald Young'}, ':2: no attribute Male'),
    (['../a.jpg 1 1 1'], {}, ':3: ../a.jpg: expected a file name within'),
    ([], {}, ': expected a count')])
def test_faults_of_the_list_are_located(tmp_path, rows, options, complaint):
    path = write_list(tmp_path, *rows, **options)
    with pytest.raises(UserError) as error:
        data.read_attribute_list(path, ['Bald', 'Male'])
    assert str(error.value).startswith(path + complaint)


def test_split_by_position_is_the_published_one():
    names = ['x'] * data.CELEBA_IMAGES
    description, parts = data.split_parts('auto', names, 'no/such/file')
    assert description == 'by position as published'
    assert [int(n) for n in np.bincount(parts)] == [182000, 637, 19962]
    assert parts[181999] == 0 and parts[182000] == 1 and parts[182637] == 2


def test_split_by_partition_file(tmp_path):
    path = tmp_path / 'list_eval_partition.txt'
    path.write_text('b 2\na 0\nc 1\n')
    assert data.split_parts('auto', ['a', 'b', 'c'], str(path))[1].tolist() == [0, 2, 1]
    path.write_text('b 2\na 3\n')
    with pytest.raises(UserError, match=r'partition.txt:2: expected `file 0|1|2`'):
        data.split_parts('partition', ['a', 'b'], str(path))
    path.write_text('a 0\n')
    with pytest.raises(UserError, match='1 images of the attribute list are missing'):
        data.split_parts('partition', ['a', 'b'], str(path))


def test_split_by_ratios():
    parts = data.split_parts('0.5,0.2,0.3', ['x'] * 10, '')[1]
    assert parts.tolist() == [0] * 5 + [1] * 2 + [2] * 3


@pytest.mark.parametrize('split', ['half', '0.5,0.5', '0.5,0.6,0.2', '-0.1,0.5,0.6', 'nan,0,1'])
def test_illegal_splits_are_refused(split):
    with pytest.raises(UserError, match='--split'):
        data.split_parts(split, ['x'] * 10, '')


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


def test_folders(tmp_path, toy_data):
    celeba = data.CelebA(str(toy_data), DEFAULT_ATTRIBUTES)
    assert len(celeba) == 60 and celeba.labels.shape == (60, 13)
    assert sum(len(celeba.part(part)) for part in data.PARTS) == 60
    assert celeba.paths([0])[0].endswith('img_align_celeba/000001.jpg')
    with pytest.raises(UserError, match='--use_cropped_img'):
        data.CelebA(str(tmp_path))
    with pytest.raises(UserError, match='--dataroot'):
        data.CelebA(str(tmp_path / 'none'))


def test_png_folder_comes_first(tmp_path, toy_data):
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    (tmp_path / 'toy' / 'img_align_celeba_png').mkdir()
    celeba = data.CelebA(str(tmp_path / 'toy'))
    with pytest.raises(UserError, match=r'2 of 2 images are missing \(000001.png, 000002.png\)'):
        celeba.paths([0, 1])


def test_images_of_another_size_are_refused_where_crops_are_made(tmp_path, toy_data):
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    path = tmp_path / 'toy' / 'img_align_celeba' / '000001.jpg'
    Image.new('RGB', (300, 300)).save(str(path))
    with pytest.raises(UserError, match='000001.jpg: 300x300 pixels, expected .*178x218'):
        data.CelebA(str(tmp_path / 'toy')).paths([0])


def test_stream_uses_every_sample_once_a_pass():
    """Promise 2, and fault 7: the whole set is shuffled, not a window of 4096."""
    stream = data.SampleStream(10000, seed=1)
    first, second = stream.samples(0, 10000), stream.samples(10000, 10000)
    assert sorted(first) == sorted(second) == list(range(10000))
    assert (first != second).any()
    assert first[:100].max() > 9000     # late samples come early
    np.testing.assert_array_equal(stream.samples(9990, 20), np.r_[first[-10:], second[:10]])
    assert (data.SampleStream(10000, seed=2).samples(0, 100) != first[:100]).any()


def test_stream_replaces_bad_samples_by_others_of_the_pass():
    stream = data.SampleStream(10, seed=0)
    whole = stream.samples(0, 20)
    stream.bad.add(whole[3])
    seen = stream.samples(0, 20)
    assert whole[3] not in seen
    assert seen[3] == whole[4]
    assert (seen != whole).sum() == 2    # once in each pass


def open_batches(celeba, seed=0, batch_size=4):
    indices = celeba.part('train')
    batches = data.TrainingBatches(celeba, indices, 32, batch_size, seed)
    return indices, batches


def test_batches_are_functions_of_their_number(toy_data):
    celeba = data.CelebA(str(toy_data), DEFAULT_ATTRIBUTES)
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
    for batch in run:   # b is a, in another order
        assert sorted(map(tuple, batch.a)) == sorted(map(tuple, batch.b))
    assert any((batch.a != batch.b).any() for batch in run)


def spoil(path):
    with open(path, 'r+b') as stream:
        stream.truncate(100)


def test_a_corrupt_jpeg_is_replaced_and_named(tmp_path, toy_data, capfd):
    """Fault 8: the published code ends the run."""
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    celeba = data.CelebA(str(tmp_path / 'toy'), DEFAULT_ATTRIBUTES)
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
    celeba = data.CelebA(str(tmp_path / 'toy'), DEFAULT_ATTRIBUTES)
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
    celeba = data.CelebA(str(toy_data), DEFAULT_ATTRIBUTES)
    with tf.Graph().as_default(), utils.session() as session:
        _, batches = open_batches(celeba)
        problem = tf.errors.ResourceExhaustedError(None, None, 'out of memory')
        with pytest.raises(tf.errors.ResourceExhaustedError):
            batches.recover(session, 0, problem)


def test_load_images_names_the_broken_one(tmp_path, toy_data):
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    paths = data.CelebA(str(tmp_path / 'toy')).paths(range(5))
    spoil(paths[3])
    with pytest.raises(UserError, match='000004.jpg: not a readable image'):
        list(data.load_images(paths, 32, True, 2))


def test_load_images_leaves_the_default_graph_alone(toy_data):
    paths = data.CelebA(str(toy_data)).paths(range(3))
    default = tf.get_default_graph()
    images = data.load_images(paths, 32, True, 2)
    next(images)
    assert tf.get_default_graph() is default
    images.close()
