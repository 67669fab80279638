//! The pipeline from settings to batch, without a host.
