"""Networks by name, their trained weights, and pairs of their layers."""
