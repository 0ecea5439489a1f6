"""The rows of the matrix, by concern."""
