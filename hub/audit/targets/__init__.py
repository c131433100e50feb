"""Where sealed events of the audit trail are forwarded to, one module for each kind of target."""
