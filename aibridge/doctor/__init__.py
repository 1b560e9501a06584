"""What `aibridge doctor` looks at, one by one: the house itself, and each upstream. It changes nothing."""
