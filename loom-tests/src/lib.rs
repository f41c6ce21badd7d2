//! Loom
