//! From text to lines as the parser of keepalived sees them: comments gone, conditions decided, parameters put in, sequences
//! written out, other files included.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::draft::Draft;
use super::super::note::Place;

/// Lines after all is written out, and steps on the way there: what is more was not meant.
const LINES_MAX: usize = 200_000;
const STEPS_MAX: usize = 500_000;
const LINE_BYTES_MAX: usize = 8192;
/// Parameters in parameters, sequences in sequences, files in files.
const DEPTH_MAX: usize = 40;
/// Parameters put into one line.
const PARAMETERS_MAX: usize = 1000;

/// A line with all put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it was written.
    pub place: Place,
    /// Its text, without comments and blanks around it.
    pub text: String,
}

/// A file that another one includes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncludedFile {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Where included files come from.
pub trait Files {
    /// The files that a pattern in a file means; relative to the directory of that file.
    ///
    /// # Errors
    /// Why there are none, in words.
    fn matching(&self, pattern: &str, from: &str) -> Result<Vec<IncludedFile>, String>;
}

/// Writes lines out.
pub struct Lines<'a> {
    config_id: &'a str,
    files: &'a dyn Files,
    draft: &'a mut Draft,
    parameters: BTreeMap<String, Vec<String>>,
    out: Vec<Line>,
    steps: usize,
    depth: usize,
    is_too_much: bool,
}

impl<'a> Lines<'a> {
    /// For a machine of that name, as `keepalived --config-id` has it.
    pub fn new(config_id: &'a str, files: &'a dyn Files, draft: &'a mut Draft) -> Self {
        Self {
            config_id,
            files,
            draft,
            parameters: BTreeMap::new(),
            out: Vec::new(),
            steps: 0,
            depth: 0,
            is_too_much: false,
        }
    }

    /// All lines.
    pub fn finish(self) -> Vec<Line> {
        self.out
    }

    /// The lines of a file.
    pub fn add_file(&mut self, file: &Arc<str>, text: &str) {
        let directory = file
            .rsplit_once('/')
            .map_or(".", |(directory, _)| directory);
        let outer = self
            .parameters
            .insert("_PWD".to_owned(), vec![directory.to_owned()]);
        for (name, value) in [
            ("_HASH", "#"),
            ("_BANG", "!"),
            ("_INSTANCE", self.config_id),
        ] {
            self.parameters
                .insert(name.to_owned(), vec![value.to_owned()]);
        }
        let mut rest = text.lines().enumerate();
        while let Some((index, line)) = rest.next() {
            let place = Place::new(file, index + 1);
            let line = without_comment(line).trim();
            let Some((name, value)) = definition(self.condition(&place, line).unwrap_or_default())
            else {
                self.add(&place, line);
                continue;
            };
            let mut values = vec![value.trim_end_matches('\\').trim().to_owned()];
            let mut goes_on = value.ends_with('\\');
            while goes_on {
                let Some((_, line)) = rest.next() else { break };
                let line = without_comment(line).trim();
                goes_on = line.ends_with('\\');
                values.push(line.trim_end_matches('\\').trim().to_owned());
            }
            // Nothing may stand behind the `=` of a value of several lines.
            if values.len() > 1 && values.first().is_some_and(String::is_empty) {
                values.remove(0);
            }
            self.parameters.insert(name.to_owned(), values);
        }
        if let Some(outer) = outer {
            self.parameters.insert("_PWD".to_owned(), outer);
        }
    }

    fn add(&mut self, place: &Place, text: &str) {
        self.depth += 1;
        if self.depth <= DEPTH_MAX {
            self.add_one(place, text);
        } else {
            self.give_up(place);
        }
        self.depth -= 1;
    }

