"""Edgescope: measures and explains neural-network training at the edge of stability."""
