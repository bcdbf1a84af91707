"""Stands for the adapter's estimator package, which holds much more than estimators."""
