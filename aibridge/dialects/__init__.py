"""What events mean, per API."""
