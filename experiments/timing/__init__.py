"""What the benchmark compiles and times."""
