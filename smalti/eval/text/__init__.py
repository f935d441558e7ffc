"""Known text on images, and readers of it."""
