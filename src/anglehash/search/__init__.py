"""From codes to neighbours."""
