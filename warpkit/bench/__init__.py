"""What it costs: times and memory of matching, extraction and propagation, as ratios in one run.

Nothing else imports it but the command line.
"""
