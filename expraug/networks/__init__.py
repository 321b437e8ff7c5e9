"""Networks that several rooms use: FER classifiers, identity encoders."""
