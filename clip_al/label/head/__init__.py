"""`ClipClassifier`, a head that starts from the class names: its inputs and its fit."""
