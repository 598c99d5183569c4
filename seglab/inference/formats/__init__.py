"""Forms of answers that are more than a picture."""
