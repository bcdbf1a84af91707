"""Stands for the settings of an NPU estimator, of which plain sessions use none."""


class DumpConfig:
    def __init__(self, enable_dump=False, dump_path=None, dump_step=None, dump_mode='output',
                 enable_dump_debug=False, dump_debug_mode='all', dump_data='tensor',
                 dump_layer=None):
        self.__dict__.update({f'_{name}': value for name, value in locals().items()
                              if name != 'self'})
