"""The only place that reads arguments, prints, or exits."""
