# The public names: read by type checkers and editors, and by `__init__.py`, which loads each on first use.
from . import (
    cost as cost,
)
from . import (
    data as data,
)
from . import (
    dimension as dimension,
)
from . import (
    errors as errors,
)
from . import (
    figures as figures,
)
from . import (
    flows as flows,
)
from . import (
    geometry as geometry,
)
from . import (
    linalg as linalg,
)
from . import (
    losses as losses,
)
from . import (
    measures as measures,
)
from . import (
    models as models,
)
from . import (
    monitor as monitor,
)
from . import (
    optim as optim,
)
from . import (
    phases as phases,
)
from . import (
    report as report,
)
from . import (
    sharpness as sharpness,
)
from . import (
    simulate as simulate,
)
from . import (
    statistics as statistics,
)
from . import (
    store as store,
)
from . import (
    studies as studies,
)
from . import (
    sweep as sweep,
)
from . import (
    theory as theory,
)
from . import (
    tuning as tuning,
)
from .data import DATA as DATA
from .data import Dataset as Dataset
from .dimension import kaplan_yorke as kaplan_yorke
from .dimension import lyapunov_exponents as lyapunov_exponents
from .dimension import sharpness_dimension as sharpness_dimension
from .flows import CentralFlow as CentralFlow
from .flows import StableFlow as StableFlow
from .flows import TwoPointFlow as TwoPointFlow
from .flows import sharpness_gap as sharpness_gap
from .geometry import GEOMETRIES as GEOMETRIES
from .linalg import (
    Eigenpairs as Eigenpairs,
)
from .linalg import (
    EigenTracker as EigenTracker,
)
from .linalg import (
    Operator as Operator,
)
from .linalg import (
    Spectrum as Spectrum,
)
from .linalg import (
    spectrum as spectrum,
)
from .linalg import (
    top_eigenpairs as top_eigenpairs,
)
from .linalg import (
    trace as trace,
)
from .losses import LOSSES as LOSSES
from .losses import supervised as supervised
from .measures import MEASURES as MEASURES
from .measures import Measure as Measure
from .measures import Moment as Moment
from .measures import Reading as Reading
from .measures import measure as measure
from .models import MODELS as MODELS
from .monitor import Monitor as Monitor
from .monitor import watch as watch
from .objective import Objective as Objective
from .objective import forget_choices as forget_choices
from .optim import OPTIMIZERS as OPTIMIZERS
from .optim import rule_for as rule_for
from .phases import learning_coefficient as learning_coefficient
from .sharpness import batch_sharpness as batch_sharpness
from .sharpness import directional_smoothness as directional_smoothness
from .sharpness import generalized_sharpness as generalized_sharpness
from .sharpness import headroom as headroom
from .store import Record as Record
from .training import SETUPS as SETUPS
from .training import RunConfig as RunConfig
from .training import train as train
from .tuning import LearningRateSuggestion as LearningRateSuggestion
from .tuning import find_lr as find_lr

__version__: str
