"""How far edits get at growing intensities: what the classifier sees of them."""

import os
from collections import OrderedDict

import numpy as np

import imlib
from att_classification.evaluation import Classifier, columns_of
from pylib import UserError, progress, write_json
from stgan import attributes, data
from stgan.editing import Editor
from stgan.html_report import CURVES
from stgan.testing import open_data

# Multiples of thres_int: -1 changes nothing, 1 is what training shows.
INTENSITIES = (-1., -.5, 0., .5, 1., 1.5, 2.)


def intensity_curves(editor, classifier_, celeba, indices):
    """Edit images at every intensity, each attribute by itself, and classify the results.

    Args:
        editor: an `editing.Editor`; classifier_: an `evaluation.Classifier`.
        celeba: the data set; indices: 0-based list positions of the images.

    Returns:
        OrderedDict for JSON: images, their number; intensities; changed, {attribute: share of the
        images whose source label the classifier no longer sees}, others, {attribute: mean of that
        over the other attributes}, both a list by intensity.

    Raises:
        UserError: the classifier does not predict an attribute of the experiment, or no image is
            readable.
    """
    config = editor.config
    predicted = columns_of(config.atts, classifier_)
    count, images_seen = len(config.atts), 0
    wrong = np.zeros([len(INTENSITIES), count, count])    # intensity, edited, seen
    paths = celeba.paths(indices)
    with progress(total=len(indices) * len(INTENSITIES), unit='image') as bar:
        for positions, images in data.load_images(paths, config.img_size, celeba.crop, 8):
            labels = celeba.labels[indices[positions]]
            sources = attributes.signed(labels, config.thres_int)
            for number, intensity in enumerate(INTENSITIES):
                targets = attributes.single_targets(labels, config.atts, config.thres_int,
                                                    intensity)[:, 1:]
                edited = imlib.to_uint8(editor.edit_batch(images, targets, sources))
                seen = classifier_.predict(edited.reshape((-1,) + edited.shape[2:]))
                seen = seen[:, predicted].reshape(len(labels), count, count)
                wrong[number] += (seen != labels[:, np.newaxis]).sum(axis=0)
                bar.update(len(labels))
            images_seen += len(labels)
    if not images_seen:
        raise UserError(f'{celeba.folder}: none of {len(indices)} images is readable')
    wrong /= images_seen
    changed = np.diagonal(wrong, axis1=1, axis2=2)
    others = (wrong.sum(axis=2) - changed) / max(count - 1, 1)
    return OrderedDict(
        images=images_seen, intensities=list(INTENSITIES),
        changed=OrderedDict(zip(config.atts, changed.T.round(4).tolist())),
        others=OrderedDict(zip(config.atts, others.T.round(4).tolist())))


def measure(options, images, classifier_path, folder):
    """Write the `intensity_curves` of an experiment to intensity_curves.json in a folder.

    Args:
        options: the `TestConfig` that names experiment and data; images: how many at most, of the
            test split.
    """
    with Editor(options.folder, options.device, threads=options.threads,
                edit_batch=options.edit_batch) as editor:
        celeba = open_data(editor.config, options)
        indices = celeba.part('test')
        if not len(indices):
            raise UserError(f'{celeba.folder}: the test split is empty ({celeba.split}); name '
                            'another data folder with --dataroot')
        classifier_ = Classifier(classifier_path, options.device, options.threads)
        curves = intensity_curves(editor, classifier_, celeba, indices[:images])
    path = os.path.join(folder, CURVES)
    write_json(path, curves)
    return path
