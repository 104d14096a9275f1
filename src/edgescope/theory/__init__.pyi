from . import deep_linear as deep_linear
from . import diagonal as diagonal
from . import reduced_rank as reduced_rank
from . import relu as relu
