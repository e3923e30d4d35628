"""Win rate, reward accuracy and calibration, the KL frontier, and the report."""
