"""Concrete networks of space files as frozen values, and the template that makes them from genes."""
