"""Questions of checks and answers of submissions: messages, their schema, their transport, failures."""
