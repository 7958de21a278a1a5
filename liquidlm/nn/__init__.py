"""Modules that are usable alone; sizes are plain integers, state goes in and comes out."""
