//! Names and numbers of local users and groups, from `/etc/passwd` and `/etc/group`.
//!
//! Accounts from elsewhere (LDAP) are not known here; their numbers work everywhere a name does.

use std::fs;

/// The number of a group given by name or number.
pub fn group_id(group: &str) -> Option<u32> {
    group
        .parse()
        .ok()
        .or_else(|| id_of(&fs::read_to_string("/etc/group").ok()?, group))
}

/// A group's name, or its number when it has none here.
pub fn group_name(id: u32) -> String {
    name_or_number("/etc/group", id)
}

/// A user's name, or its number when it has none here.
pub fn user_name(id: u32) -> String {
    name_or_number("/etc/passwd", id)
}

fn name_or_number(file: &str, id: u32) -> String {
    fs::read_to_string(file)
        .ok()
        .and_then(|text| name_of(&text, id))
        .unwrap_or_else(|| id.to_string())
}

/// Both files have the name in the first field and the number in the third.
fn fields(text: &str) -> impl Iterator<Item = (&str, u32)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id = fields.nth(1)?.parse().ok()?;
        Some((name, id))
    })
}

fn id_of(text: &str, wanted: &str) -> Option<u32> {
    fields(text)
        .find(|(name, _)| *name == wanted)
        .map(|(_, id)| id)
}

fn name_of(text: &str, wanted: u32) -> Option<String> {
    fields(text)
        .find(|(_, id)| *id == wanted)
        .map(|(name, _)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str = "root:x:0:\nbroken\npollux:x:998:anna,ben\n";

    #[test]
    fn names_and_numbers_both_ways() {
        assert_eq!(id_of(GROUPS, "pollux"), Some(998));
        assert_eq!(id_of(GROUPS, "nobody"), None);
        assert_eq!(name_of(GROUPS, 998).as_deref(), Some("pollux"));
        assert_eq!(name_of(GROUPS, 7), None);
    }

    #[test]
    fn a_number_is_a_group_too() {
        assert_eq!(group_id("12345"), Some(12345));
    }
}