    fn add_one(&mut self, place: &Place, text: &str) {
        let mut text = text.trim().to_owned();
        // A parameter that is one line leaves a line, in which the next one is put in.
        for _ in 0..PARAMETERS_MAX {
            self.steps += 1;
            let is_too_much = self.steps > STEPS_MAX
                || self.out.len() >= LINES_MAX
                || text.len() > LINE_BYTES_MAX;
            if is_too_much {
                return self.give_up(place);
            }
            let Some(wanted) = self.condition(place, &text) else {
                return;
            };
            if let Some((name, value)) = definition(wanted) {
                self.parameters
                    .insert(name.to_owned(), vec![value.to_owned()]);
                return;
            }
            if wanted.starts_with("~SEQ") || wanted.starts_with("~LST") {
                return self.repeat(place, wanted);
            }
            let Some(mut lines) = self.substituted(wanted) else {
                if let Some(pattern) = included(wanted) {
                    self.include(place, pattern);
                } else if !wanted.is_empty() {
                    let text = wanted.to_owned();
                    let place = place.clone();
                    self.out.push(Line { place, text });
                }
                return;
            };
            if lines.len() != 1 {
                for line in lines {
                    self.add(place, &line);
                }
                return;
            }
            text = lines.remove(0).trim().to_owned();
        }
        self.give_up(place);
    }

    fn give_up(&mut self, place: &Place) {
        if self.is_too_much {
            return;
        }
        self.is_too_much = true;
        let text = format!(
            "what is written out here, of parameters, sequences and included files, comes to more than {LINES_MAX} lines, \
             {LINE_BYTES_MAX} bytes a line or {DEPTH_MAX} levels: the rest is left out"
        );
        self.draft.note(place, text);
    }

    /// What stands behind `@NAME` if it is for this machine; all of a line without a condition.
    fn condition<'t>(&mut self, place: &Place, text: &'t str) -> Option<&'t str> {
        let Some(rest) = text.strip_prefix('@') else {
            return Some(text);
        };
        let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let (name, wanted) = match name.strip_prefix('^') {
            Some(name) => (name, false),
            None => (name, true),
        };
        if (name == self.config_id) == wanted {
            return Some(rest.trim());
        }
        let text = format!(
            "@{}{name}: this line is for another machine than \"{}\" and left out; --config-id NAME imports for NAME",
            if wanted { "" } else { "^" },
            self.config_id
        );
        self.draft.note(place, text);
        None
    }

    /// The lines that a line with a parameter is, or none when it has none that is known.
    fn substituted(&self, text: &str) -> Option<Vec<String>> {
        let mut from = 0;
        while let Some(found) = text.get(from..)?.find('$') {
            let start = from + found;
            from = start + 1;
            let rest = text.get(from..)?;
            let (name, end) = match rest.strip_prefix('{') {
                Some(inner) => {
                    let length = inner.find('}')?;
                    (inner.get(..length)?, from + length + 2)
                }
                None => {
                    let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
                    (rest.get(..length)?, from + length)
                }
            };
            let Some(values) = self.parameters.get(name) else {
                continue;
            };
            let (before, behind) = (text.get(..start)?, text.get(end..)?);
            let mut lines = values.clone();
            if let Some(first) = lines.first_mut() {
                first.insert_str(0, before);
            }
            if let Some(last) = lines.last_mut() {
                last.push_str(behind);
            }
            return Some(lines);
        }
        None
    }

    /// `~SEQ(VARIABLE, START, STEP, END) REST`, `~SEQx(...)` in hexadecimal, `~LST(VARIABLE, VALUE, ...) REST`.
    fn repeat(&mut self, place: &Place, text: &str) {
        let parts = text.split_once('(').and_then(|(kind, rest)| {
            rest.split_once(')')
                .map(|(inner, rest)| (kind, inner, rest))
        });
        let Some((kind, inner, rest)) = parts else {
            let text = format!(
                "\"{text}\": write ~SEQ(VARIABLE, START, STEP, END) or ~LST(VARIABLE, VALUE, ...); left out"
            );
            return self.draft.note(place, text);
        };
        let repeated = match kind {
            "~SEQ" => sequence(inner, false),
            "~SEQx" => sequence(inner, true),
            "~LST" => list(inner),
            _ => None,
        };
        let Some((names, values)) = repeated else {
            let text = format!("\"{kind}({inner})\" is no sequence: left out");
            return self.draft.note(place, text);
        };
        for row in values {
            for (name, value) in names.iter().zip(row) {
                self.parameters.insert(name.clone(), vec![value]);
            }
            if self.is_too_much {
                break;
            }
            self.add(place, rest);
        }
        for name in &names {
            self.parameters.remove(name);
        }
    }

    fn include(&mut self, place: &Place, pattern: &str) {
        let pattern = pattern.trim_matches(['"', '\'']);
        match self.files.matching(pattern, &place.file) {
            Ok(files) => {
                for IncludedFile { name, text } in files {
                    let file: Arc<str> = name.into();
                    self.depth += 1;
                    if self.depth <= DEPTH_MAX {
                        self.add_file(&file, &text);
                    } else {
                        let text = "files include each other without end: this one is left out";
                        self.draft.note(place, text);
                    }
                    self.depth -= 1;
                }
            }
            Err(why) => self.draft.note(place, format!("include {pattern}: {why}")),
        }
    }
}

