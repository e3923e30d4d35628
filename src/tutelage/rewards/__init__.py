"""What can score an answer: reward models and Python functions."""
