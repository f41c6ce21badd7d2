//! Sapwood
