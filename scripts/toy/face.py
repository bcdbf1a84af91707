"""The parts of the toy faces, and `draw_face`, which puts them together."""

import math

import numpy as np
from PIL import Image, ImageFilter

from scripts.toy.canvas import (
    HEIGHT,
    WIDTH,
    Canvas,
    arch,
    blob,
    cover,
    face_coordinates,
    hue_colour,
    pick,
    planes,
    sample_look,
    strand_noise,
)

EYE_X, MOUTH_Y = 19.5, 40.

SKIN_TONES = np.array([(.93, .735, .61), (.885, .665, .52), (.77, .54, .405), (.60, .41, .31)])
PALE_SKIN = np.array((1, .905, .85))
IRIS_COLOURS = np.array([(.24, .14, .08), (.36, .22, .1), (.3, .42, .22), (.22, .42, .62)])
LIPSTICKS = np.array([(.80, .03, .10), (.88, .07, .38), (.70, .02, .27), (.93, .17, .14)])
HAIR_COLOURS = {  # the first name that is set counts; None: red, which CelebA has no name for
    'Black_Hair': (.085, .075, .085), 'Blond_Hair': (.88, .70, .38),
    'Brown_Hair': (.36, .215, .125), 'Gray_Hair': (.68, .68, .70), None: (.54, .19, .09),
}
FRAME_COLOURS = np.array([(.05, .05, .06), (.26, .12, .05), (.45, .05, .09), (.06, .12, .3)])
SHADOW = np.array((.74, .56, .5))  # what skin in the shade is multiplied by


def skin_colour(has, look):
    """The colour [3] of lit skin: fair to brown, or clearly lighter than any of these."""
    tone = PALE_SKIN if has['Pale_Skin'] else pick(SKIN_TONES, look.skin)
    grey = 0 if has['Young'] else .12
    return tone + np.array((1, 0, -1)) * look.skin_red * tone + grey * (tone.mean() - tone)


def hair_colour(has, look):
    """The colour [3] of hair, which brows and beard share, even where no hair is drawn."""
    name = next((name for name in HAIR_COLOURS if name and has[name]), None)
    colour = np.array(HAIR_COLOURS[name]) * look.hair_light
    if name is None and (has['Bald'] or (has['Wearing_Hat'] and has['Male'])):
        colour = np.array((.24, .16, .11))  # no hair to show a colour: neutral brows and beard
    return colour if has['Young'] else colour + .15 * (.5 * colour.mean() + .25 - colour)


def has_hair(has):
    """Whether hair is drawn: a man's short hair vanishes under a hat unless its colour is set."""
    under_hat = has['Wearing_Hat'] and has['Male']
    return not has['Bald'] and (not under_hat or any(has[name] for name in HAIR_COLOURS if name))


def draw_background(canvas, look):
    """Two colours that blend into each other, and blurred shapes of related colours."""
    second = hue_colour(look.back_hue + look.back_spread, .3, look.back_light * .75)
    canvas.pixels[:] = planes(hue_colour(look.back_hue, .22, look.back_light))
    slope = canvas.x * math.cos(look.back_angle) + canvas.y * math.sin(look.back_angle)
    canvas.paint(cover(slope, 220), second)
    for across, down, size, hue, light in look.spots:
        centre_x, centre_y, radius = across * 200 - 100, down * 240 - 120, 14 + 30 * size
        part = canvas.window(centre_x - radius - 8, centre_y - radius - 8,
                             centre_x + radius + 8, centre_y + radius + 8)
        inside = cover(radius - np.hypot(part.x - centre_x, part.y - centre_y), 6 + 14 * light)
        part.paint(inside * .3, hue_colour(look.back_hue + .3 * hue - .15, .35, .25 + .7 * light))


