"""Numbers, spans and log lines, all driven by the outcome."""
