"""Draw a procedural face data set in CelebA's layout.

The pictures are illustrated portraits, 178 wide x 218 high, aligned as CelebA's are, in which 17
attributes (the 13 that STGAN edits by default, and Gray_Hair, Smiling, Wearing_Hat and
Wearing_Lipstick) are visible exactly when their label is 1. A small STGAN learns to edit them
within minutes on a CPU, and nothing has to be downloaded.

About as frequent as in CelebA (fractions of all pictures): Bangs .15, Black_Hair .26, Blond_Hair
.17, Brown_Hair .25, Bushy_Eyebrows .14, Gray_Hair .05, Male .42, Mouth_Slightly_Open .48, No_Beard
.83, Smiling .48, Wearing_Hat .06, Wearing_Lipstick .47, Young .77. Raised, so that a few thousand
pictures hold enough of them (CelebA's fraction in brackets): Bald .06 (.023), Eyeglasses .13
(.065), Mustache .10 (.042), Pale_Skin .10 (.043). The remaining hair, .19, is red.

Drawn and labelled as well: 5_o_Clock_Shadow, Arched_Eyebrows, Bags_Under_Eyes, Goatee,
Heavy_Makeup, Receding_Hairline, Rosy_Cheeks, Sideburns, Straight_Hair, Wavy_Hair,
Wearing_Earrings. The other 12 names are always -1.

Examples:
    python scripts/toy/make_toy_celeba.py data/toy
    python scripts/toy/make_toy_celeba.py data/other --images 500 --seed 1
"""

import os

import numpy as np
from PIL import Image

if not __package__:
    import _checkout

import pylib
from scripts.toy.face import draw_face
from stgan.attributes import CELEBA_ATTRIBUTES

VERSION = 1  # of the drawing: sets of different versions must not be mixed


# ---------------------------------------------------------------------------------- attributes

def sample_attributes(rng):
    """Draw labels that do not contradict each other, about as frequent as in CelebA.

    Args:
        rng: numpy.random.Generator; 40 numbers are taken from it.

    Returns:
        dict of the 40 names to bool.
    """
    number = dict(zip(CELEBA_ATTRIBUTES, rng.random(len(CELEBA_ATTRIBUTES)).tolist()))
    is_set = dict.fromkeys(CELEBA_ATTRIBUTES, False)
    male = number['Male'] < .42

    def choose(name, if_male, if_female, allowed=True):
        is_set[name] = bool(allowed and number[name] < (if_male if male else if_female))
        return is_set[name]

    choose('Male', 1, 0)
    young = choose('Young', .68, .835)
    bald = choose('Bald', .10 if young else .24, 0)
    hat = choose('Wearing_Hat', .066, .06, not bald)
    receding = choose('Receding_Hairline', .07 if young else .33, 0, not (bald or hat))
    choose('Bangs', .085, .235, not (bald or hat or receding))
    sample_hair_colour(is_set, number['Black_Hair'], not (bald or (hat and male)))
    beard = not choose('No_Beard', .6, 1)
    choose('Mustache', .6, 0, beard)
    if beard:
        style = number['Goatee']
        kind = 'Goatee' if style < .3 else '5_o_Clock_Shadow' if style < .6 else 'Sideburns'
        is_set[kind] = True
    choose('Pale_Skin', .08, .115)
    choose('Eyeglasses', .17, .10)
    choose('Bushy_Eyebrows', .22, .085)
    choose('Arched_Eyebrows', .06, .42)
    smiling = choose('Smiling', .40, .54)
    choose('Mouth_Slightly_Open', *((.74, .74) if smiling else (.24, .24)))
    choose('Heavy_Makeup', 0, .7, choose('Wearing_Lipstick', 0, .81))
    choose('Rosy_Cheeks', 0, .12)
    choose('Wearing_Earrings', 0, .32)
    choose('Straight_Hair', 0, 1, not choose('Wavy_Hair', 0, .5))
    is_set['Bags_Under_Eyes'] = not young
    return is_set


def sample_hair_colour(is_set, number, visible):
    """Set at most one hair colour in `is_set` according to `number` in 0..1."""
    shares = {
        'Gray_Hair': .012 if is_set['Young'] else .22,
        'Black_Hair': .34 if is_set['Male'] else .25,
        'Brown_Hair': .30 if is_set['Male'] else .26,
        'Blond_Hair': .13 if is_set['Male'] else .22,
    }
    for name, share in shares.items():
        if visible and 0 <= number < share:
            is_set[name] = True
        number -= share


# ----------------------------------------------------------------------------------- data set

