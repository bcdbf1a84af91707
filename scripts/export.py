"""Export an experiment's generator for inference.

--format writes, checked against the checkpoint:

    pb          frozen TensorFlow graph, for the converters of NPUs
    savedmodel  for TensorFlow Serving, TensorFlow 1 and 2
    onnx        for ONNX Runtime and the like; onnx-fp16: half as large
    tflite      for TensorFlow Lite (LiteRT)
    web         a page that edits photos in a browser, without a server
    ckpt        an experiment folder for test.py and Editor, with a slim
                checkpoint: the generator's weights alone

docs/export.md has inputs and outputs, and clients. Those of pb, all float32, for S the img_size:

    input1  [N,S,S,3]    images in [-1,1]
    input2  [N,n_att]    signed target labels: -thres_int off, thres_int on,
                         both times the intensity
    input3  [N,n_att]    signed source labels
    output  [N,S,S,3]    edited images in [-1,1]

Examples:
    python scripts/export.py --experiment_name 128
    python scripts/export.py --experiment_name 128 --batch_size 1
    python scripts/export.py --experiment_name 128 --format onnx
    python scripts/export.py --experiment_name 128 --format ckpt \\
        --output models/128
"""

if not __package__:
    import _checkout

from pylib import ArgumentParser, run_command
from stgan.config import EXPERIMENT, experiment_folder, load_config

FORMATS = ('pb', 'savedmodel', 'onnx', 'onnx-fp16', 'tflite', 'web', 'ckpt')


def parse():
    """Return the parsed and checked command line."""
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--experiment_name', required=True, help=EXPERIMENT)
    add('--format', choices=FORMATS, default='pb', help='what to write, see above')
    add('--output', metavar='PATH', help='file or folder to write; default: one named after the '
        'experiment, in its folder')
    add('--inputs', choices=('difference', 'labels'), help='of onnx and tflite: image and '
        'difference, or image, source and target; default: what the generator is told')
    add('--batch_size', type=int, help='of pb: fixed number of images, as NPUs want; default: any '
        'number')
    add('--runtime', metavar='DIR', default='', help='of web: folder of the npm package '
        'onnxruntime-web; default: node_modules/onnxruntime-web')
    args = parser.parse_args()
    if args.batch_size is not None and args.batch_size < 1:
        parser.error(f'--batch_size {args.batch_size}: expected at least 1')
    for flag, formats in (('batch_size', ('pb',)), ('runtime', ('web',)),
                          ('inputs', ('onnx', 'onnx-fp16', 'tflite'))):
        if getattr(args, flag) and args.format not in formats:
            parser.error(f'--{flag}: has no effect with --format {args.format}')
    return args


def main():
    args = parse()
    folder = experiment_folder(args.experiment_name)
    config, _ = load_config(folder)

    from stgan import export_runs
    export_runs.run(folder, config, args.format, args.output, args.inputs, args.batch_size,
                    args.runtime)


if __name__ == '__main__':
    run_command(main)
