"""The step: from an optimizer's groups to the launches of its backends."""
