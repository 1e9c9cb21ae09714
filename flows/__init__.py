"""Prefect flows: the only part of flywheel that imports Prefect. Installed as `flywheel.flows`."""
