//! The binary: hands over to `cli` and refuses to do anything itself.

fn main() {}
