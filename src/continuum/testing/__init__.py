"""For authors of plug-ins: contract tests to inherit, and what they need."""
