//! The library that `pollux ipvs` preloads into `ipvsadm` and `keepalived`, so that they speak to polluxd.
//!
//! ```text
//! ipvsadm ──► libnl ──► socket(AF_NETLINK, NETLINK_GENERIC) ──► this ──► <run-dir>/ipvs.sock ──► polluxd
//! ```
//!
//! It is written in C (`c/`), because it stands where the C library stands: it defines `socket`, `sendmsg`, `open` and a
//! few others. `link.c` connects to polluxd, `netlink.c` makes such a connection look like a netlink socket,
//! `reasons.c` prints why polluxd refused what Pollux does not have, `files.c` gives the files of `/proc` that IPVS would
//! have. It knows nothing of IPVS: messages pass as they are, and what they mean is polluxd's business.

/// The shared library, an ELF file for the machine that Pollux was built for.
pub const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pollux-ipvs.so"));

#[cfg(test)]
mod tests {
    use super::LIBRARY;

    #[test]
    fn it_is_a_shared_library() {
        assert!(LIBRARY.starts_with(b"\x7fELF"));
        // e_type of the header: 3 is ET_DYN.
        assert_eq!(LIBRARY.get(16..18), Some(&3_u16.to_ne_bytes()[..]));
    }
}
