"""What serves a trained network without this project: a program, and the files around it."""
