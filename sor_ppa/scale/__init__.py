"""Prediction and evaluation over many machines with Ray Data (the extra ``ray``)."""
