"""What a run leaves on disk: its record, its checkpoints, and both as files for other programs."""

from edgescope.store.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint
from edgescope.store.export import export
from edgescope.store.packing import pack_state, unpack_state
from edgescope.store.record import Record
from edgescope.store.rng import rng_state, set_rng_state

__all__ = [
    "Checkpoint",
    "Record",
    "export",
    "latest_checkpoint",
    "load_checkpoint",
    "pack_state",
    "rng_state",
    "save_checkpoint",
    "set_rng_state",
    "unpack_state",
]