def draw_body(canvas, has, look, skin):
    """Neck, shoulders and a shirt with a round or pointed neckline."""
    part = canvas.window(-110, 40, 110, 115)
    neck = 29.5 if has['Male'] else 23.5
    beyond = np.clip(part.side - neck, 0, None)
    shoulder = 76 - 18 * np.exp(-beyond / 5) + (16 if has['Male'] else 21) * (beyond / 50) ** .8
    body = cover(np.maximum(np.minimum(neck - part.side, part.y - 40),
                            (part.y - shoulder) / (1.2 + 2.5 * np.exp(-beyond / 5))))
    part.paint(body, skin * .95)
    part.glaze(body * cover(part.side - neck * .75, neck) * cover(84 - part.y, 20) * .5, SHADOW)
    part.glaze(body * blob(part.x, part.y, 6 * look.light_x, 63, 38, 14) * .95, SHADOW * .85)
    if look.neckline < .5:
        neckline = 93 + 8 * look.neckline - .016 * part.side ** 2
    else:
        neckline = 98 + 10 * look.neckline - .8 * part.side
    shirt = body * cover(part.y - neckline)
    folds = .9 + .12 * strand_noise(look, 3, 40 + part.x / 13 + part.y / 24)
    part.glaze(body * cover(part.y - neckline + 3, 5) * .3, SHADOW)
    part.paint(shirt, planes(hue_colour(look.cloth_hue, .45, look.cloth_light)) * folds)
    part.glaze(shirt * cover(neckline + 2.5 - part.y, 1.5) * .25, (.5, .5, .5))


def head_rim(x, y, has, look):
    """Signed distance [h, w] of face coordinates to the outline of head and jaw, inside > 0."""
    angles = np.radians((0, 18, 36, 54, 75, 100, 130, 155, 180))  # from the chin to the crown
    radii = np.array((57.5, 57, 54, 48.6, 46, 46.8, 57, 64.5, 67) if has['Male'] else
                     (54, 52, 47.5, 45, 44.6, 46, 57, 64, 66.5))
    radii[:3] += np.array((1, 1, .3)) * look.chin
    radii[1:4] += np.array((.5, 1, .6)) * look.jaw
    if not has['Young']:
        radii[1:4] += 1.5, 3.2, 1  # sagging cheeks
    orders = np.arange(len(angles))
    waves = np.linalg.solve(np.cos(np.outer(angles, orders)), radii)
    fine = np.linspace(0, np.pi, 361)
    x, y = np.abs(x) / look.width, y - 10
    outline = np.interp(np.arctan2(x, y), fine, np.cos(np.outer(fine, orders)) @ waves)
    return outline.astype(np.float32) - np.hypot(x, y)


def draw_head(canvas, has, look, skin):
    """Ears and the shaded head without features."""
    for part in (canvas.window(-60, -16, -38, 30), canvas.window(38, -16, 60, 30)):
        out = part.side - 47.5 * look.width - .12 * (8 - part.y)
        ear = np.hypot(out / 6.5, (part.y - 7) / 14.5)
        part.paint(cover((1 - ear) * 7), skin * .9)
        part.glaze(cover((.62 - ear) * 7, 3) * .55, SHADOW)
    inside = cover(canvas.rim)
    canvas.paint(inside, skin)
    reach = np.hypot(canvas.x / look.width, canvas.y - 10)
    reach = reach / (reach + canvas.rim)  # 0 in the middle, 1 at the outline
    slant = 1 / np.maximum(reach * 52, 1) * reach
    light = (look.light_x * canvas.x + look.light_y * (canvas.y - 10)) * slant
    height = np.sqrt(np.clip(1 - .97 * reach * reach, 0, 1))
    canvas.glaze(inside * np.clip(.62 - .5 * light - .55 * height, 0, 1), SHADOW * .8)
    canvas.paint(inside * np.clip(.34 * light + .1 * height - .1, 0, .3), (1, .95, .86))
    part = canvas.window(-48, -12, 48, 62)
    red = .62 if has['Rosy_Cheeks'] else .2
    part.glaze(blob(part.side, part.y, 27, 23, 12, 10) * red, (1, .55, .56))
    glow = .2 if has['Smiling'] else .1
    part.paint(blob(part.side, part.y, 28, 14, 11, 6) * glow, (1, .93, .86))
    part.glaze(blob(part.side, part.y, 17, -5, 15, 9) * .24, SHADOW)
    part.paint(blob(part.x, part.y, 3 * look.light_x, 58, 9, 5) * .13, (1, .95, .88))
    part.glaze(blob(part.x, part.y, 0, 50.5, 11, 3) * .3, SHADOW)
    if has['Bald']:
        part = canvas.window(-45, -66, 45, -20)
        part.paint(blob(part.x, part.y, 16 * look.light_x - 4, -41, 15, 8) * .5, (1, .98, .94))


