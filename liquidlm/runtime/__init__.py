"""The process and its machine.

- Files: `files` and `folders`, written whole or not at all; `staging` is how, `checksums` checks them,
  `write_errors` names what went wrong.
- Memory: `memory` measures it, `allocator` keeps it, `offload` fetches weights that are elsewhere.
- Numbers: `precision` chooses devices and types, `traced` asks about data in graphs that are compiled.
- Programs: `startup`, `signals`, `streams`.
- Settings: `validation`.
"""
