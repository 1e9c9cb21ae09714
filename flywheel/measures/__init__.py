"""What is measured of a model, one idea a module, each a pure function; docs/metrics.md has the table of them.

`flywheel.evaluate` puts them together into `metrics.json`. A measure that does not apply is None, never 0.
"""