def draw_eyes(canvas, has, look):
    """Whites, iris, pupil, highlight, lids and lashes of both eyes."""
    part = canvas.window(-36, -14, 36, 14)
    half = 10.6 * look.eye_size
    across = (part.side - EYE_X) / half  # -1 beside the nose, 1 at the temple
    bend = np.clip(1 - across ** 2, 0, 1)
    within = cover((1 - np.abs(across)) * half)
    opening = look.eye_open * (.78 if has['Smiling'] else 1) * (.88 if not has['Young'] else 1)
    upper = part.y + look.eye_tilt * across + 5.9 * opening * bend ** .7 * look.eye_size
    lower = 4.1 * opening * bend * look.eye_size - part.y - look.eye_tilt * across
    if has['Heavy_Makeup']:
        shadow = blob(across, part.y, .15, -7, .95, 4.6)
        part.paint(shadow * .72, hue_colour(.72 + .5 * look.lipstick, .6, .36))
    inside = cover(np.minimum(upper, lower)) * within
    part.paint(inside, (.95, .945, .94))
    part.glaze(inside * cover(2.5 - upper, 4) * .5, (.55, .52, .55))
    iris_x = part.x - np.sign(part.x) * EYE_X - look.gaze_x
    iris_y = part.y - look.gaze_y + .6
    radius = np.hypot(iris_x, iris_y)
    colour = pick(IRIS_COLOURS, look.iris)
    part.paint(inside * cover(4.9 - radius), colour * .5)
    part.paint(inside * cover(4.1 - radius, 1.5) * cover(iris_y + 2.5, 6), colour * 1.35)
    part.paint(inside * cover(2.2 - radius), (.03, .025, .03))
    part.paint(inside * cover(1.25 - np.hypot(iris_x + 1.5, iris_y + 1.9)) * .95, (1, 1, 1))
    part.paint(inside * cover(.6 - np.hypot(iris_x - 1.6, iris_y - 1.6)) * .6, (1, 1, 1))
    lash = (.75 if has['Male'] else 1.25 + .5 * np.clip(across, 0, 1)) * (.6 + .4 * bend)
    wing = cover((1 - np.abs(across)) * half + (0 if has['Male'] else 1.8))
    part.paint(cover(lash - np.abs(upper + .3)) * wing * .92, (.10, .06, .05))
    part.paint(cover(.5 - np.abs(lower)) * within * (.3 if has['Male'] else .5), (.25, .13, .1))
    part.glaze(cover(.5 - np.abs(upper + 3.6), 1.8) * within * .5, SHADOW * .6)


def draw_brows(canvas, has, look, colour):
    """Eyebrows: thin, or bushy; slightly bent, or arched."""
    part = canvas.window(-40, -28, 40, -6)
    along = (part.side - 20) / 13.5  # -1 beside the nose, 1 at the temple
    arched = 5.2 if has['Arched_Eyebrows'] else 1.6
    middle = -15.5 + look.brow_height * .6 + look.brow_slope * along
    middle = middle - arched * np.clip(1 - (along - .25) ** 2 / 1.4, -.4, 1) + arched * .5
    thick = 4.6 if has['Bushy_Eyebrows'] else 1.75 if has['Male'] else 1.45
    taper = np.clip(1 - along, 0, 1.6) ** .45 * np.clip(1 + along, 0, 1) ** .3
    hairs = .7 * strand_noise(look, 1, 60 + part.side * .9 + part.y * .45)
    inside = cover(thick * taper * .85 - np.abs(part.y - middle) + hairs * .18 * thick, 1.4)
    strength = .95 if has['Bushy_Eyebrows'] else .72
    part.paint(inside * strength * cover((1.04 - np.abs(along)) * 13.5, 2), colour * .8)


