//! The Pollux data plane process; all of it is in the library beside this file.

fn main() {}
