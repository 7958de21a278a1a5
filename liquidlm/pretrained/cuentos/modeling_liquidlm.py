"""Where the code of this model is: in the package liquidlm (pip install liquidlm)."""

from liquidlm import *  # noqa: F403