/// A line up to `#` or `!`, unless these are in quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut escaped = false;
    for (index, letter) in line.char_indices() {
        match (quote, letter) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => {}
            // One that is not closed in its line is an apostrophe.
            (None, '"' | '\'') => {
                let rest = line.get(index + 1..).unwrap_or_default();
                quote = rest.contains(letter).then_some(letter);
            }
            (None, '#' | '!') => return line.get(..index).unwrap_or_default(),
            (None, _) => {}
        }
    }
    line
}

/// Whether it is an include, or gives a parameter a value.
pub fn is_not_of_a_block(line: &str) -> bool {
    definition(line).is_some() || included(line).is_some()
}

/// `$NAME=VALUE`.
fn definition(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('$')?.split_once('=')?;
    let is_name = !name.is_empty()
        && !name.starts_with(|letter: char| letter.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    is_name.then_some((name, value.trim_start()))
}

fn included(line: &str) -> Option<&str> {
    let (word, pattern) = line.split_once(char::is_whitespace)?;
    let is_include = matches!(
        word,
        "include" | "includer" | "includem" | "includew" | "includeb" | "includea"
    );
    is_include.then_some(pattern.trim())
}

/// Names of variables, and a row of their values for each repetition.
type Repetition = (Vec<String>, Vec<Vec<String>>);

fn sequence(inner: &str, hexadecimal: bool) -> Option<Repetition> {
    let mut parts = inner.split(',').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let numbers: Option<Vec<i64>> = parts.map(number).collect();
    let (start, step, end) = match numbers?.as_slice() {
        [end] => (if *end > 0 { 1 } else { -1 }, None, *end),
        [start, end] => (*start, None, *end),
        [start, step, end] => (*start, Some(*step), *end),
        _ => return None,
    };
    let step = step.unwrap_or(if end >= start { 1 } else { -1 });
    if step == 0 {
        return None;
    }
    let mut values = Vec::new();
    let mut value = start;
    while (step > 0 && value <= end) || (step < 0 && value >= end) {
        values.push(vec![if hexadecimal {
            format!("{value:x}")
        } else {
            value.to_string()
        }]);
        if values.len() > LINES_MAX {
            return None;
        }
        value = value.checked_add(step)?;
    }
    Some((vec![name.to_owned()], values))
}

fn number(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn list(inner: &str) -> Option<Repetition> {
    let mut groups = Vec::new();
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let (group, behind) = match rest.strip_prefix('{') {
            Some(in_braces) => {
                let (group, behind) = in_braces.split_once('}')?;
                let group: Vec<String> = group
                    .split(',')
                    .map(|part| part.trim().to_owned())
                    .collect();
                (group, behind)
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (vec![rest.get(..end)?.trim().to_owned()], rest.get(end..)?)
            }
        };
        groups.push(group);
        rest = behind.trim_start().trim_start_matches(',').trim_start();
    }
    let names = (!groups.is_empty()).then(|| groups.remove(0))?;
    let is_whole = groups.iter().all(|group| group.len() == names.len());
    is_whole.then_some((names, groups))
}
