"""The parts of the model, each usable alone.

Sizes are plain integers. A state is passed in and returned, never kept on a module.

- `timestamps.py`, `events.py`: times become gaps.
- `cells/decay.py`: a gap becomes a decay.
- `cells/`: neurons, time cell and mixers over events.
- `embedding.py`, `flows/`, `ode.py`: token ids become vectors.
- `state.py`: what is remembered between calls.
- `time_head.py`: when the next token comes.
"""
