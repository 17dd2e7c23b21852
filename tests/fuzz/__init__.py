"""Fuzzing of everything that reads files or values of a user; ``make fuzz`` runs it."""
