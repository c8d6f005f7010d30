//! Configuration files: fixtures, and the files in `config/`.
