"""Open, create and save Hugging Face models; reward and value heads."""
