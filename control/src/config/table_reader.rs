//! Reads the keys of one TOML table with their places, and notices the keys nobody asked for.
//!
//! serde stops at the first error; a person mending a file wants all of them. So the tables are read by hand: every
//! method here returns what it could read and puts what it could not on the list.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Located, Place, ProblemList, TablePath};

/// Of tables of so many keys at most, each key is compared: quicker than to hash the one that is wanted.
const COMPARED: usize = 8;

/// A reader of one table.
#[derive(Debug)]
pub struct TableReader<'a> {
    table: &'a DeTable<'a>,
    place: Place,
    problems: &'a ProblemList,
    /// Every key the schema has here, by having been asked for; some more than once.
    known: RefCell<Vec<&'static str>>,
}

impl<'a> TableReader<'a> {
    /// A reader of the whole file.
    pub fn root(table: &'a DeTable<'a>, problems: &'a ProblemList) -> Self {
        let place = Place {
            line: 1,
            ..Place::default()
        };
        Self::new(table, place, problems)
    }

    fn new(table: &'a DeTable<'a>, place: Place, problems: &'a ProblemList) -> Self {
        Self {
            table,
            place,
            problems,
            known: RefCell::default(),
        }
    }

    /// Where the table starts.
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// Where the key's value is; the table, when the key is not there.
    pub fn place_of(&self, key: &'static str) -> Place {
        self.value(key)
            .map_or_else(|| self.place(), |found| found.place)
    }

    /// Whether the key is there, with whatever value.
    pub fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    fn find(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        if self.table.len() > COMPARED {
            return self.table.get(key);
        }
        let mut all = self.table.iter();
        let (_, value) = all.find(|(found, _)| found.get_ref() == key)?;
        Some(value)
    }

    fn value(&self, key: &'static str) -> Option<Located<&'a DeValue<'a>>> {
        self.ignore(key);
        let value = self.find(key)?;
        Some(Located {
            value: value.get_ref(),
            place: Place {
                line: self.problems.line_of(&value.span()),
                table: self.place.table.clone(),
                key,
            },
        })
    }

    /// What is in a list, from 0.
    fn element(
        &self,
        list: &Place,
        index: usize,
        value: &'a Spanned<DeValue<'a>>,
    ) -> Located<&'a DeValue<'a>> {
        Located {
            value: value.get_ref(),
            place: Place {
                line: self.problems.line_of(&value.span()),
                ..list.inside(Some(index))
            },
        }
    }

    fn wrong_type(&self, found: &Located<&DeValue<'_>>, wanted: &str) {
        let name = found.value.type_str();
        let article = if name.starts_with(['a', 'i']) {
            "an"
        } else {
            "a"
        };
        let message = format!("{article} {name} stands here: write {wanted}");
        self.problems.add(&found.place, message);
    }

    /// A string.
    pub fn text(&self, key: &'static str, example: &str) -> Option<Located<String>> {
        let Located { value, place } = self.string(key, example)?;
        Some(Located {
            value: value.to_owned(),
            place,
        })
    }

    fn string(&self, key: &'static str, example: &str) -> Option<Located<&'a str>> {
        let found = self.value(key)?;
        let Some(value) = found.value.as_str() else {
            self.wrong_type(&found, &format!("a string as in {key} = \"{example}\""));
            return None;
        };
        Some(Located {
            value,
            place: found.place,
        })
    }

    /// A string that a type can read; its own error text is the message.
    pub fn parsed<T>(&self, key: &'static str, example: &str) -> Option<Located<T>>
    where
        T: FromStr<Err: Display>,
    {
        let Located { value, place } = self.string(key, example)?;
        match value.parse() {
            Ok(value) => Some(Located { value, place }),
            Err(error) => {
                self.problems.add(&place, error);
                None
            }
        }
    }

    /// An array of strings that a type can read one by one. One bad element makes all of it unread.
    pub fn all_parsed<T>(&self, key: &'static str, example: &str) -> Option<Located<Vec<T>>>
    where
        T: FromStr<Err: Display>,
    {
        let found = self.value(key)?;
        let Some(array) = found.value.as_array() else {
            self.wrong_type(&found, &format!("a list as in {key} = [\"{example}\"]"));
            return None;
        };
        let elements = array.iter().enumerate().map(|(index, element)| {
            let element = self.element(&found.place, index, element);
            let Some(text) = element.value.as_str() else {
                self.wrong_type(&element, &format!("a string as in \"{example}\""));
                return None;
            };
            let parsed = text.parse();
            parsed
                .map_err(|error: T::Err| self.problems.add(&element.place, error))
                .ok()
        });
        // All elements are looked at before the first failure is taken, so that each one's problem is listed.
        let elements: Vec<Option<T>> = elements.collect();
        Some(Located {
            value: elements.into_iter().collect::<Option<Vec<T>>>()?,
            place: found.place,
        })
    }

    /// A string, or a list of them.
    pub fn one_or_more(&self, key: &'static str, example: &str) -> Option<Located<Vec<String>>> {
        if self.value(key)?.value.is_array() {
            return self.all_parsed(key, example);
        }
        let Located { value, place } = self.text(key, example)?;
        Some(Located {
            value: vec![value],
            place,
        })
    }

    /// One of some words.
    pub fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<Located<T>> {
        let example = words.first().map_or("", |(word, _)| word);
        let Located { value, place } = self.string(key, example)?;
        let known = words.iter().find(|(word, _)| *word == value);
        if known.is_none() {
            let list: Vec<String> = words
                .iter()
                .map(|(word, _)| format!("\"{word}\""))
                .collect();
            let list = list.join(", ");
            let message = format!("unknown {key} \"{value}\": known are {list}");
            self.problems.add(&place, message);
        }
        known.map(|(_, value)| Located {
            value: *value,
            place,
        })
    }

    /// `true`, `false` or nothing when it is no boolean; says nothing about other types.
    pub fn switch(&self, key: &'static str) -> Option<bool> {
        self.value(key)?.value.as_bool()
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &'static str) -> Option<Located<bool>> {
        let found = self.value(key)?;
        let Some(value) = found.value.as_bool() else {
            self.wrong_type(&found, "true or false");
            return None;
        };
        Some(Located {
            value,
            place: found.place,
        })
    }

    /// A whole number in a range.
    pub fn number<T>(&self, key: &'static str, range: RangeInclusive<T>) -> Option<Located<T>>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let found = self.value(key)?;
        let value = self.number_in(&found, key, &range)?;
        Some(Located {
            value,
            place: found.place,
        })
    }

    fn number_in<T>(
        &self,
        found: &Located<&DeValue<'_>>,
        what: &str,
        range: &RangeInclusive<T>,
    ) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let wanted = || format!("a number from {} to {}", range.start(), range.end());
        let Some(integer) = found.value.as_integer() else {
            self.wrong_type(found, &wanted());
            return None;
        };
        let value = i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number));
        if value.is_none() {
            let message = format!(
                "{what} {} out of range: write {}",
                integer.as_str(),
                wanted()
            );
            self.problems.add(&found.place, message);
        }
        value
    }

