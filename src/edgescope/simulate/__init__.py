"""Compiled long runs of small models, many replicas side by side: one file a model."""
