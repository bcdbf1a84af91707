"""Stands for the adapter's main package; npu_bridge alone has the two loss-scale modules."""

import os

if __name__.startswith('npu_bridge'):
    __path__.append(os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                 '..', '..', '..', 'tf1_only'))
