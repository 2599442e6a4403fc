"""Conversion to NCNN, and networks that run by it."""
