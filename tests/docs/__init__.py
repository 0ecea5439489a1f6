"""The documentation is run: every command on a page, in order, and every configuration."""
