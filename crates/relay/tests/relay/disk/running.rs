//! A whole relay on a disk that fails.
