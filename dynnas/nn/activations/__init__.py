"""Activations, one family per file: a module made from the number of channels.

`dynnas.nn.layers.layers.activation` puts the activation's name into the path of its parameters, so
that no other activation shares them.
"""