def draw_nose(canvas, look):
    """A nose made of light and shade."""
    part = canvas.window(-20, -14, 20, 38)
    base, wide = 24.5 + look.nose_length, 8.6 * look.nose_width
    sign = math.copysign(1, look.light_x)
    part.glaze(blob(part.x, part.y, -sign * 6.5, 8, 3.5, 16) * .34, SHADOW)
    part.paint(blob(part.x, part.y, sign * .8, 6, 2.4, 15) * .22, (1, .95, .88))
    part.glaze(blob(part.x, part.y, 0, base + 3.2, wide + 1, 3) * .55, SHADOW)
    part.paint(blob(part.x, part.y, sign, base - 5.5, 3.6, 3.2) * .4, (1, .96, .9))
    part.glaze(blob(part.side, part.y, wide * .8, base - 2, 3, 4.5) * .15, SHADOW)
    wing = np.hypot(part.side - wide * .55, (part.y - base + 2.5) * .95)
    part.glaze(cover(.8 - np.abs(wing - wide * .5), 1.8) * cover(part.side - wide * .8, 3) * .62,
               SHADOW * .6)
    nostril = np.hypot((part.side - wide * .45) / 2.7, (part.y - base - .2 * part.side + .8) / 1.5)
    part.paint(cover((1 - nostril) * 1.8, 1.3) * .75, (.22, .09, .07))


def draw_mouth(canvas, has, look, skin):
    """Lips, curved or straight; closed, or open with teeth and the dark inside."""
    part = canvas.window(-32, 26, 32, 58)
    smile, opened = has['Smiling'], has['Mouth_Slightly_Open']
    half = (21.5 if smile else 15.5 if has['Male'] else 14.5) * look.mouth_width
    across = part.x / half
    bend = np.clip(1 - across ** 2, 0, 1)
    within = cover((1 - np.abs(across)) * half)
    gap = (8.4 if smile else 8) * opened * bend ** .8
    line = MOUTH_Y - .5 - 2.5 * opened + (7 * bend - 5.2 if smile else .7 * bend - .4)
    bow = 1.3 * np.exp(-(part.x / 2.6) ** 2)
    top = line - 4.8 * look.lip * bend ** .75 * (.8 if smile else 1) + bow
    bottom = line + gap + 6 * look.lip * bend ** .8
    lips = np.array((.80, .48, .45)) * (.45 + .6 * skin.mean())
    lips = pick(LIPSTICKS, look.lipstick) if has['Wearing_Lipstick'] else .62 * lips + .38 * skin
    part.glaze(cover(bottom + 2.5 - part.y, 5) * cover(part.y - bottom, 4) * within * .35, SHADOW)
    upper = cover(np.minimum(part.y - top, line - part.y)) * within
    lower = cover(np.minimum(part.y - line, bottom - part.y)) * within
    part.paint(upper, lips * .84)
    part.paint(lower, lips)
    shine = blob(part.x, part.y - bottom, 2 * look.light_x, -3, half * .45, 1.3)
    part.paint(lower * shine * (.5 if has['Wearing_Lipstick'] else .25), (1, .93, .9))
    inside = cover(np.minimum(part.y - line, line + gap - part.y)) * within * bool(opened)
    part.paint(inside, (.22, .05, .06))
    teeth = cover(np.minimum(part.y - line, line + .66 * gap - part.y)) * inside
    part.paint(teeth * cover((.86 - np.abs(across)) * half, 3), (.96, .95, .92))
    part.glaze(teeth * cover(line + 1.3 - part.y, 2) * .35, SHADOW)
    part.paint(cover(.6 - np.abs(part.y - line), 1.2) * within * (.5 if opened else .8), lips * .4)
    corner = blob(part.side, part.y, half + 1, MOUTH_Y - (6 if smile else 0), 2.2, 2.8)
    part.glaze(corner * (.75 if smile else .3), SHADOW * .8)
    if smile:  # round cheeks push a soft fold up beside the mouth
        fold = np.hypot(part.side - 14, part.y - 36) - 14
        soft = cover(np.minimum(part.y - 25, 40 - part.y), 8) * cover(part.side - 19, 4)
        part.glaze(cover(1.6 - np.abs(fold), 4) * soft * .4, SHADOW)


def crease(part, distance, alpha, width=1.):
    """A wrinkle: a dark line where `distance` is 0, with a light rim on its far side."""
    part.glaze(cover(width - np.abs(distance), 2) * alpha, SHADOW * .55)
    part.paint(cover(width - np.abs(distance - 2.6), 2.4) * alpha * .22, (1, .95, .88))


