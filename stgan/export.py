"""Trained generators for inference elsewhere: files and folders that need nothing of this project.

The graph is `stgan/fast.py`'s, its weights constants. Inputs and output by name, all float32, for N
images of S x S pixels and E edits of each:

    image       [N,S,S,3]    in [-1,1]
    difference  [N,E,n_att]  target label minus source label, both signed (`stgan.attributes`)
    edited      [N,E,S,S,3]  in [-1,1]

or, instead of `difference`, `source` [N,n_att] and `target` [N,E,n_att], the labels themselves.
"""

import base64
import json
import os
import shutil
import warnings
import zipfile
from collections import OrderedDict
from importlib import import_module

import numpy as np

import stgan
from pylib import RunFailed, UserError, write_json, write_text
from stgan import fast
from stgan.config import CHECKPOINTS
from stgan.editing import EditGraph
from stgan.models import GENERATOR_SCOPES
from tflib import checkpoint, quiet_native_code, tf, utils

# Largest difference to the checkpoint's own edits that a written format may show.
LIMITS = {'pb': 1e-5, 'savedmodel': 1e-5, 'onnx': 1e-5, 'onnx-fp16': 5e-3, 'tflite': 1e-4,
          'web': 1e-5, 'ckpt': 1e-5}
INPUTS = {'difference': ('image', 'difference'), 'labels': ('image', 'source', 'target')}
OUTPUT = 'edited'
METADATA = 'metadata.json'
# Of npm's onnxruntime-web: the interface, and what it loads.
WEB_RUNTIME = ('ort.wasm.min.js', 'ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm')
OPSET = 13    # what TensorFlow 1.15 can be converted to and onnxruntime for Python 3.7 runs
DIMENSIONS = {'image': ['N'], 'source': ['N'], 'target': ['N', 'E'], 'difference': ['N', 'E'],
              OUTPUT: ['N', 'E']}


class Example:
    """Random edits, and what a checkpoint makes of them by the plain graph of `models.py`.

    Args:
        config: the experiment's `RunConfig`; checkpoint_path: path prefix of its weights.

    Attributes:
        feeds: {name: array} of image, source, target and difference, for 2 images and 3 edits.
        edited: float32 [2,3,S,S,3].

    Raises:
        UserError: the checkpoint does not fit.
    """

    def __init__(self, config, checkpoint_path):
        random, size = np.random.RandomState(0), config.img_size
        image = random.uniform(-1, 1, [2, size, size, 3]).astype(np.float32)
        source, target = (random.uniform(-1, 1, shape + [config.n_att]).astype(np.float32)
                          for shape in ([2], [2, 3]))
        self.feeds = {'image': image, 'source': source, 'target': target,
                      'difference': target - source[:, np.newaxis]}
        with tf.Graph().as_default(), utils.session('cpu', optimize=False) as session:
            graph = EditGraph(config)
            checkpoint.restore(session, checkpoint_path, tf.global_variables(), GENERATOR_SCOPES)
            self.edited = graph.run(session, image, target, source)

    def error(self, run, *names):
        """Largest difference of what `run` returns for the inputs of those names."""
        edited = run({name: self.feeds[name] for name in names})
        return float(np.abs(np.asarray(edited, np.float32) - self.edited).max())


def check(format_, errors):
    """Return the largest of some errors if a format may show it, else raise a RunFailed."""
    error = float(np.max(errors))    # NaN stays NaN
    if not error <= LIMITS[format_]:
        raise RunFailed(f'--format {format_}: the export differs from the checkpoint by '
                        f'{error:.1e}, more than {LIMITS[format_]:g}, so it was not kept; take '
                        'another format')
    return error


def inputs_of(config, wanted=None):
    """'difference' or 'labels': how an export is told what to edit.

    Args:
        wanted: None: what the generator is told.

    Raises:
        UserError: the generator is told target labels, so a difference does not say enough.
    """
    if wanted == 'difference' and config.label != 'diff':
        raise UserError('--inputs difference: this experiment\'s generator is told target labels; '
                        'take --inputs labels')
    return wanted or ('difference' if config.label == 'diff' else 'labels')


