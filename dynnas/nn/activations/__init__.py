"""Activations, one family per file: each class makes a module from the number of channels.

`dynnas.nn.layers.layers.activation` puts the activation's name into the path of its parameters, so
that no other activation shares them.
"""
