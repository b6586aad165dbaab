"""Probes and public checks of lab 4, knowledge distillation."""
