"""The service: builds the parts, starts them, drains and stops them; signals."""
