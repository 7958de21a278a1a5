"""The process and its machine: files, streams, signals, devices, precision, memory."""
