"""Webhooks of Git hosts and image registries, one module for each family of senders.

A new sender is a module here and its entry in `projects.webhooks.senders`; its secret is a setting
in `hub/settings.py`.
"""
