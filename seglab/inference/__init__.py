"""Photos in, masks and cutouts out."""
