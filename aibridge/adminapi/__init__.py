"""The admin API and the dashboard's files: what an operator asks a gateway that runs, over HTTP and with a key."""
