"""Attentions over the feature maps of a block, one per file: a module made from the number of channels."""
