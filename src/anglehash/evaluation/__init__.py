"""From neighbours and labels to numbers: pure functions on arrays, no torch."""
