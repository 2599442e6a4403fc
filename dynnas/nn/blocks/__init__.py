"""Blocks, one per file: each class makes a module from a `BlockConfig`, and its convolutions run the config's
kernel op.

A block names its convolutions and gives their shapes; `block_router`, `block_conv` and `block_attention` of
`dynnas.nn.layers.layers` make the rest, so that every kernel op and attention works in every block.
"""
