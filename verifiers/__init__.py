"""Built-in verifiers: ordinary plug-ins, installed as `flywheel.verifiers`."""
