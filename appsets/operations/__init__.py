"""Operations on application sets: create, reconcile, roll out."""
