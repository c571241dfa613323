//! The `polluxd` binary.

fn main() {}
