"""Attentions over the feature maps of a block, one per file: modules made from the number of channels."""
