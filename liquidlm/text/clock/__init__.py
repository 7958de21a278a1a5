"""The parts of a `LineClock`: how the time of a line is written, where it stands, and how it is converted.

- `words`: names of months and weekdays; `zones`: names and offsets of time zones.
- `kinds`: the forms that times have, each with its pattern; `formats`: a form that the user gives.
- `instants`: the parts of a time ▶ seconds; `calendar`: years and days that are not written.
- `places`: where in a line a time stands, and what it takes of the line.
- `candidates` and `choice`: which form and place the times of a file have, decided on its first lines.
"""
