"""Objectives, Pareto fronts, hypervolume and the importance of genes."""
