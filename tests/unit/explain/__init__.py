"""What explains where a request goes."""
