"""Typed, frozen settings and where they come from."""
