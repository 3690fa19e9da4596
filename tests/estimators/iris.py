"""Irises, and a classifier that has seen half of them."""

from sklearn.datasets import load_iris

from bruno import BrunoClassifier

X, Y = load_iris(return_X_y=True)


def fitted(**parameters):
    return BrunoClassifier(random_state=0, **parameters).fit(X[::2], Y[::2])
