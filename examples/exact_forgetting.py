"""Exact forgetting: after it, a classifier equals one that never saw the examples.

python examples/exact_forgetting.py
"""

import numpy as np
from sklearn.datasets import load_digits

from bruno import BrunoClassifier

x, y = load_digits(return_X_y=True)
public, theirs, test = np.split(np.arange(len(x)), [800, 850])

# The parameters of the model come from data that may stay; whatever may have to be forgotten is
# given to partial_fit only, which changes the evidence of classes and nothing else.
fitted = BrunoClassifier(temperature=1.0, random_state=0).fit(x[public], y[public])
never = fitted.predict_log_proba(x[test])

fitted.partial_fit(x[theirs], y[theirs])
with_them = fitted.predict_log_proba(x[test])
fitted.forget(x[theirs], y[theirs])
after = fitted.predict_log_proba(x[test])

print(f"50 examples change log-probabilities by up to {np.abs(with_them - never).max():.1f} nats")
print(f"after forgetting they are as before, up to {np.abs(after - never).max():.0e} nats")

# A class that was never seen before disappears with its last example.
classes = fitted.classes_
fitted.partial_fit(x[:2], np.array([99, 99]))
fitted.forget(x[:2], np.array([99, 99]))
print(f"classes as before: {np.array_equal(fitted.classes_, classes)}")

# What was never given cannot be taken away, as far as count, mean and scatter exclude it.
fitted.partial_fit(x[:2], np.array([99, 99]))
try:
    fitted.forget(x[test[:1]], np.array([99]))
except ValueError as error:
    print(f"refused: {str(error)[:70]} …")