def draw_age(canvas, look):
    """Wrinkles of forehead, eyes, cheeks and mouth, and bags under the eyes."""
    part = canvas.window(-46, -36, 46, 62)
    for height in (-32, -27, -22):
        wave = height + look.brow_height + 1.2 * np.cos(part.x / 9 + height)
        crease(part, part.y - wave, .5 * cover(27 - part.side, 12), .7)
    bag = 9.5 + 2.5 * (1 - ((part.side - EYE_X) / 11) ** 2)
    near_eye = cover(11 - np.abs(part.side - EYE_X), 5)
    part.glaze(blob(part.side, part.y, EYE_X, 8.5, 10, 3.6) * .42, (.66, .5, .55))
    crease(part, part.y - bag, .75 * near_eye)
    fold = part.side - 11.5 - (part.y - 22) * .56 - 2 * np.sin((part.y - 22) / 8)
    crease(part, fold, .85 * cover(np.minimum(part.y - 21, 46 - part.y), 6), 1.2)
    part.glaze(blob(part.side, part.y, 31, 34, 5, 13) * .3, SHADOW)
    jowl = part.side - 21 - (part.y - 46) * .2
    crease(part, jowl, .45 * cover(np.minimum(part.y - 47, 59 - part.y), 5), .9)
    for slope in (-.45, .05, .5):
        foot = part.y - 1 - slope * (part.side - 31)
        crease(part, foot, .7 * cover(np.minimum(part.side - 32.5, 41 - part.side), 3), .55)


def draw_beard(canvas, has, look, colour):
    """Mustache, and one of full beard, goatee and stubble."""
    part = canvas.window(-54, -6, 54, 78)
    hairs = strand_noise(look, 2, 90 + part.x * .8 + part.y * .13 * np.sign(part.x))
    strands = planes(colour) * (1 + .25 * hairs)
    if not has['No_Beard']:
        cheek = np.interp(part.side, (0, 6, 13, 19, 27, 38, 44, 50),
                          (49, 48.5, 47, 41, 34, 26, 10, -8)).astype(np.float32)
        edge = np.minimum(part.y - cheek, part.rim)
        if has['Goatee']:
            oval = 1 - np.hypot(part.x / 16, (part.y - 58) / 13)
            part.paint(cover(np.minimum(oval * 13, part.y - 49) + hairs, 3) * .95, strands)
        elif has['5_o_Clock_Shadow']:
            part.paint(cover(edge, 6) * (.54 + .14 * hairs), .4 * colour + (.1, .1, .12))
        else:
            part.paint(cover(edge + 3 + 1.2 * hairs, 4) * .95, strands)
    if has['Mustache']:
        lift = 3.2 if has['Smiling'] else 0
        half = 20 if has['Smiling'] else 18
        across = part.x / half
        middle = 32.2 - .6 * lift - 1.4 * has['Mouth_Slightly_Open']
        middle = middle + (5.5 - lift * 1.2) * across ** 2
        thick = 4.3 * np.clip(1 - across ** 2, 0, 1) ** .6 - 1.2 * np.exp(-(part.x / 2) ** 2)
        within = cover((1 - np.abs(across)) * half, 2)
        part.paint(cover(thick - np.abs(part.y - middle) + hairs * .7, 1.6) * within * .97, strands)


def draw_glasses(canvas, look):
    """A frame with rims, bridge and arms, tinted lenses with a glare, and its soft shadow."""
    part = canvas.window(-54, -18, 54, 20)
    power, colour = look.frame_round, pick(FRAME_COLOURS, look.frame)
    lens_x = (np.abs(part.side - EYE_X - .8) / 15.2) ** power
    for drop, softness, strength in ((2.5, 4, .4), (0, 1, 1)):  # the shadow, then the frame
        lens = 1 - (lens_x + (np.abs(part.y - 1.5 - drop) / 12.2) ** power) ** (1 / power)
        frame = cover(1.75 - np.abs(lens * 13), softness)
        bridge = cover(1.5 - np.abs(part.y - drop + 4 - .12 * part.side ** 2), softness)
        frame = np.maximum(frame, bridge * cover(5.2 - part.side))
        arm = cover(1.4 - np.abs(part.y - drop + 4), softness) * cover(part.side - 34)
        frame = np.maximum(frame, arm * cover(part.rim))
        part.glaze(frame * strength, SHADOW if drop else colour)
    part.paint(frame, colour)
    inside = cover(lens * 13 - 1)
    part.paint(inside * .1, (.85, .93, 1))
    stripe = np.sign(part.x) * EYE_X + 5 - .55 * (part.y - 1)
    part.paint(inside * cover(2.6 - np.abs(part.x - stripe), 2) * .3, (1, 1, 1))
    part.paint(frame * cover(-9 - part.y, 3) * .25, (1, 1, 1))


