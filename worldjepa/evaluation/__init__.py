"""What was learnt: goal reaching, probes, geometry, and their figures."""
