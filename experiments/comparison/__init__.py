"""Many runs as processes."""