def hair_outline(canvas, has, look):
    """Signed distance to the outline of the hair, and -1..1 across it along the strands."""
    sway = canvas.x
    if has['Wavy_Hair']:
        swing = np.sin(canvas.y / 7.5 + look.wave + np.sign(canvas.x))
        sway = sway + 4 * swing * cover(canvas.y + 8, 40)
    top = -66 - .4 * look.hair_volume
    parted = sway - look.parting * np.clip((-14 - canvas.y) / 50, 0, 1)
    if has['Male']:
        distance, _ = arch(sway, canvas.y, 49.5 * look.width + .2 * look.hair_volume, top - 2, -10)
        end = 20 - canvas.y
        _, across = arch(2 * parted - sway, canvas.y, 52, top, -6)
    else:
        half = 55.5 + .7 * look.hair_volume + 5 * cover(canvas.y - 15, 70) + 3 * has['Wavy_Hair']
        distance, _ = arch(sway, canvas.y, half, top, -10)
        end = 48 + 75 * look.hair_length - canvas.y - .006 * sway ** 2
        _, across = arch(parted, canvas.y, half, top, -10)
    if has['Wearing_Hat']:
        slope = 1.3 * np.clip(canvas.side - 45, 0, None)  # hair bulges out only below the hat
        distance = np.minimum(distance, canvas.y + 32 - slope)
    ragged = 2.5 * strand_noise(look, 1, 90 + across * 20)
    return np.minimum(distance, .6 * (end + ragged)), across


def paint_hair(canvas, look, alpha, across, colour):
    """Fill `alpha` [h, w] with strands that shine in a ring around the head."""
    # Where all strands meet at the crown they would be too thin to draw.
    visible = cover(canvas.y + 57, 16)
    strands = strand_noise(look, 0, 100 + across * 17) * (.35 + .65 * visible)
    fine = strand_noise(look, 2, 100 + across * 46) * visible
    tone = .86 + .2 * strands + .13 * fine + .12 * look.light_x * np.clip(across, -1, 1)
    ring = np.hypot(canvas.x / 50, (canvas.y + 6) / 58)
    shine = np.exp(-((ring - .9 - .03 * fine) / .1) ** 2) * cover(10 - canvas.y, 40)
    shine = shine + .5 * blob(canvas.side, canvas.y, 52, 30, 8, 26)
    shine = shine * (.55 + .45 * strands)
    canvas.paint(alpha, planes(colour) * tone + shine * (.09 + .22 * planes(colour)))


def draw_front_hair(canvas, has, look, hair, outline):
    """The hair around the face: hairline or fringe, and what falls beside the cheeks."""
    distance, across = outline
    if has['Male']:
        frame, _ = arch(canvas.x, canvas.y, 45 * look.width, -58, -2)
        # The hair is combed away from the parting, where the forehead is highest.
        hairline = -34 + .004 * canvas.x ** 2 - 5 * np.exp(-((canvas.x - look.parting) / 9) ** 2)
        if has['Receding_Hairline']:
            hairline = hairline - 4 - 11 * np.exp(-((canvas.side - 23) / 11) ** 2)
    else:
        frame, _ = arch(canvas.x - look.parting * np.clip((-8 - canvas.y) / 30, 0, 1), canvas.y,
                        41 - 5 * cover(canvas.y - 42, 40), -40, 0)
        hairline = -60
    if has['Bangs']:
        hairline = -20.5 + look.fringe - .0035 * canvas.x ** 2
        frame, _ = arch(canvas.x, canvas.y, 42, -60, 0)
    tips = strand_noise(look, 1, 60 + across * 22)
    opening = np.minimum(frame, canvas.y - hairline + (2.4 if has['Bangs'] else 1.3) * tips)
    length = cover(2 - canvas.y, 12) if has['Male'] else 1
    near = cover(4.5 - opening, 9) * cover(canvas.rim) * cover(distance) * length
    canvas.glaze(near * .5, SHADOW * .85)
    alpha = cover(distance, 1.5) * cover(-opening, 1.3) * length
    paint_hair(canvas, look, alpha, across, hair)
    canvas.glaze(alpha * cover(-opening - 10, 16) * cover(canvas.y + 5, 30) * .35, (.5, .45, .45))