def image_name(index):
    """CelebA's name of image `index`, which counts from 1."""
    return f'{index:06d}.jpg'


def image_generator(seed, index):
    """Random numbers that depend on nothing but the seed and the image's index."""
    return np.random.default_rng([seed, index])


def write_image(task):
    """Draw and save one image; `task` is (folder, seed, index)."""
    folder, seed, index = task
    rng = image_generator(seed, index)
    picture = Image.fromarray(draw_face(sample_attributes(rng), rng))
    with pylib.atomic_path(os.path.join(folder, image_name(index))) as temporary:
        picture.save(temporary, quality=92)


def attribute_list(images, seed):
    """The text of list_attr_celeba.txt."""
    lines = [str(images), ' '.join(CELEBA_ATTRIBUTES)]
    for index in range(1, images + 1):
        is_set = sample_attributes(image_generator(seed, index))
        values = ' '.join(' 1' if is_set[name] else '-1' for name in CELEBA_ATTRIBUTES)
        lines.append(f'{image_name(index)} {values}')
    return '\n'.join(lines) + '\n'


def partition_list(images):
    """The text of list_eval_partition.txt: about 86 % train, 4 % validation, 10 % test."""
    validation, test = (max(1, round(images * part)) if images >= 3 else 0 for part in (.04, .1))
    train = images - validation - test
    parts = [0] * train + [1] * validation + [2] * test
    return ''.join(f'{image_name(index)} {part}\n' for index, part in enumerate(parts, 1))


def claim_folder(folder, description):
    """Make `folder` ours, or make sure that it is: a new set, or one of the same description."""
    marker = os.path.join(folder, 'toy.json')
    if os.path.exists(marker):
        if pylib.read_json(marker) != description:
            raise pylib.UserError(f'{folder}: holds another toy set (see {marker}); '
                                  'choose another folder')
    elif os.path.isdir(folder) and not all(
            name.startswith(pylib.UNFINISHED) for name in os.listdir(folder)):
        raise pylib.UserError(f'{folder}: not empty and not a toy set; choose another folder')
    else:
        os.makedirs(folder, exist_ok=True)
        pylib.write_json(marker, description)


def make_data_set(folder, images=3000, seed=0, processes=None):
    """Write a data set, or what is missing of it; the lists come last.

    Args:
        folder: where img_align_celeba/ and the two lists go; new, empty, or the same set.
        images: how many; image i is the same in sets of any size.
        seed: 0 or more.
        processes: None takes all usable cores; the result does not depend on it.

    Returns:
        Whether anything was missing.
    """
    image_folder = os.path.join(folder, 'img_align_celeba')
    lists = {'list_attr_celeba.txt': lambda: attribute_list(images, seed),
             'list_eval_partition.txt': lambda: partition_list(images)}
    try:
        claim_folder(folder, {'toy_celeba': VERSION, 'seed': seed, 'images': images})
        os.makedirs(image_folder, exist_ok=True)
        pylib.remove_unfinished(image_folder)
        present = set(os.listdir(image_folder))
        tasks = [(image_folder, seed, index) for index in range(1, images + 1)
                 if image_name(index) not in present]
        absent = [name for name in lists if not os.path.exists(os.path.join(folder, name))]
        drawn = pylib.parallel_map(write_image, tasks, processes)
        for _ in pylib.progress(drawn, total=len(tasks), unit='image', disable=not tasks):
            pass
        for name in absent:
            pylib.write_text(os.path.join(folder, name), lists[name]())
    except OSError as error:
        raise pylib.UserError(f'{error.filename or folder}: {error.strerror or error}') from None
    return bool(tasks or absent)


def main():
    """The command."""
    parser = pylib.ArgumentParser(description=__doc__)
    parser.add_argument('output_dir', metavar='OUTPUT_DIR', help='a new folder, or the same set')
    parser.add_argument('--images', type=int, default=3000, help='how many pictures')
    parser.add_argument('--seed', type=int, default=0, help='another seed draws other faces')
    parser.add_argument('--processes', type=int, help='workers; default: one per usable core')
    arguments = parser.parse_args()
    for name, lowest in (('images', 1), ('seed', 0), ('processes', 1)):
        value = getattr(arguments, name)
        if value is not None and value < lowest:
            raise pylib.UserError(f'--{name} {value}: must be at least {lowest}')
    folder = arguments.output_dir
    if make_data_set(folder, arguments.images, arguments.seed, arguments.processes):
        print(f'{folder}: wrote {arguments.images} images, their attributes and the partition')
    else:
        print(f'{folder}: up to date')


if __name__ == '__main__':
    pylib.run_command(main)
