"""The published frozen graph, which converters of NPUs take: inputs, output, weights as constants.

All float32, for S the img_size:

    input1  [N,S,S,3]    images in [-1,1]
    input2  [N,n_att]    signed target labels (`stgan.attributes`)
    input3  [N,n_att]    signed source labels
    output  [N,S,S,3]    edited images in [-1,1]

Its names are known without TensorFlow, which offline inference does not need.
"""

from stgan import attributes

INPUTS, OUTPUT = ('input1', 'input2', 'input3'), 'output'

# Attributes of these networks' operations that TensorFlow 1.15, and with it converters such as ATC,
# does not know and refuses. All have their default value. Defaults that it knows stay: converters
# may not fill them in.
NEWER_ATTRIBUTES = ('exponential_avg_factor',)


def input_shapes(config, batch_size):
    """Shapes of the three inputs as lists, by name; batch_size None: dynamic."""
    size, labels = config.img_size, [batch_size, config.n_att]
    return dict(zip(INPUTS, ([batch_size, size, size, 3], labels, labels)))


def add_generator(config, batch_size):
    """Add inputs, generator in inference mode and output (see above) to the current graph."""
    from stgan import models  # noqa: PLC0415
    from tflib import tf  # noqa: PLC0415
    image, target, source = (tf.placeholder(tf.float32, shape, name) for name, shape
                             in input_shapes(config, batch_size).items())
    label = attributes.generator_label(config.label, source, target)
    if config.label == 'target':
        # Converters drop inputs that no data flow from; whoever runs the model gives all three.
        label = tf.concat([label, source], axis=1)[:, :config.n_att]
    zs = models.encode(config, image, is_training=False)
    tf.identity(models.decode(config, zs, label, is_training=False), OUTPUT)


def freeze(config, checkpoint_path, batch_size=None):
    """Return the generator as a GraphDef whose weights are constants.

    Args:
        config: the experiment's `RunConfig`.
        checkpoint_path: path prefix of its weights.
        batch_size: N of inputs and output; None: dynamic.
    """
    from stgan.models import GENERATOR_SCOPES  # noqa: PLC0415
    from tflib import checkpoint, tf, utils  # noqa: PLC0415
    with tf.Graph().as_default() as graph:
        add_generator(config, batch_size)
        with utils.session('cpu', graph=graph) as session:
            checkpoint.restore(session, checkpoint_path, tf.global_variables(), GENERATOR_SCOPES)
            network = graph.as_graph_def()
            frozen = tf.graph_util.convert_variables_to_constants(session, network, [OUTPUT])
    # Without it the graph would count as one of the oldest TensorFlow.
    frozen.versions.CopyFrom(network.versions)
    for node in frozen.node:
        for name in NEWER_ATTRIBUTES:
            node.attr.pop(name, None)
    return frozen


def describe(config, batch_size):
    """Print the inputs and outputs of pb."""
    shapes = input_shapes(config, batch_size)
    for name, shape in list(shapes.items()) + [(OUTPUT, shapes[INPUTS[0]])]:
        print(f'{name:<12} float32 [{",".join("N" if n is None else str(n) for n in shape)}]')
    # As ATC wants it; scripts/ascend/offline_inference.sh reads this line.
    shape_list = ';'.join(f'{name}:{",".join("-1" if n is None else str(n) for n in shape)}'
                          for name, shape in shapes.items())
    print(f'input_shape  {shape_list}')