def metadata(config, checkpoint_path, inputs):
    """What whoever runs an export has to know, as JSON values."""
    return OrderedDict(
        attributes=list(config.atts), img_size=config.img_size, thres_int=config.thres_int,
        inputs=list(INPUTS[inputs]), output=OUTPUT, range=[-1, 1], label=config.label,
        experiment=config.experiment_name, checkpoint=os.path.basename(checkpoint_path),
        weights=checkpoint.fingerprint(checkpoint_path), version=stgan.__version__)


def package(name, format_):
    """The module of that name, an extra's.

    Raises:
        UserError: it is not installed, or broken.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"--format {format_}: needs {name} ({error}); pip install -e '.[export]'"
                        ) from None


def write_slim(folder, config, checkpoint_path, example):
    """Make an experiment folder that holds what editing needs: setting.txt and G's weights.

    Returns:
        the largest error, as do all writers that follow.
    """
    with tf.Graph().as_default(), utils.session('cpu') as session:
        EditGraph(config)
        checkpoint.restore(session, checkpoint_path, tf.global_variables(), GENERATOR_SCOPES)
        checkpoints = checkpoint.Checkpoints(os.path.join(folder, CHECKPOINTS), keep=1)
        config.save(folder)
        saved = checkpoints.save(session, os.path.basename(checkpoint_path))
    return check('ckpt', example.error(lambda feeds: Example(config, saved).edited))


def _told(config, inputs):
    """What the generator is told, [N,E,n_att], of placeholders; see the module.

    'both' makes a difference that may be left out.
    """
    shape = [None, None, config.n_att]
    if inputs == 'difference':
        return tf.placeholder(tf.float32, shape, 'difference')
    source = tf.placeholder(tf.float32, [None, config.n_att], 'source')[:, tf.newaxis]
    target = tf.placeholder(tf.float32, shape, 'target')
    if config.label == 'target':
        return target + 0. * source    # as converters drop inputs that nothing is computed of
    if inputs == 'labels':
        return target - source
    return tf.placeholder_with_default(target - source, shape, 'difference')


def frozen(config, checkpoint_path, inputs):
    """The arranged generator as a GraphDef with constants, its tensors named as in the module."""
    size = config.img_size
    with tf.Graph().as_default() as graph:
        generator = fast.FastGenerator(config, checkpoint.tensors(checkpoint_path,
                                                                  GENERATOR_SCOPES))
        image = tf.placeholder(tf.float32, [None, size, size, 3], 'image')
        told = _told(config, inputs)
        edited = generator.edit(generator.features(image), told)
        tf.reshape(edited, [-1, tf.shape(told)[1], size, size, 3], OUTPUT)
        return _with_constants(graph, [OUTPUT])


def frozen_parts(config, checkpoint_path):
    """Encoder and decoder as GraphDefs: image -> feature0 .., and these with a label -> edited.

    Returns:
        (encoder, decoder, names of the features, name of the label).
    """
    size = config.img_size
    with tf.Graph().as_default() as graph:
        generator = fast.FastGenerator(config, checkpoint.tensors(checkpoint_path,
                                                                  GENERATOR_SCOPES))
        image = tf.placeholder(tf.float32, [None, size, size, 3], 'image')
        features = generator.features(image)
        names = [f'feature{i}' for i in range(len(features))]
        for name, feature in zip(names, features):
            tf.identity(feature, name)
        encoder = _with_constants(graph, names)
    with tf.Graph().as_default() as graph:
        generator = fast.FastGenerator(config, checkpoint.tensors(checkpoint_path,
                                                                  GENERATOR_SCOPES))
        given = [tf.placeholder(tf.float32, feature.shape, name)
                 for name, feature in zip(names, features)]
        label = 'difference' if config.label == 'diff' else 'target'
        told = tf.placeholder(tf.float32, [None, None, config.n_att], label)
        edited = generator.edit(given, told)
        tf.reshape(edited, [-1, tf.shape(told)[1], size, size, 3], OUTPUT)
        return encoder, _with_constants(graph, [OUTPUT]), names, label


def _with_constants(graph, outputs):
    with utils.session('cpu', graph=graph) as session:
        session.run(tf.local_variables_initializer())
        return tf.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), outputs)


def run_graph(definition, output, feeds):
    """The output of a GraphDef for {tensor name: array}."""
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name='')
        with utils.session('cpu', graph=graph, optimize=False) as session:
            return session.run(output, feeds)


def write_saved_model(folder, config, checkpoint_path, example):
    """Write a SavedModel into a folder: one signature for each way to tell what to edit.

    `serving_default` is what the generator is told, `labels` takes source and target. What the
    metadata say is in assets.extra/, which loaders leave alone.
    """
    default = inputs_of(config)
    signatures = OrderedDict(serving_default=INPUTS[default], labels=INPUTS['labels'])
    definition = frozen(config, checkpoint_path, 'both')
    tag = tf.saved_model.tag_constants.SERVING

    def about(name):
        return tf.saved_model.utils.build_tensor_info(graph.get_tensor_by_name(f'{name}:0'))
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name='')
        builder = tf.saved_model.Builder(folder)
        with utils.session('cpu', graph=graph) as session:
            builder.add_meta_graph_and_variables(session, [tag], {
                key: tf.saved_model.build_signature_def(
                    {name: about(name) for name in names}, {OUTPUT: about(OUTPUT)},
                    tf.saved_model.signature_constants.PREDICT_METHOD_NAME)
                for key, names in signatures.items()})
            builder.save()
    write_json(os.path.join(folder, 'assets.extra', METADATA),
               metadata(config, checkpoint_path, default))
    with tf.Graph().as_default() as graph, utils.session('cpu', graph=graph) as session:
        loaded = tf.saved_model.load(session, [tag], folder).signature_def

        def runner(key):
            signature = loaded[key]
            return lambda feeds: session.run(signature.outputs[OUTPUT].name, {
                signature.inputs[name].name: value for name, value in feeds.items()})
        return check('savedmodel', [example.error(runner(key), *names)
                                    for key, names in signatures.items()])


def onnx_model(definition, inputs, outputs, format_):
    """A GraphDef as an ONNX model with plain names and named dynamic dimensions."""
    convert = package('tf2onnx.convert', format_)
    names = [f'{name}:0' for name in (*inputs, *outputs)]
    with quiet_native_code():
        model, _ = convert.from_graph_def(
            definition, input_names=names[:len(inputs)], output_names=names[len(inputs):],
            opset=OPSET, tensors_to_rename={name: name[:-2] for name in names})
    for value in (*model.graph.input, *model.graph.output):
        for place, name in enumerate(DIMENSIONS.get(value.name, ['N'])):
            value.type.tensor_type.shape.dim[place].dim_param = name
    return model


def _onnx_runner(path, format_):
    """A function ({name: array}) that runs an ONNX file; a list of its outputs comes back."""
    runtime = package('onnxruntime', format_)
    options = runtime.SessionOptions()
    options.log_severity_level = 3    # errors
    session = runtime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    return lambda feeds: session.run(None, feeds)


def write_onnx(path, config, checkpoint_path, example, inputs=None, half=False):
    """Write an ONNX file.

    Args:
        inputs: 'difference' or 'labels'; half: compute in float16; inputs and output stay float32.
    """
    format_ = 'onnx-fp16' if half else 'onnx'
    onnx, inputs = package('onnx', format_), inputs_of(config, inputs)
    package('onnxruntime', format_)    # before the long work
    definition = frozen(config, checkpoint_path, inputs)
    model = onnx_model(definition, INPUTS[inputs], [OUTPUT], format_)
    if half:
        float16 = package('onnxruntime.transformers.float16', format_)
        model = float16.convert_float_to_float16(model, keep_io_types=True)
        # It leaves the new nodes at the end.
        package('onnxruntime.transformers.onnx_model', format_).OnnxModel(model).topological_sort()
    described = metadata(config, checkpoint_path, inputs)
    onnx.helper.set_model_props(model, {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in described.items()})
    onnx.checker.check_model(model)
    with open(path, 'wb') as stream:
        stream.write(model.SerializeToString())
    run = _onnx_runner(path, format_)
    return check(format_, example.error(lambda feeds: run(feeds)[0], *INPUTS[inputs]))


def write_tflite(path, config, checkpoint_path, example, inputs=None):
    """Write a TensorFlow Lite file; the metadata are in a zip archive at its end, as is usual.

    Its shapes are those of one image and one edit until the interpreter is told others.
    """
    if tf.__version__.startswith('1.'):
        raise UserError(f'--format tflite: the converter of TensorFlow {tf.__version__} takes no '
                        'dynamic number of edits; export on TensorFlow 2.15 or later')
    inputs = inputs_of(config, inputs)
    names, definition = INPUTS[inputs], frozen(config, checkpoint_path, inputs)
    with tf.Graph().as_default() as graph, utils.session('cpu', graph=graph) as session:
        tf.import_graph_def(definition, name='')
        tensors = [graph.get_tensor_by_name(f'{name}:0') for name in (*names, OUTPUT)]
        with quiet_native_code():
            content = tf.lite.TFLiteConverter.from_session(session, tensors[:-1],
                                                           tensors[-1:]).convert()
    with open(path, 'wb') as stream:
        stream.write(content)
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr(METADATA, json.dumps(metadata(config, checkpoint_path, inputs)))
    with quiet_native_code(), warnings.catch_warnings():
        # The interpreter's new home, LiteRT, is another package.
        warnings.simplefilter('ignore', UserWarning)
        error = example.error(lambda feeds: _run_tflite(path, feeds), *names)
    return check('tflite', error)


def _run_tflite(path, feeds):
    interpreter = tf.lite.Interpreter(path)
    places = {each['name'].split(':')[0]: each['index'] for each in interpreter.get_input_details()}
    for name, value in feeds.items():
        interpreter.resize_tensor_input(places[name], value.shape)
    interpreter.allocate_tensors()
    for name, value in feeds.items():
        interpreter.set_tensor(places[name], value)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]['index'])


def web_runtime(folder=''):
    """The files of npm's onnxruntime-web that a page needs, as a folder.

    Args:
        folder: of the package; '': where `npm install` in the working directory puts it.

    Raises:
        UserError: it is not there.
    """
    folder = folder or os.path.join('node_modules', 'onnxruntime-web')
    for place in (folder, os.path.join(folder, 'dist')):
        if all(os.path.isfile(os.path.join(place, name)) for name in WEB_RUNTIME):
            return place
    raise UserError(f'--format web: {folder} lacks {" and ".join(WEB_RUNTIME)}; npm install '
                    'onnxruntime-web, or name its folder with --runtime')


def write_web(folder, config, checkpoint_path, example, runtime):
    """Write a page that edits photos in a browser, without a server: open its index.html.

    Everything is in scripts, as browsers let pages of the disk read nothing else.

    Args:
        folder: one that is there; runtime: of `web_runtime`.
    """
    encoder, decoder, names, label = frozen_parts(config, checkpoint_path)
    models = [onnx_model(encoder, ['image'], names, 'web').SerializeToString(),
              onnx_model(decoder, [*names, label], [OUTPUT], 'web').SerializeToString()]
    described = metadata(config, checkpoint_path, inputs_of(config))
    described['inputs'] = ['image', label]
    loader, binary = (os.path.join(runtime, name) for name in WEB_RUNTIME[1:])
    with open(loader, encoding='utf-8') as text, open(binary, 'rb') as stream:
        _write_script(os.path.join(folder, 'runtime.js'), 'RUNTIME', loader=text.read(),
                      binary=_base64(stream.read()))
    _write_script(os.path.join(folder, 'model.js'), 'MODEL', encoder=_base64(models[0]),
                  decoder=_base64(models[1]), **described)
    shutil.copyfile(os.path.join(runtime, WEB_RUNTIME[0]), os.path.join(folder, 'ort.js'))
    for name in ('index.html', 'edit.js'):
        shutil.copyfile(os.path.join(os.path.dirname(__file__), 'web', name),
                        os.path.join(folder, name))
    encode, decode = (_onnx_runner(model, 'web') for model in models)

    def edit(feeds):
        features = dict(zip(names, encode({'image': feeds['image']})))
        told = feeds['difference' if label == 'difference' else 'target']
        return decode({**features, label: told})[0]
    return check('web', example.error(edit, *INPUTS['labels'], 'difference'))


def _base64(content):
    return base64.b64encode(content).decode()


def _write_script(path, name, **values):
    """Write a script that defines a constant."""
    write_text(path, f'const {name} = {json.dumps(values)};\n')
