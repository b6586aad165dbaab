"""Hidden checks, corpus and calibration of lab 4, knowledge distillation."""
