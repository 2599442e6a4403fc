"""Blocks, one per file: modules made from a `BlockConfig`, whose convolutions run its kernel op.

A block names its convolutions and gives their shapes; `block_router`, `block_conv` and `block_attention` of
`dynnas.nn.layers.layers` make the rest, so that every kernel op and attention works in every block.
"""
