"""Written times ⇄ seconds.

- Of a file: `line_clock` has the clock of a file, which finds the time of each line; `options`: what the user
  says about it. Its parts:
    - `kinds`: the forms that times have, each with its pattern; `formats`: a form that the user gives.
    - `words`: names of months and weekdays; `zones`: names and offsets of time zones; `zone_check`: whether
      words beside the times are such names.
    - `instants`: the parts of a time ▶ seconds; `calendar`: years and days that are not written.
    - `places`: where in a line a time stands, and what it takes of the line.
    - `candidates` and `choice`: which form and place the times of a file have, decided on its first lines.
- Of prompts and printed text: `stamps`.
"""
