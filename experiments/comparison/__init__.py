"""Many runs, each as a process."""
