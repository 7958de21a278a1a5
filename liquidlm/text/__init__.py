"""Files ▶ documents ▶ tokens ▶ batches.

- Files ▶ documents: `paths` finds them, `corpus` reads them, `utf8` decodes, `cutting` cuts long ones;
  `hub` reads data sets, `builtin` the text inside Python, `json_lines` JSON.
- Text with times: `event_files` reads it as `reading` says. `clock` finds the times of lines and of
  prompts, and writes times; `timeline` decides about times that go back. Records: `json_records`,
  `csv_records`, `record_fields` with `field_names`, `field_values` and `number_times`. `reading_facts`: what
  was found.
- Training and held-out text: `held_out`.
- Text ⇄ ids: `tokenizer`, with its `tokenizer_files`, `tokenizer_training`, `byte_level` and `token_ids`.
- Documents ▶ tokens: `tokenization` into a `token_corpus`, or into a file by `token_cache`; `weighting`.
- Tokens ▶ batches: `batches`.
"""
