"""Rate limits and budgets: what is allowed (`rules`), who counts (`memory` and others), who asks (`limiter`)."""
