"""Tool servers: whose tools the gateway offers to models, and runs. See docs/decisions/0024."""
