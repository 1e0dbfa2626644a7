"""What the core itself registers, through the same door as a stranger's plugin."""
