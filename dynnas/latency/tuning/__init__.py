"""Measuring the fastest implementation of each dynamic convolution."""
