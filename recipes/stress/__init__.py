"""What `recipes/stress/expand.py` damages and kills."""
