"""A `Spec` and where its root is become a launch plan.  No images, no networks, no engine state."""
