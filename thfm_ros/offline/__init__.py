"""Whole recordings, videos or bags, through the estimator: what reads them, and what is made of the results."""
