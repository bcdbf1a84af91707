"""Report a training run in ModelZoo's form: result lines, `<CaseName>.log` and a list of losses.

The run scripts call it; the experiment's name is the case name. Figures are read by their names,
from the files that the commands leave in the experiment folder.
"""

import os
import platform
from collections import OrderedDict

import numpy as np

if not __package__:
    import _checkout

from pylib import (
    ArgumentParser,
    UserError,
    read_json,
    read_json_lines,
    run_command,
    write_text,
)
from stgan.config import load_config


def measured(config, seconds):
    """{label of ModelZoo's result file: value} of a finished run.

    Args:
        seconds: how long the training command took.

    Raises:
        UserError: nothing was trained.
    """
    path = os.path.join(config.folder, 'metrics.jsonl')
    records = read_json_lines(path)
    if not records:
        raise UserError(f'{path}: no iteration logged; train first')
    # The median, as the first iteration waits for the graph to be compiled.
    iteration = float(np.median([record['seconds'] for record in records]))
    ranks = int(os.environ.get('RANK_SIZE', '1'))
    images = ranks * config.batch_size * (config.n_d + 1)
    values = OrderedDict([
        ('Network', 'STGAN'), ('RankSize', ranks),
        ('BatchSize', config.batch_size), ('DeviceType', platform.machine()),
        ('CaseName', config.experiment_name), ('ActualFPS', f'{images / iteration:.2f}'),
        ('TrainingTime', f'{iteration:.4f}')])
    accuracy = os.path.join(config.folder, 'attribute_accuracy.json')
    if os.path.exists(accuracy):
        values['TrainAccuracy'] = f'{read_json(accuracy)["mean_accuracy"]:.4f}'
    values['ActualLoss'] = f'{records[-1]["d_loss"]:.8f}'
    values['E2ETrainingTime'] = seconds
    return values


def print_result(config, values):
    """Print the lines that ModelZoo's users look for."""
    print('------------------ Final result ------------------')
    print(f'Final Performance images/sec : {values["ActualFPS"]}')
    print(f'Final Performance sec/step : {values["TrainingTime"]}')
    if 'TrainAccuracy' in values:
        print(f'Final Train Accuracy : {values["TrainAccuracy"]}')
    quality = os.path.join(config.folder, 'psnr_ssim.json')
    if os.path.exists(quality):
        found = read_json(quality)
        print(f'Final PSNR : {found["psnr"]:.2f}')
        print(f'Final SSIM : {found["ssim"]:.4f}')
    print(f'E2E Training Duration sec : {values["E2ETrainingTime"]}')


def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('--experiment_name', required=True, help='name of the folder below output/')
    parser.add_argument('--output_dir', required=True, help='folder of the result files')
    parser.add_argument('--seconds', type=int, required=True, help='duration of the training')
    args = parser.parse_args()
    config, _ = load_config(os.path.join('output', args.experiment_name))
    values = measured(config, args.seconds)
    losses = [f'{record["d_loss"]:.8f}'
              for record in read_json_lines(os.path.join(config.folder, 'metrics.jsonl'))]
    for name, lines in ((f'{config.experiment_name}.log',
                         [f'{label} = {value}' for label, value in values.items()]),
                        (f'train_{config.experiment_name}_loss.txt', losses)):
        write_text(os.path.join(args.output_dir, name), '\n'.join(lines) + '\n')
    print_result(config, values)


if __name__ == '__main__':
    run_command(main)
