"""Label arithmetic, against values worked out by hand from the published code."""

import numpy as np
import pytest

from stgan import attributes

NAMES = ('Bald', 'Bangs', 'Black_Hair', 'Blond_Hair', 'Male')
LABELS = np.array([[0, 1, 1, 0, 0],
                   [1, 0, 0, 0, 1]])


def test_signed_is_plus_or_minus_the_threshold():
    np.testing.assert_array_equal(attributes.signed([[0, 1]], .5), np.float32([[-.5, .5]]))


@pytest.mark.parametrize('attribute, wanted', [
    ('Bald', [[1, 0, 1, 0, 0], [0, 0, 0, 0, 1]]),         # on clears Bangs, off clears nothing
    ('Bangs', [[0, 0, 1, 0, 0], [0, 1, 0, 0, 1]]),
    ('Blond_Hair', [[0, 1, 0, 1, 0], [1, 0, 0, 1, 1]]),   # on clears the other hair colours
    ('Male', [[0, 1, 1, 0, 1], [1, 0, 0, 0, 0]])])
def test_flipped_resolves_conflicts(attribute, wanted):
    np.testing.assert_array_equal(attributes.flipped(LABELS, attribute, NAMES), wanted)


def test_flipped_leaves_its_argument_alone():
    before = LABELS.copy()
    attributes.flipped(LABELS, 'Bald', NAMES)
    np.testing.assert_array_equal(LABELS, before)


def test_conflicts_outside_the_edited_attributes_are_ignored():
    flipped = attributes.flipped(np.array([[0]]), 'Straight_Hair', ('Straight_Hair',))
    np.testing.assert_array_equal(flipped, [[1]])


def test_single_targets_multiply_the_edited_attribute_only():
    """Intensity is a multiple of thres_int, here and in training samples."""
    targets = attributes.single_targets(LABELS, NAMES, .5, 2)
    assert targets.shape == (2, 6, 5)
    np.testing.assert_array_equal(targets[:, 0], attributes.signed(LABELS, .5))
    np.testing.assert_array_equal(targets[0, 1], [1, -.5, .5, -.5, -.5])
    np.testing.assert_array_equal(targets[1, 5], [.5, -.5, -.5, -.5, -1])


def test_multi_targets():
    targets = attributes.multi_targets(LABELS, NAMES, .5, ['Male', 'Bald'], [2., 1.])
    np.testing.assert_array_equal(targets, [[[.5, -.5, .5, -.5, 1]], [[-.5, -.5, -.5, -.5, -1]]])


def test_slide_moves_one_attribute_only():
    """The published slide maps the labels twice, which moves every attribute."""
    targets = attributes.slide_targets(LABELS, NAMES, .5, 'Male', [-2, 0, 2])
    np.testing.assert_array_equal(targets[0, :, 4], [-1, 0, 1])
    for step in range(3):
        np.testing.assert_array_equal(targets[:, step, :4], attributes.signed(LABELS, .5)[:, :4])


def test_generator_label():
    source, target = np.float32([.5, -.5]), np.float32([.5, .5])
    np.testing.assert_array_equal(attributes.generator_label('diff', source, target), [0, 1])
    np.testing.assert_array_equal(attributes.generator_label('target', source, target), target)


def test_default_attributes_are_celebas():
    assert set(attributes.DEFAULT_ATTRIBUTES) <= set(attributes.CELEBA_ATTRIBUTES)
    assert len(attributes.CELEBA_ATTRIBUTES) == 40


def test_changes_are_steps_between_off_and_on():
    names = ('Bald', 'Male', 'Young')
    on_off = attributes.signed([[1, 0, 0]], .5) - attributes.signed([[0, 0, 1]], .5)
    found = attributes.changes({'Bald': 1, 'Young': -1}, names, .5)
    np.testing.assert_array_equal(found, on_off[0])
    np.testing.assert_array_equal(attributes.changes({'Male': .5}, names, .25), [0, .25, 0])
    assert found.dtype == np.float32 and not attributes.changes({}, names, .5).any()
    for value in (11, -11, float('nan')):
        with pytest.raises(ValueError, match='Bald=.*expected a number from -10 to 10'):
            attributes.changes({'Bald': value}, names, .5)
