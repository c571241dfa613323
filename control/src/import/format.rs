//! What a file is: found out by its lines.

use clap::ValueEnum;

use super::{ipvsadm, keepalived};

/// What can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Rules as `ipvsadm -Sn` prints them, or a script of ipvsadm commands; DPVS's options and dpip, too.
    Ipvsadm,
    /// keepalived.conf, of keepalived or of DPVS; dpvs.conf.
    Keepalived,
}

impl Format {
    /// Of a text; none when it looks like neither.
    pub fn of(text: &str) -> Option<Self> {
        let lines = text.lines().map(str::trim);
        let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
        lines.find_map(|line| {
            if ipvsadm::is_rule(line) {
                Some(Self::Ipvsadm)
            } else if keepalived::opens_block(line) {
                Some(Self::Keepalived)
            } else {
                None
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_lines() {
        for (text, format) in [
            (
                "# rules\n-A -t 198.51.100.1:80 -s rr\n",
                Some(Format::Ipvsadm),
            ),
            (
                "#!/bin/sh\nset -e\nsudo=\n/sbin/ipvsadm -C\n",
                Some(Format::Ipvsadm),
            ),
            ("! x\n\nglobal_defs {\n}\n", Some(Format::Keepalived)),
            ("virtual_server 198.51.100.1 80{", Some(Format::Keepalived)),
            (
                "include /etc/keepalived/conf.d/*\n",
                Some(Format::Keepalived),
            ),
            ("@main net_namespace high\n", Some(Format::Keepalived)),
            ("local_address_group laddr {\n", Some(Format::Keepalived)),
            ("! DPVS\nworker_defs {\n", Some(Format::Keepalived)),
            (
                "#!/bin/sh\ndpip addr add 198.51.100.1/32 dev dpdk1\n",
                Some(Format::Ipvsadm),
            ),
            ("[[service]]\nprotocol = \"tcp\"\n", None),
            ("", None),
        ] {
            assert_eq!(Format::of(text), format, "{text}");
        }
    }
}
