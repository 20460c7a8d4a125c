"""Sweeps: many runs of a notebook at different parameters, here or on a cluster."""
