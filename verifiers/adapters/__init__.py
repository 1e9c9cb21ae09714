"""Adapters: other projects' reward functions and scorers as verifiers. Each is a plug-in under its own name.

`trl`, `verl`, `rubric`, `reasoning_gym`, `inspect_ai` and `lm_eval`. None of these libraries is needed unless the
function that is named needs it.
"""
