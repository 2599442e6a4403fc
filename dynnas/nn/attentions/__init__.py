"""Attentions over the feature maps of a block, one per file: each class makes a module from the number of
channels.
"""
