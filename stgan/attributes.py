"""Attribute names, conflicts and label arithmetic (NumPy only).

Labels `a` are {0,1} arrays [N,n_att]. The networks work with *signed* labels, -thres_int for off
and +thres_int for on (paper section 3.1). **Intensity** has one meaning everywhere: the multiple of
`thres_int` an edited attribute is set to. 1 is what training shows; the paper's figures and tables
use 2 (`test.py --test_int 2`, with thres_int 0.5: -1.0 or +1.0).
"""

import numpy as np

CELEBA_ATTRIBUTES = (
    '5_o_Clock_Shadow', 'Arched_Eyebrows', 'Attractive', 'Bags_Under_Eyes', 'Bald', 'Bangs',
    'Big_Lips', 'Big_Nose', 'Black_Hair', 'Blond_Hair', 'Blurry', 'Brown_Hair', 'Bushy_Eyebrows',
    'Chubby', 'Double_Chin', 'Eyeglasses', 'Goatee', 'Gray_Hair', 'Heavy_Makeup',
    'High_Cheekbones', 'Male', 'Mouth_Slightly_Open', 'Mustache', 'Narrow_Eyes', 'No_Beard',
    'Oval_Face', 'Pale_Skin', 'Pointy_Nose', 'Receding_Hairline', 'Rosy_Cheeks', 'Sideburns',
    'Smiling', 'Straight_Hair', 'Wavy_Hair', 'Wearing_Earrings', 'Wearing_Hat',
    'Wearing_Lipstick', 'Wearing_Necklace', 'Wearing_Necktie', 'Young')

DEFAULT_ATTRIBUTES = (
    'Bald', 'Bangs', 'Black_Hair', 'Blond_Hair', 'Brown_Hair', 'Bushy_Eyebrows', 'Eyeglasses',
    'Male', 'Mouth_Slightly_Open', 'Mustache', 'No_Beard', 'Pale_Skin', 'Young')

MOST_CHANGE = 10    # of an attribute of a photo, see `changes`; training shows 1

_HAIR_COLOURS = ('Black_Hair', 'Blond_Hair', 'Brown_Hair', 'Gray_Hair')

# Attribute switched on -> attributes that cannot stay on (csmliu/STGAN data.py@8a206ad).
CONFLICTS = {
    'Bald': ('Bangs',),
    'Receding_Hairline': ('Bangs',),
    'Bangs': ('Bald', 'Receding_Hairline'),
    'Straight_Hair': ('Wavy_Hair',),
    'Wavy_Hair': ('Straight_Hair',),
}
CONFLICTS.update({colour: tuple(other for other in _HAIR_COLOURS if other != colour)
                  for colour in _HAIR_COLOURS})


def signed(labels, thres_int):
    """{0,1} labels -> float32 labels of -thres_int and +thres_int."""
    return (np.asarray(labels, np.float32) * 2 - 1) * np.float32(thres_int)


def generator_label(mode, source, target):
    """What the generator is told of signed labels: the 'diff'erence or the 'target' itself."""
    return target - source if mode == 'diff' else target


def changes(values, names, thres_int):
    """Differences of signed labels, for photos whose labels nobody knows.

    Args:
        values: {attribute name: how much}: 0 leaves it alone, 1 is the step from off to on that
            training shows, -1 the one back.

    Returns:
        float32 [n_att].

    Raises:
        ValueError: more than `MOST_CHANGE`, or no number.
    """
    for name, value in values.items():
        if not abs(value) <= MOST_CHANGE:
            raise ValueError(f'{name}={value}: expected a number from -{MOST_CHANGE} to '
                             f'{MOST_CHANGE}')
    return np.array([2 * thres_int * values.get(name, 0) for name in names], np.float32)


def flipped(labels, attribute, names):
    """A copy of {0,1} `labels` [N,n_att] with one attribute inverted.

    Where that switches it on, the attributes that contradict it (`CONFLICTS`) are switched off.
    """
    labels = np.array(labels)
    index = names.index(attribute)
    labels[:, index] = 1 - labels[:, index]
    for other in CONFLICTS.get(attribute, ()):
        if other in names:
            labels[labels[:, index] == 1, names.index(other)] = 0
    return labels


def single_targets(labels, names, thres_int, test_int):
    """Signed targets of a reconstruction and of one edit per attribute.

    Args:
        labels: {0,1} [N,n_att]; names: the n_att attribute names; test_int: intensity.

    Returns:
        float32 [N, 1 + n_att, n_att]; target 0 is the source label.
    """
    targets = [signed(labels, thres_int)]
    for i, name in enumerate(names):
        target = signed(flipped(labels, name, names), thres_int)
        target[:, i] *= test_int
        targets.append(target)
    return np.stack(targets, axis=1)


def multi_targets(labels, names, thres_int, attributes, intensities):
    """Signed targets of one edit that inverts several attributes: float32 [N,1,n_att]."""
    for attribute in attributes:
        labels = flipped(labels, attribute, names)
    targets = signed(labels, thres_int)
    for attribute, intensity in zip(attributes, intensities):
        targets[:, names.index(attribute)] *= intensity
    return targets[:, np.newaxis]


def slide_targets(labels, names, thres_int, attribute, intensities):
    """Signed targets that set one attribute to each intensity in turn.

    Negative intensities stand for off, whatever the source label; all other attributes stay.

    Returns:
        float32 [N, len(intensities), n_att].
    """
    targets = np.repeat(signed(labels, thres_int)[:, np.newaxis], len(intensities), axis=1)
    targets[:, :, names.index(attribute)] = np.float32(thres_int) * np.asarray(intensities)
    return targets
