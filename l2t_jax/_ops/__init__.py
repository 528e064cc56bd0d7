"""Products and sums in forms that are fast on every platform, in every derivative."""
