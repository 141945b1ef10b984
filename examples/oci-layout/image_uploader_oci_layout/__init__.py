"""A target for image-uploader: one OCI image layout for each repository."""
