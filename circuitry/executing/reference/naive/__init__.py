"""Blocks written out as their equations, token by token, for the reference: slow, and nothing in common with the instruments."""
