"""Who may do what: capabilities of roles, passwords, tokens."""
