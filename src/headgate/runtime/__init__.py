"""Supervisor, controller, workers and what they say to each other."""
