"""What happens to application sets: create, reconcile, roll out."""
