"""How good a segmentation is: one confusion matrix, and everything that follows from it."""
