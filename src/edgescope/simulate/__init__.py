"""Compiled simulations of small models, many replicas at a time; one file for each kind of model."""
