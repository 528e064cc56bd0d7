"""The published figures, and their replay."""
