"""What `recipes/stress_expand.py` damages and kills."""
