"""Circuits, architectures and figures as pictures."""
