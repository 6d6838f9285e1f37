"""What all sinks on object stores share: names, listings, parts, moves; a service supplies a `Store`."""
