"""Active checks, run once per machine by the supervisor."""
