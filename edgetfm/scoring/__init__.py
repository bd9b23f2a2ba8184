"""Labelled data and the task's own metric, beside the distance from fp32."""
