"""Diagnose a run from its config and history only."""