def draw_hat(canvas, look):
    """A knitted hat with a folded band, or a felt hat with a brim and a ribbon."""
    part = canvas.window(-76, -90, 76, -14)
    colour = hue_colour(look.hat_hue, .6, .55)
    knitted = look.hat_style < .5
    crown, across = arch(part.x, part.y, 53 if knitted else 46, -84 if knitted else -78, -20)
    low = part.y + 27 - (.0035 if knitted else .002) * part.side ** 2  # > 0 below the hat
    band = cover(low + 15)
    part.glaze(cover(7 - low, 10) * cover(part.rim) * .7, SHADOW * .75)
    light = .95 + .3 * look.light_x * across - .35 * across ** 2
    inside = cover(np.minimum(crown, -low))
    if knitted:
        ribs = .1 * np.sin(across * 42) + .08 * np.sin(part.y * 1.4 + 2 * np.sin(across * 42))
        part.paint(inside, planes(colour) * (light + ribs))
        rib = cover(np.minimum(crown + 2.5, -low)) * band
        part.paint(rib, planes(colour * .8 + .12) * (light + .14 * np.sin(across * 50)))
        part.glaze(inside * cover(2 - np.abs(low + 15), 3) * .5, (.5, .5, .5))
        return
    part.paint(inside, planes(colour) * light)
    part.paint(inside * band, planes(colour * .35) * light)
    brim = 1 - np.hypot(part.x / 71, (part.y + 29 - .0018 * part.side ** 2) / 7.5)
    part.paint(cover(brim * 7.5), planes(colour * .9) * (1.05 - .04 * (part.y + 29)))
    part.glaze(cover(brim * 7.5) * cover(part.y + 27.5, 4) * .3, (.4, .4, .4))


def draw_earrings(canvas, look):
    """Hanging golden rings with a pearl."""
    for part in (canvas.window(-60, 14, -38, 42), canvas.window(38, 14, 60, 42)):
        ring = np.hypot(part.side - 48, part.y - 28)
        part.paint(cover(1.4 - np.abs(ring - 5.5)), (.93, .76, .28))
        pearl = np.hypot(part.side - 48, part.y - 35)
        part.paint(cover(3.4 - pearl), (.95, .93, .9))


def develop(pixels, look):
    """Turn a drawing into a photograph: tint, slight blur and noise; uint8 [218, 178, 3]."""
    warmth = np.array((1 + look.warmth, 1, 1 - look.warmth)) * look.gain
    pixels = pixels * planes(warmth) + look.noise * look.grain
    picture = Image.fromarray(np.uint8(np.clip(pixels, 0, 1).transpose(1, 2, 0) * 255 + .5))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(look.blur)))


def draw_face(attributes, rng):
    """Draw a portrait.

    Args:
        attributes: dict of the 40 names to bool.
        rng: numpy.random.Generator; it is used in the same way whatever the attributes are, so
            that flipping one with an equal `rng` changes only what that attribute means.

    Returns:
        uint8 array [218, 178, 3].
    """
    has, look = attributes, sample_look(rng)
    x, y = face_coordinates(look)
    canvas = Canvas(np.empty([3, HEIGHT, WIDTH], np.float32), x, y, head_rim(x, y, has, look))
    skin, hair = skin_colour(has, look), hair_colour(has, look)
    # Brows and beard stand out from any skin.
    brow = (hair * (.6, .53, .5) + .01) * np.clip(1.8 * skin.mean() - .27, .25, 1)
    outline = hair_outline(canvas, has, look) if has_hair(has) else None
    draw_background(canvas, look)
    if outline and not has['Male']:
        paint_hair(canvas, look, cover(outline[0], 1.5), outline[1], hair * .6)
    draw_body(canvas, has, look, skin)
    draw_head(canvas, has, look, skin)
    draw_nose(canvas, look)
    if not has['Young']:
        draw_age(canvas, look)
    draw_eyes(canvas, has, look)
    draw_brows(canvas, has, look, brow)
    draw_beard(canvas, has, look, brow)
    draw_mouth(canvas, has, look, skin)
    if has['Eyeglasses']:
        draw_glasses(canvas, look)
    if outline:
        draw_front_hair(canvas, has, look, hair, outline)
    if has['Wearing_Earrings']:
        draw_earrings(canvas, look)
    if has['Wearing_Hat']:
        draw_hat(canvas, look)
    return develop(canvas.pixels, look)
