"""The file of code in every saved folder. It only names the package."""

STUB = "modeling_liquidlm"
STUB_TEXT = '''"""Where the code of this model is: in the package liquidlm (pip install liquidlm)."""

from liquidlm import *  # noqa: F403
'''
"""A file in every saved folder: through it, the Auto classes find the package if it is not imported yet."""
