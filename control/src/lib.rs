//! polluxd, the control daemon, and pollux, its command line.
