"""`vsr eval`: models measured against original pictures."""
