"""One loss per task; what is unlabelled gives no gradient."""
