"""Layers that choose a part of what they are given: places of an image, patches, frames."""