    /// An array of whole numbers in a range. One bad element makes all of it unread.
    pub fn numbers<T>(&self, key: &'static str, range: RangeInclusive<T>) -> Option<Located<Vec<T>>>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let found = self.value(key)?;
        let Some(array) = found.value.as_array() else {
            self.wrong_type(&found, &format!("a list as in {key} = [1, 2]"));
            return None;
        };
        let elements = array.iter().enumerate().map(|(index, element)| {
            let element = self.element(&found.place, index, element);
            self.number_in(&element, key, &range)
        });
        // All elements are looked at before the first failure is taken, so that each one's problem is listed.
        let elements: Vec<Option<T>> = elements.collect();
        Some(Located {
            value: elements.into_iter().collect::<Option<Vec<T>>>()?,
            place: found.place,
        })
    }

    /// `[key]`.
    pub fn table(&self, key: &'static str) -> Option<TableReader<'a>> {
        let found = self.value(key)?;
        let Some(table) = found.value.as_table() else {
            self.wrong_type(&found, &format!("a table, [{}]", found.place.path()));
            return None;
        };
        Some(Self::new(table, found.place.inside(None), self.problems))
    }

    /// `[[key]]`, as often as it is there.
    pub fn tables(&self, key: &'static str) -> Vec<TableReader<'a>> {
        let Some(found) = self.value(key) else {
            return Vec::new();
        };
        let header = || self.without_indices(&found.place.path());
        let Some(array) = found.value.as_array() else {
            self.wrong_type(
                &found,
                &format!("[[{}]] with two brackets on each side", header()),
            );
            return Vec::new();
        };
        let tables = array.iter().enumerate().filter_map(|(index, element)| {
            let element = self.element(&found.place, index, element);
            let Some(table) = element.value.as_table() else {
                self.wrong_type(&element, &format!("a table, [[{}]]", header()));
                return None;
            };
            Some(Self::new(table, element.place, self.problems))
        });
        tables.collect()
    }

    /// `service[1].server` as it is written in the file's headers: `service.server`.
    fn without_indices(&self, path: &str) -> String {
        path.split('.')
            .map(|part| part.split('[').next().unwrap_or(part))
            .collect::<Vec<_>>()
            .join(".")
    }

    /// Puts a missing key on the list.
    pub fn require<T>(
        &self,
        value: Option<Located<T>>,
        key: &'static str,
        example: &str,
    ) -> Option<Located<T>> {
        if !self.has(key) {
            let message = format!("{key} is missing: write {key} = \"{example}\"");
            self.problems.add(&self.place, message);
        }
        value
    }

    /// A key that is known and read elsewhere.
    pub fn ignore(&self, key: &'static str) {
        self.known.borrow_mut().push(key);
    }

    /// Puts the keys nobody asked for on the list. To be called last.
    pub fn finish(self) {
        let known = self.known.borrow();
        for (key, _) in self.table {
            if known.contains(&key.get_ref().as_ref()) {
                continue;
            }
            let path = TablePath {
                parent: self.place.table.clone(),
                key: Cow::Owned(key.get_ref().clone().into_owned()),
                index: None,
            };
            let place = Place {
                line: self.problems.line_of(&key.span()),
                table: Some(Rc::new(path)),
                key: "",
            };
            let list: BTreeSet<&str> = known.iter().copied().collect();
            let list: Vec<&str> = list.into_iter().collect();
            let message = format!("unknown key: known here are {}", list.join(", "));
            self.problems.add(&place, message);
        }
    }
}
